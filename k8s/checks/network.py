"""What the network policies of an overlay let through, and what its configuration needs."""

import re
from urllib.parse import urlsplit

from rendered import SERVICES


def selects(selector, labels):
    """Whether a label selector takes these labels."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] == "Exists":
            matches = rule["key"] in labels
        else:
            assert rule["operator"] == "In", rule
            matches = labels.get(rule["key"]) in rule["values"]
        if not matches:
            return False
    return True


def peers(overlay, rule):
    """The other ends of a rule: pods of ours by name, everybody else by how they are described."""
    for peer in rule:
        if "ipBlock" in peer:
            yield peer["ipBlock"]["cidr"]
        elif "namespaceSelector" in peer:
            namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            yield f"{namespace}/{next(iter(peer['podSelector']['matchLabels'].values()))}"
        else:
            yield from (name for name, (labels, _) in overlay.pods().items() if selects(peer["podSelector"], labels))


def number(spec, port):
    """A port of a pod by its number."""
    named = {p["name"]: p["containerPort"] for c in spec["containers"] for p in c.get("ports", [])}
    return named.get(port, port)


def openings(overlay):
    """Two sets of (from, to, port): what is let out and what is let in."""
    out, into = set(), set()
    for policy in overlay.of_kind("NetworkPolicy"):
        spec = policy["spec"]
        chosen = {name: pod for name, pod in overlay.pods().items() if selects(spec["podSelector"], pod[0])}
        assert chosen, f"{policy['metadata']['name']} is about no pod"
        for name, (_, pod) in chosen.items():
            for rule in spec.get("egress", []):
                out |= {(name, to, port["port"]) for to in peers(overlay, rule["to"]) for port in rule["ports"]}
            for rule in spec.get("ingress", []):
                into |= {(o, name, number(pod, p["port"])) for o in peers(overlay, rule["from"]) for p in rule["ports"]}
    return out, into


def resolve(overlay, host):
    """The pods behind a host name; of another namespace `namespace/name`."""
    services = {s["metadata"]["name"]: s for s in overlay.of_kind("Service")}
    # `service`, `pod.service`, or `service.namespace`
    first, _, second = host.partition(".")
    name = second if second in services else first
    if name in services:
        selector = {"matchLabels": services[name]["spec"]["selector"]}
        return [pod for pod, (labels, _) in overlay.pods().items() if selects(selector, labels)]
    if second:
        return [f"{second}/{first}"]
    # The service of a Cluster is made by the operator of PostgreSQL.
    return [overlay.get("Cluster", host.removesuffix("-rw"))["metadata"]["name"]]


def dependencies(overlay):
    """The set of (from, to, port) that the addresses in the environment of our containers name."""
    needed = set()
    for name, _, container in overlay.containers():
        for variable, value in overlay.environment(container).items():
            for address in re.findall(r"\w+://[^\s,\]]+", value or ""):
                url = urlsplit(address)
                needed |= {(name, to, url.port) for to in resolve(overlay, url.hostname)}
            if value is None and variable == "SMTP_URL":
                needed.add((name, "192.0.2.25/32", 587))
    return needed


def infrastructure(overlay):
    """What no address names: names are resolved, metrics are scraped, outsiders ask, databases are looked after."""
    out = {(name, "kube-system/kube-dns", 53) for name in overlay.pods()}
    into = set()
    if overlay.name == "production":
        ports = {s: overlay.get("Deployment", s)["spec"]["template"]["spec"] for s in SERVICES}
        into |= {("monitoring/prometheus", s, number(pod, "admin")) for s, pod in ports.items()}
        for rule in overlay.get("Ingress", "shop")["spec"]["rules"]:
            backends = [path["backend"]["service"]["name"] for path in rule["http"]["paths"]]
            into |= {("ingress-nginx/ingress-nginx", s, number(ports[s], "http")) for s in backends}
        databases = [cluster["metadata"]["name"] for cluster in overlay.of_kind("Cluster")]
        among = {(a, b, port) for a in databases for b in databases for port in (5432, 8000)}
        out |= among | {(name, "192.0.2.6/32", port) for name in databases for port in (443, 6443)}
        into |= among | {("cnpg-system/cloudnative-pg", name, port) for name in databases for port in (5432, 8000)}
    return out, into

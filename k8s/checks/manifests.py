"""The manifests say what the code says: run by `k8s/validate`, needs kubectl and PyYAML, no cluster."""

import re
import sys
import unittest

import network
from rendered import SERVICES, Overlay, source

OVERLAYS = [Overlay("kind"), Overlay("production")]
KIND, PRODUCTION = OVERLAYS
# Read by libraries, not by us: telemetry's `start` documents the first two, sqlx reads the third, glibc the last.
STANDARD = re.compile(r"RUST_LOG|OTEL_\w+|PGSSL(MODE|ROOTCERT)|MALLOC_ARENA_MAX")


def ports():
    """The table of the launcher: service to port."""
    table = re.findall(r"= (\w+) on (\d+),", source("xtask/src/shop/service.rs"))
    return {service: int(port) for service, port in table}


def variables(*paths):
    """What these sources read with clap: name to whether it must be there."""
    known = {}
    for path in paths:
        for arguments, field in re.findall(r"#\[arg\((.*?)\)\]\s*(?:pub )?\w+: ([^\n]+),", source(path), re.DOTALL):
            if name := re.search(r'env = "(\w+)"', arguments):
                known[name[1]] = "default_value" not in arguments and not field.startswith("Option")
    return known


def of_service(service):
    return variables("shared/chassis/src/config.rs", f"services/{service}/src/config.rs")


def constant(path, name):
    """A number in a source."""
    return int(re.search(rf"{name}\D*?= \D*?(\d[\d_]*)", source(path))[1].replace("_", ""))


class Manifests(unittest.TestCase):
    def every_service_of_the_code_is_deployed_at_its_ports(self):
        self.assertEqual(set(ports()), set(SERVICES))
        for overlay in OVERLAYS:
            for service, port in ports().items():
                container = overlay.get("Deployment", service)["spec"]["template"]["spec"]["containers"][0]
                listens = {p["name"]: p["containerPort"] for p in container["ports"]}
                self.assertEqual(listens, {"http": port, "admin": port + 1000}, service)
                environment = overlay.environment(container)
                self.assertEqual(environment["HTTP_ADDR"], f"0.0.0.0:{port}")
                self.assertEqual(environment["ADMIN_ADDR"], f"0.0.0.0:{port + 1000}")
                offered = {p["name"]: p["port"] for p in overlay.get("Service", service)["spec"]["ports"]}
                self.assertEqual(offered, listens, service)

    def a_service_is_told_what_it_must_know_and_nothing_that_it_does_not_know(self):
        for overlay in OVERLAYS:
            for service in SERVICES:
                container = overlay.get("Deployment", service)["spec"]["template"]["spec"]["containers"][0]
                told = set(overlay.environment(container))
                parts = {n for v in container["env"] for n in re.findall(r"\$\((\w+)\)", v.get("value", ""))}
                known = of_service(service)
                strange = {name for name in told - parts - set(known) if not STANDARD.fullmatch(name)}
                self.assertFalse(strange, service)
                self.assertFalse({name for name, needed in known.items() if needed} - told, service)

    def a_one_shot_is_told_what_the_operators_tool_reads(self):
        commands = "".join(source(f"xtask/src/{path}") for path in ("commands.rs", "shop/migrate.rs", "shop/service.rs"))
        commands += source("xtask/src/commands/migrate.rs") + source("xtask/src/commands/seed.rs")
        for overlay in OVERLAYS:
            for name, labels, container in overlay.containers():
                if labels["app.kubernetes.io/component"] != "one-shot":
                    continue
                self.assertRegex(commands, rf"\b(?i:{container['args'][0]})\b", name)
                for variable in container["env"]:
                    if variable["name"].endswith("PASSWORD"):
                        continue
                    suffix = re.sub(r"^[A-Z]+(?=_OWNER_DATABASE_URL$)", "", variable["name"])
                    self.assertRegex(commands, rf"\b{suffix}\b", name)

    def everybody_is_at_the_broker_and_at_the_database_who_he_should_be(self):
        accounts = source("deploy/nats/accounts.conf")
        for overlay in OVERLAYS:
            for name, _, container in overlay.containers():
                environment = overlay.environment(container)
                user = "provisioner" if name == "provision" else name
                if url := environment.get("NATS_URL"):
                    self.assertTrue(url.startswith(f"nats://{user}:"), name)
                    self.assertRegex(accounts, rf"user: {user}, password: \$NATS_{user.upper()}_PASSWORD")
                if url := environment.get("DATABASE_URL"):
                    database = rf"postgres://shop_{name}_app:[\w-]+@{name}-database-rw:5432/shop_{name}"
                    self.assertRegex(url, rf"^{database}$")

    def the_broker_finds_every_password_that_its_accounts_need(self):
        needed = set(re.findall(r"\$(NATS_\w+)", source("deploy/nats/accounts.conf")))
        broker = KIND.get("StatefulSet", "nats")["spec"]["template"]["spec"]["containers"][0]
        given = KIND.data("Secret", broker["envFrom"][0]["secretRef"]["name"])
        self.assertEqual(set(given), needed | {"NATS_CLUSTER_PASSWORD"})
        for name, value in given.items():
            # nats-server reads them as a part of its configuration.
            self.assertRegex(value, r"^[a-z][a-z0-9]*$", name)

    def secrets_that_production_expects_are_on_its_page(self):
        page = source("docs/kubernetes.md")
        for name, _, container in PRODUCTION.containers():
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    general = re.sub(r"^\w+-database-", "<service>-database-", reference["name"])
                    self.assertTrue(f"`{general}`" in page, f"{name}: {general}")

    def whatever_is_let_out_is_let_in_and_is_needed(self):
        for overlay in OVERLAYS:
            pods = set(overlay.pods())
            out, into = network.openings(overlay)
            needed = network.dependencies(overlay)
            let_out, let_in = network.infrastructure(overlay)
            self.assertEqual(out, needed | let_out, overlay.name)
            self.assertEqual(into, {edge for edge in needed if edge[1] in pods} | let_in, overlay.name)

    def nobody_talks_unless_it_is_allowed(self):
        for overlay in OVERLAYS:
            deny = overlay.get("NetworkPolicy", "default-deny")["spec"]
            self.assertEqual(deny, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})

    def a_pod_is_given_the_time_that_its_service_takes_to_end(self):
        drains = constant("shared/chassis/src/service.rs", "DRAIN_WITHIN")
        for overlay in OVERLAYS:
            for service in SERVICES:
                pod = overlay.get("Deployment", service)["spec"]["template"]["spec"]
                grace = int(overlay.environment(pod["containers"][0])["DRAIN_GRACE_MS"]) / 1000
                # Operators and the collector are given six seconds more.
                self.assertGreater(pod["terminationGracePeriodSeconds"], grace + drains + 6, service)

    def probes_ask_what_services_answer(self):
        routes = source("shared/chassis/src/admin.rs")
        for service in SERVICES:
            container = KIND.get("Deployment", service)["spec"]["template"]["spec"]["containers"][0]
            probes = ("startupProbe", "readinessProbe", "livenessProbe")
            asked = {probe: container[probe]["httpGet"] for probe in probes}
            for request in asked.values():
                self.assertEqual(request["port"], "admin")
                self.assertIn(f'.route("{request["path"]}"', routes)
            self.assertEqual(asked["livenessProbe"]["path"], "/livez")
            self.assertEqual(asked["readinessProbe"]["path"], "/readyz")

    def streams_fit_into_the_broker_and_the_broker_onto_its_disk(self):
        provision, server = source("shared/messaging/src/provision.rs"), source("deploy/nats/nats.conf")
        size, shift = re.search(r"max_bytes: (\d+) << (\d+)", provision.split("fn stream_config")[1]).groups()
        streams = int(re.search(r"const ALL: \[Self; (\d+)\]", source("shared/events/src/event.rs"))[1])
        store = int(re.search(r"max_file_store: (\d+)GB", server)[1]) * 10**9
        self.assertGreater(store, streams * (int(size) << int(shift)) + (64 << 20))
        claim = KIND.get("StatefulSet", "nats")["spec"]["volumeClaimTemplates"][0]["spec"]
        self.assertGreater(int(claim["resources"]["requests"]["storage"].removesuffix("Gi")) << 30, store)
        self.assertIn("sync_interval: always", server)

    def no_more_replicas_than_lanes_nor_than_the_database_has_connections_for(self):
        lanes = constant("shared/messaging/src/outbox.rs", "LANES: i16")
        pool = constant("shared/chassis/src/config.rs", 'env = "DATABASE_CONNECTIONS", default_value_t')
        for scaled in PRODUCTION.of_kind("ScaledObject"):
            service, most = scaled["metadata"]["name"], scaled["spec"]["maxReplicaCount"]
            self.assertLessEqual(most, lanes, service)
            database = PRODUCTION.get("Cluster", f"{service}-database")["spec"]
            allowed = database["managed"]["roles"][0]["connectionLimit"]
            # Beside the pool, two of the relay and a handful for units of work; one replica more while a release rolls.
            self.assertLessEqual((most + 1) * (pool + 2 + 4), allowed, service)
            self.assertLess(allowed, int(database["postgresql"]["parameters"]["max_connections"]), service)

    def services_scale_by_a_metric_that_they_have(self):
        self.assertIn('"shop.consumer.lag"', source("shared/chassis/src/measures.rs"))
        scaled = {s["metadata"]["name"]: s for s in PRODUCTION.of_kind("ScaledObject")}
        self.assertEqual(set(scaled), set(SERVICES))
        for service, manifest in scaled.items():
            query = manifest["spec"]["triggers"][0]["metadata"]["query"]
            self.assertIn(f'shop_consumer_lag{{namespace="tidings", service="{service}"}}', query)
        self.assertFalse(PRODUCTION.of_kind("HorizontalPodAutoscaler"), "KEDA makes its own")

    def a_laptop_runs_the_brokers_databases_and_viewers_that_compose_runs(self):
        composed = set(re.findall(r"image: ([\w./-]+:[\w.-]+)\n", source("docker-compose.yml")))
        others = {container["image"] for _, _, container in KIND.containers() if "tidings/" not in container["image"]}
        self.assertEqual(others - composed, set())

    def production_runs_images_by_digest_and_no_sandbox(self):
        for name, _, container in PRODUCTION.containers():
            self.assertIn("@sha256:", container["image"], name)
            self.assertNotIn("sandbox", container["image"])
        self.assertFalse(PRODUCTION.of_kind("Secret"), "secrets of production come from outside")

    def production_keeps_every_database_and_stream_on_three_servers(self):
        for service in SERVICES:
            spec = PRODUCTION.get("Cluster", f"{service}-database")["spec"]
            self.assertEqual((spec["instances"], spec["postgresql"]["synchronous"]["number"]), (3, 1))
            self.assertEqual(spec["bootstrap"]["initdb"]["owner"], f"shop_{service}")
            self.assertEqual(spec["managed"]["roles"][0]["name"], f"shop_{service}_app")
        for overlay in OVERLAYS:
            self.assertEqual(overlay.get("StatefulSet", "nats")["spec"]["replicas"], 3)
            provision = overlay.get("Job", "provision")["spec"]["template"]["spec"]["containers"][0]
            self.assertEqual(overlay.environment(provision)["NATS_REPLICAS"], "3")


if __name__ == "__main__":
    sentences = [Manifests(name) for name in vars(Manifests) if not name.startswith("_")]
    outcome = unittest.TextTestRunner().run(unittest.TestSuite(sentences))
    sys.exit(not outcome.wasSuccessful())

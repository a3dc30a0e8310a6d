"""The overlays as `kubectl kustomize` renders them, and what several checks ask of them."""

import base64
import functools
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICES = ("order", "payment", "inventory", "warehouse", "email", "analytics")
WORKLOADS = ("Deployment", "StatefulSet", "Job")


@functools.cache
def render(folder):
    """Every object of a folder in k8s/."""
    command = ["kubectl", "kustomize", str(ROOT / "k8s" / folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def source(path):
    """A file of this repository."""
    return (ROOT / path).read_text()


class Overlay:
    """An overlay, looked at by name."""

    def __init__(self, name):
        self.name = name
        self.objects = render(f"overlays/{name}")

    def of_kind(self, *kinds):
        return [manifest for manifest in self.objects if manifest["kind"] in kinds]

    def get(self, kind, name):
        found = [m for m in self.of_kind(kind) if m["metadata"]["name"] == name]
        assert len(found) == 1, f"{self.name}: {len(found)} × {kind} {name}"
        return found[0]

    def pods(self):
        """Labels and specification of the pods of every workload, by its name."""
        pods = {}
        for workload in self.of_kind(*WORKLOADS):
            template = workload["spec"]["template"]
            pods[workload["metadata"]["name"]] = (template["metadata"]["labels"], template["spec"])
        # What the operator of PostgreSQL makes of a Cluster.
        for cluster in self.of_kind("Cluster"):
            name = cluster["metadata"]["name"]
            labels = {"cnpg.io/cluster": name, **cluster["spec"]["inheritedMetadata"]["labels"]}
            pods[name] = (labels, {"containers": []})
        return pods

    def environment(self, container):
        """Name to value; None where a secret that comes from outside has it."""
        values = {}
        for origin in container.get("envFrom", []):
            for kind, reference in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if reference in origin:
                    values |= self.data(kind, origin[reference]["name"]) or {}
        for variable in container.get("env", []):
            if "value" in variable:
                value = variable["value"]
                for name in re.findall(r"\$\((\w+)\)", value):
                    assert name in values, f"{container['image']}: {variable['name']} comes before {name}"
                    value = value.replace(f"$({name})", values[name] or "secret")
                values[variable["name"]] = value
            elif reference := variable["valueFrom"].get("secretKeyRef"):
                data = self.data("Secret", reference["name"])
                values[variable["name"]] = data and data[reference["key"]]
            else:
                values[variable["name"]] = "of-the-pod"
        return values

    def data(self, kind, name):
        """The values of a ConfigMap or Secret; None for a secret that this overlay does not make."""
        if kind == "Secret" and not any(m["metadata"]["name"] == name for m in self.of_kind(kind)):
            assert self.name == "production", f"nobody makes the secret {name}"
            return None
        manifest = self.get(kind, name)
        encoded = manifest.get("data", {})
        return {k: base64.b64decode(v).decode() for k, v in encoded.items()} if kind == "Secret" else encoded

    def containers(self):
        """Workload, pod labels and container, of all."""
        for name, (labels, spec) in self.pods().items():
            for container in spec["containers"]:
                yield name, labels, container

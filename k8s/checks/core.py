"""Prints the objects of a rendered file whose kinds are Kubernetes' own."""

import sys

import yaml

OWN = ("v1", "apps/", "autoscaling/", "batch/", "policy/", "networking.k8s.io/")


def main(path):
    with open(path, encoding="utf-8") as file:
        manifests = [manifest for manifest in yaml.safe_load_all(file) if manifest]
    yaml.safe_dump_all([m for m in manifests if m["apiVersion"].startswith(OWN)], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])

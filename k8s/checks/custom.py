"""Checks objects of other people's kinds against the definitions in a folder, and refuses fields they do not know."""

import pathlib
import sys

import jsonschema
import yaml

from rendered import Overlay


def closed(schema):
    """The same schema without room for unknown fields, as the API server's strict validation has it."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def definitions(folder):
    """Schemas by (apiVersion, kind)."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text()):
            if definition and definition["kind"] == "CustomResourceDefinition":
                spec = definition["spec"]
                for version in spec["versions"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    schema = closed(version["schema"]["openAPIV3Schema"])
                    schema["properties"]["metadata"] = {"type": "object"}
                    found[key] = jsonschema.Draft7Validator(schema)
    return found


def main(folder):
    known, checked, wrong = definitions(folder), 0, []
    groups = {version.split("/")[0] for version, _ in known}
    for overlay in (Overlay("kind"), Overlay("production")):
        for manifest in overlay.objects:
            version, kind = manifest["apiVersion"], manifest["kind"]
            if version.split("/")[0] not in groups:
                continue
            checked += 1
            name = f"{kind} {manifest['metadata']['name']}"
            for error in known[version, kind].iter_errors(manifest):
                wrong.append(f"{name}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}")
    print("\n".join(wrong) or f"{checked} objects of other people's kinds are as these define them")
    return bool(wrong) or not checked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

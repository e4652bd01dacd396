"""What a kubelet makes of a rendered workload: the sidecar's files, variables and arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

Object = dict[str, Any]
"""Of Kubernetes."""

DOWNWARD: Final = {
    "metadata.name": "worker-5d4f",
    "metadata.namespace": "shop",
    "metadata.uid": "8c1e63a4-0001",
    "spec.nodeName": "node-1",
    "status.hostIP": "127.0.0.1",
}
"""What the downward API says of the pod."""


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Name and pod template of each workload."""
    for one in objects:
        if "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]


def sidecar(template: Object) -> Object:
    found: Object = template["spec"]["initContainers"][0]
    assert found["name"] == "redspan"
    return found


def environment(container: Object, template: Object, secrets: Mapping[str, str]) -> dict[str, str]:
    """Its variables; ``secrets`` are what Secrets hold, as ``name/key``."""
    found: dict[str, str] = {}
    for variable in container["env"]:
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            found[variable["name"]] = _field(source["fieldRef"]["fieldPath"], template)
        elif "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            value = secrets.get(f"{reference['name']}/{reference['key']}")
            assert value is not None or reference["optional"]
            found |= {} if value is None else {variable["name"]: value}
        else:
            # Only what stands above can be named; else it stays as it is.
            found[variable["name"]] = _expanded(variable["value"], found)
    return found


def _expanded(text: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: known.get(match[1], match[0]), text)


def _field(path: str, template: Object) -> str:
    label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
    if label is None:
        return DOWNWARD[path]
    value: str = template["metadata"]["labels"].get(label[1], "")
    return value


def files(container: Object, template: Object, objects: list[Object]) -> dict[str, str]:
    """Contents by path, of the ConfigMaps that it mounts."""
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    volumes = {one["name"]: one for one in template["spec"].get("volumes", [])}
    return {
        f"{mount['mountPath']}/{name}": text
        for mount in container["volumeMounts"]
        for name, text in maps[volumes[mount["name"]]["configMap"]["name"]].items()
    }


def arguments(container: Object, files: Mapping[str, str], folder: Path) -> list[str]:
    """With the files that are mounted written into ``folder``, and their new paths in place of the old ones."""
    found = []
    for argument in container["args"]:
        if argument in files:
            place = folder / Path(argument).name
            place.write_text(files[argument])
            argument = str(place)  # noqa: PLW2901 - the same argument, elsewhere
        found.append(argument)
    return found

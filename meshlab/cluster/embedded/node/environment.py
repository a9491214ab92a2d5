"""A container's environment: `env`, `envFrom`, `$(NAME)`, and what kubelet adds. Pure.

Documented at https://kubernetes.io/docs/tasks/inject-data-application/.
"""

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from meshlab.errors import ClusterError

Object = dict[str, Any]
Fetch = Callable[[str, str], Object | None]
"""(resource, name) → the object of the pod's namespace, None where there is none."""

EXPANSION = re.compile(r"\$(\$|\([^)]*\))")
SUFFIXES = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip


class ConfigMissing(ClusterError):  # noqa: N818 - kubelet's reason is CreateContainerConfigError
    """Something that a container's configuration names is not there."""


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; `$$(NAME)` and names nobody defines stay as they are."""

    def replace(match: re.Match[str]) -> str:
        inner = match[1]
        if inner == "$":
            return "$"
        return values.get(inner[1:-1], match[0])

    return EXPANSION.sub(replace, text)


def field_value(pod: Object, path: str) -> str:
    """Return what a `fieldRef` names.

    Raises:
        ConfigMissing: not a field that may be named.
    """
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata.get(path.removeprefix("metadata."), ""))
        case "metadata.labels" | "metadata.annotations":
            entries = metadata.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f'{k}="{quote(v)}"' for k, v in sorted(entries.items()))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(spec.get(path.removeprefix("spec."), ""))
        case "status.podIP" | "status.hostIP":
            return str(status.get(path.removeprefix("status."), ""))
        case "status.podIPs" | "status.hostIPs":
            return ",".join(entry["ip"] for entry in status.get(path.removeprefix("status.")) or [])
        case _:
            raise ConfigMissing(f"fieldRef {path!r} names no field of a pod that may be read")


def quote(text: str) -> str:
    """Escape a value as the downward API's files do (Go's %q)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def quantity(text: str) -> float:
    """Return the number of a Kubernetes quantity (`250m`, `64Mi`)."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?\d+)?)([A-Za-z]*)", str(text))
    if not match or match[2] not in SUFFIXES:
        raise ConfigMissing(f"{text!r} is not a quantity")
    return float(match[1]) * SUFFIXES[match[2]]


def resource_value(container: Object, name: str, divisor: str, capacity: Mapping[str, str]) -> str:
    """Return what a `resourceFieldRef` names, rounded up; no limit means the node's capacity."""
    kind, _, resource = name.partition(".")
    resources = container.get("resources") or {}
    amount = (resources.get(kind) or {}).get(resource)
    if amount is None and kind == "limits":
        amount = capacity.get(resource)
    by = quantity(divisor) if divisor and divisor != "0" else 1
    return str(math.ceil(quantity(amount or "0") / by))


def config_value(fetch: Fetch, resource: str, reference: Object) -> str | None:
    """Return a key of a ConfigMap or Secret; None where it is optional and not there.

    Raises:
        ConfigMissing: it is not there.
    """
    kind = {"configmaps": "configmap", "secrets": "secret"}[resource]
    found = fetch(resource, reference["name"])
    value = None if found is None else data_of(found).get(reference["key"])
    if value is not None:
        return value.decode(errors="replace")
    if reference.get("optional"):
        return None
    if found is None:
        raise ConfigMissing(f'{kind} "{reference["name"]}" not found')
    raise ConfigMissing(
        f"couldn't find key {reference['key']} in {kind.replace('m', 'M').title()} "
        f"{found['metadata']['namespace']}/{reference['name']}"
    )


def data_of(obj: Object) -> dict[str, bytes]:
    """Return the keys and bytes of a ConfigMap or Secret."""
    decode = base64.b64decode if obj.get("kind") == "Secret" else str.encode
    values: dict[str, bytes] = {k: decode(v) for k, v in (obj.get("data") or {}).items()}
    for key, text in (obj.get("binaryData") or {}).items():
        values[key] = base64.b64decode(text)
    return values


def environment(
    pod: Object,
    container: Object,
    *,
    base: Mapping[str, str],
    fetch: Fetch,
    capacity: Mapping[str, str],
) -> dict[str, str]:
    """Return the variables of a container, on top of `base` (image, kubelet's own).

    Raises:
        ConfigMissing: a ConfigMap, Secret or key is not there.
    """
    values = dict(base)
    for source in container.get("envFrom") or []:
        values |= whole_object(source, fetch)
    for entry in container.get("env") or []:
        value = env_value(pod, container, entry, values, fetch, capacity)
        if value is not None:
            values[entry["name"]] = value
    return values


def whole_object(source: Object, fetch: Fetch) -> dict[str, str]:
    """Return all keys of one `envFrom` entry."""
    prefix = source.get("prefix") or ""
    pairs = (("configMapRef", "configmaps"), ("secretRef", "secrets"))
    for field, resource in pairs:
        if reference := source.get(field):
            found = fetch(resource, reference["name"])
            if found is None and not reference.get("optional"):
                raise ConfigMissing(f'{resource.removesuffix("s")} "{reference["name"]}" not found')
            data = data_of(found) if found else {}
            return {prefix + key: value.decode(errors="replace") for key, value in data.items()}
    return {}


def env_value(
    pod: Object,
    container: Object,
    entry: Object,
    values: Mapping[str, str],
    fetch: Fetch,
    capacity: Mapping[str, str],
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value") or "", values)
    if reference := source.get("fieldRef"):
        return field_value(pod, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        owner = next(
            (c for c in all_containers(pod) if c["name"] == reference.get("containerName")),
            container,
        )
        return resource_value(owner, reference["resource"], reference.get("divisor", ""), capacity)
    if reference := source.get("configMapKeyRef"):
        return config_value(fetch, "configmaps", reference)
    return config_value(fetch, "secrets", source["secretKeyRef"])


def all_containers(pod: Object) -> list[Object]:
    return [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]


def service_variables(services: Iterable[Object], namespace: str) -> dict[str, str]:
    """Return `{NAME}_SERVICE_HOST` and its kind: the namespace's Services and the API's."""
    values: dict[str, str] = {}
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        api = (metadata["namespace"], metadata["name"]) == ("default", "kubernetes")
        if not (api or metadata["namespace"] == namespace) or not spec.get("ports"):
            continue
        if spec.get("clusterIP") in {None, "", "None"}:
            continue
        values |= links(metadata["name"].upper().replace("-", "_"), spec)
    return values


def links(name: str, spec: Object) -> dict[str, str]:
    """Return the variables of one Service, Docker's links included."""
    host, first = spec["clusterIP"], spec["ports"][0]
    values = {f"{name}_SERVICE_HOST": host, f"{name}_SERVICE_PORT": str(first["port"])}
    protocol = first.get("protocol", "TCP").lower()
    values[f"{name}_PORT"] = f"{protocol}://{host}:{first['port']}"
    for port in spec["ports"]:
        protocol = port.get("protocol", "TCP")
        if port.get("name"):
            word = port["name"].upper().replace("-", "_")
            values[f"{name}_SERVICE_PORT_{word}"] = str(port["port"])
        prefix = f"{name}_PORT_{port['port']}_{protocol}"
        values[prefix] = f"{protocol.lower()}://{host}:{port['port']}"
        values[f"{prefix}_PROTO"] = protocol.lower()
        values[f"{prefix}_PORT"] = str(port["port"])
        values[f"{prefix}_ADDR"] = host
    return values

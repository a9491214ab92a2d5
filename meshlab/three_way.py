"""The patch behind `kubectl apply`: what the manifest says now, less what it no longer says.

Client-side apply (Kubernetes' three-way merge): the server's object is asked to take the
manifest's fields; fields of the last applied manifest that are gone are deleted; all others, set
by defaults, controllers or webhooks, stay. Pure.
"""

from collections.abc import Mapping
from typing import Any

Json = Any

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MERGE_KEYS = {
    "containers": ("name",),
    "env": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ports": ("containerPort", "port"),  # a container's, a Service's
    "secrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
    "webhooks": ("name",),
}
"""Lists of built-in kinds that are merged item by item, and by which field (the API's types)."""
RETAIN_KEYS = frozenset({"strategy", "volumes"})
"""Unions: what is set replaces the other choices (`patchStrategy: retainKeys`)."""


def strategic_patch(last: Json, wanted: Json) -> dict[str, Any]:
    """Return the strategic merge patch for a built-in kind."""
    return _fields(last, wanted, strategic=True)


def merge_patch(last: Json, wanted: Json) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) for a custom resource: lists change whole."""
    return _fields(last, wanted, strategic=False)


def _fields(last: Json, wanted: Mapping[str, Json], *, strategic: bool) -> dict[str, Any]:
    before: Mapping[str, Json] = last if isinstance(last, Mapping) else {}
    patch: dict[str, Any] = {key: None for key in before if key not in wanted}
    for key, value in wanted.items():
        old = before.get(key)
        if isinstance(value, Mapping):
            patch[key] = _fields(old, value, strategic=strategic)
            if strategic and key in RETAIN_KEYS:
                patch[key]["$retainKeys"] = sorted(value)
        elif strategic and key in MERGE_KEYS and isinstance(value, list):
            patch[key] = _items(key, old, value)
        else:
            patch[key] = value
    return patch


def _items(field: str, last: Json, wanted: list[Json]) -> list[Json]:
    """Return the items to merge, then those to delete, by the list's merge key."""
    by = _merge_key(field, [*wanted, *(last or ())])
    if by is None:
        return wanted
    before = {item[by]: item for item in last or () if by in item}
    patch: list[Json] = []
    for item in wanted:
        merged = _fields(before.pop(item[by], None), item, strategic=True)
        if field in RETAIN_KEYS:
            merged["$retainKeys"] = sorted(item)
        patch.append(merged)
    return [*patch, *({"$patch": "delete", by: key} for key in before)]


def _merge_key(field: str, items: list[Json]) -> str | None:
    """Return the key that all items have; None: they are to be replaced whole."""
    for key in MERGE_KEYS[field]:
        if items and all(isinstance(item, Mapping) and key in item for item in items):
            return key
    return None

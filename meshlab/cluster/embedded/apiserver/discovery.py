"""What is served: `/api`, `/apis`, resource lists, and all of it in one (aggregated discovery)."""

from collections.abc import Iterable
from typing import Any

from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.resource import Resource, Version

Json = dict[str, Any]

SCALE_KIND = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
READ_WRITE_ONE = ("get", "patch", "update")
LAST = ("extensions",)
"""Groups that come after all others, so that names without a group never mean them."""

VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+meshlab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
PARTS: dict[str, tuple[str, str]] = {
    "binding": ("", "Binding"),
    "eviction": ("policy", "Eviction"),
    "token": ("authentication.k8s.io", "TokenRequest"),
    "exec": ("", "PodExecOptions"),
}
"""Subresource → (group, kind) where that differs from the object's."""


def groups(catalog: Catalog) -> list[tuple[str, list[str]]]:
    """Return the groups but the core, each with its versions, the preferred first."""
    found: dict[str, dict[str, None]] = {}
    for resource in catalog:
        versions = found.setdefault(resource.group, {})
        versions |= dict.fromkeys(v.name for v in resource.versions if v.served)
    found.pop("", None)
    ordered = sorted(found, key=lambda group: (group in LAST, "." in group, group))
    return [(group, sorted(found[group], key=version_rank)) for group in ordered]


def version_rank(version: str) -> tuple[int, int, int]:
    """Return what sorts v1 before v1beta2 before v1beta1 before v1alpha1."""
    for rank, word in enumerate(("", "beta", "alpha")):
        major, found, minor = (
            version.removeprefix("v").partition(word)
            if word
            else (
                version.removeprefix("v"),
                "",
                "",
            )
        )
        if major.isdigit() and (not word or (found and minor.isdigit())):
            return rank, -int(major), -int(minor or 0)
    return 3, 0, 0


def api_versions(address: str) -> Json:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_group_list(catalog: Catalog) -> Json:
    entries = [_group(group, versions) for group, versions in groups(catalog)]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": entries}


def api_group(catalog: Catalog, name: str) -> Json | None:
    """Return one group; None: it is not served."""
    found = (versions for group, versions in groups(catalog) if group == name)
    versions = next(found, None)
    if versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(group: str, versions: list[str]) -> Json:
    entries = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def of_version(catalog: Catalog, group: str, version: str) -> list[tuple[Resource, Version]]:
    """Return what is served under one group and version, by name."""
    pairs = ((r, r.version(version)) for r in catalog if r.group == group)
    found = [(resource, served) for resource, served in pairs if served]
    return sorted(found, key=lambda pair: pair[0].plural)


def api_resource_list(catalog: Catalog, group: str, version: str) -> Json | None:
    """Return the resources of a group's version; None: it is not served."""
    found = of_version(catalog, group, version)
    if not found:
        return None
    entries: list[Json] = []
    for resource, served in found:
        entries.append(_resource(resource))
        entries += _subresources(resource, served)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": entries,
    }


def _resource(resource: Resource) -> Json:
    entry: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def parts(resource: Resource, served: Version) -> Iterable[tuple[str, tuple[str, ...], Json]]:
    """Yield (name, verbs, kind) of a resource's subresources."""
    own = {"group": resource.group, "version": served.name, "kind": resource.kind}
    if served.status:
        yield "status", READ_WRITE_ONE, own
    if served.scale:
        yield "scale", READ_WRITE_ONE, SCALE_KIND
    for name, verbs in resource.subresources.items():
        group, kind = PARTS.get(name, (resource.group, resource.kind))
        yield name, verbs, {"group": group, "version": "v1", "kind": kind}


def _subresources(resource: Resource, served: Version) -> Iterable[Json]:
    for name, verbs, kind in parts(resource, served):
        entry: Json = {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind["kind"],
            "verbs": list(verbs),
        }
        if kind["group"] != resource.group:
            entry |= {"group": kind["group"], "version": kind["version"]}
        yield entry


# --- aggregated -------------------------------------------------------------------------------

AGGREGATED = "apidiscovery.k8s.io"


def aggregated(catalog: Catalog, *, core: bool, version: str) -> Json:
    """Return everything under `/api` or `/apis` in one document (v2 or v2beta1)."""
    found = [("", ["v1"])] if core else groups(catalog)
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [_aggregated_version(catalog, group, name) for name in versions],
        }
        for group, versions in found
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{AGGREGATED}/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_version(catalog: Catalog, group: str, name: str) -> Json:
    resources = []
    for resource, served in of_version(catalog, group, name):
        entry: Json = {
            "resource": resource.plural,
            "responseKind": {"group": group, "version": name, "kind": resource.kind},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        below = [
            {"subresource": part, "responseKind": kind, "verbs": list(verbs)}
            for part, verbs, kind in parts(resource, served)
        ]
        if below:
            entry["subresources"] = below
        resources.append(entry)
    return {"version": name, "resources": resources, "freshness": "Current"}


def wants_aggregated(accept: str) -> str:
    """Return the aggregated version an Accept header asks for first; "" for none."""
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media != "application/json":
            continue
        wanted = dict(p.split("=", 1) for p in parameters if "=" in p)
        if wanted.get("as") == "APIGroupDiscoveryList" and wanted.get("g") == AGGREGATED:
            return wanted["v"] if wanted.get("v") in {"v2", "v2beta1"} else ""
        if not wanted.get("as"):
            return ""
    return ""

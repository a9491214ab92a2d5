"""CustomResourceDefinitions: what one may say, and the resource it declares."""

import re
from collections.abc import Iterator
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at, now
from meshlab.cluster.embedded.apiserver.metadata import LABEL_1035, LABEL_1035_RULE, SUBDOMAIN
from meshlab.cluster.embedded.apiserver.resource import Column, Resource, ScalePaths, Version
from meshlab.cluster.embedded.apiserver.status import FieldError

Json = dict[str, Any]

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
NO_CEL = (
    "x-kubernetes-validations: this cluster keeps the rules (CEL) of a schema but does not "
    "evaluate them"
)
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
AGE = Column(
    name="Age",
    json_path=".metadata.creationTimestamp",
    type="date",
    description="CreationTimestamp is a timestamp representing the server time when this object "
    "was created. It is not guaranteed to be set in happens-before order across separate "
    "operations.",
)
OBJECT_META: Json = {"type": "object"}


def declared(crd: Json) -> Resource:
    """Return the resource that a valid CRD declares."""
    spec = crd["spec"]
    names = spec["names"]
    versions = tuple(_version(version) for version in spec["versions"])
    return Resource(
        group=spec["group"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names["singular"],
        versions=versions,
        storage=next(v["name"] for v in spec["versions"] if v["storage"]),
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        custom=True,
    )


def _version(version: Json) -> Version:
    scale = at(version, "subresources", "scale")
    warning = ""
    if version.get("deprecated"):
        warning = version.get("deprecationWarning") or f"version {version['name']} is deprecated"
    return Version(
        name=version["name"],
        served=version["served"],
        schema=_with_identity(version["schema"]["openAPIV3Schema"]),
        columns=tuple(_column(c) for c in version.get("additionalPrinterColumns") or ()) or (AGE,),
        status=at(version, "subresources", "status") is not None,
        scale=scale
        and ScalePaths(
            replicas=scale["specReplicasPath"],
            status_replicas=scale["statusReplicasPath"],
            selector=scale.get("labelSelectorPath", ""),
        ),
        warning=warning,
    )


def _with_identity(schema: Json) -> Json:
    """Return the schema with what every object has; its own words on metadata do not count."""
    properties = {
        **(schema.get("properties") or {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {**OBJECT_META, "x-kubernetes-preserve-unknown-fields": True},
    }
    return {**schema, "properties": properties}


def _column(column: Json) -> Column:
    return Column(
        name=column["name"],
        json_path=column["jsonPath"],
        type=column["type"],
        format=column.get("format", ""),
        description=column.get("description", ""),
        priority=column.get("priority", 0),
    )


def establish(crd: Json, taken: str = "") -> None:
    """Set in place what the server says of a CRD: names accepted, established, at once.

    Args:
        crd: the definition.
        taken: why its names cannot be had; "" when they can.
    """
    spec = crd["spec"]
    status = crd.setdefault("status", {})
    old = {c["type"]: c for c in status.get("conditions") or ()}
    accepted = "False" if taken else "True"
    status["conditions"] = [
        _condition(
            old,
            "NamesAccepted",
            accepted,
            "NamesConflict" if taken else "NoConflicts",
            taken or "no conflicts found",
        ),
        _condition(
            old,
            "Established",
            accepted,
            "NotAccepted" if taken else "InitialNamesAccepted",
            "not all names are accepted" if taken else "the initial names have been accepted",
        ),
    ]
    status["acceptedNames"] = spec["names"]
    stored = list(status.get("storedVersions") or ())
    storage = next(v["name"] for v in spec["versions"] if v["storage"])
    status["storedVersions"] = stored if storage in stored else [*stored, storage]


def _condition(old: Json, kind: str, value: str, reason: str, message: str) -> Json:
    before = old.get(kind) or {}
    same = before.get("status") == value
    return {
        "type": kind,
        "status": value,
        "lastTransitionTime": before["lastTransitionTime"] if same else now(),
        "reason": reason,
        "message": message,
    }


def has_rules(value: Any) -> bool:
    """Say whether some schema in here has rules in CEL."""
    if isinstance(value, dict):
        return "x-kubernetes-validations" in value or any(map(has_rules, value.values()))
    return isinstance(value, list) and any(map(has_rules, value))


# --- what a CRD may say -----------------------------------------------------------------------

COLUMN_TYPES = frozenset({"boolean", "date", "integer", "number", "string"})


def check(crd: Json, old: Json | None) -> Iterator[FieldError]:
    """Yield all that is wrong with a CRD."""
    spec = crd["spec"]
    names = spec.get("names") or {}
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if crd["metadata"]["name"] != wanted:
        detail = 'must be spec.names.plural+"."+spec.group'
        yield FieldError("metadata.name", "Invalid value", detail, crd["metadata"]["name"])
    group = spec.get("group", "")
    if not SUBDOMAIN.fullmatch(group) or "." not in group:
        detail = "should be a domain with at least one dot"
        yield FieldError("spec.group", "Invalid value", detail, group)
    if spec.get("scope") not in {"Cluster", "Namespaced"}:
        detail = 'supported values: "Cluster", "Namespaced"'
        yield FieldError("spec.scope", "Unsupported value", detail, spec.get("scope"))
    for field in ("plural", "singular", "kind", "listKind"):
        word = str(names.get(field, "")).lower()
        if not LABEL_1035.fullmatch(word):
            value = names.get(field, "")
            yield FieldError(f"spec.names.{field}", "Invalid value", LABEL_1035_RULE, value)
    yield from _check_versions(spec)
    if at(spec, "conversion", "strategy") != "None":
        detail = "this cluster converts between versions by strategy None only"
        found = at(spec, "conversion", "strategy")
        yield FieldError("spec.conversion.strategy", "Unsupported value", detail, found)
    if old is not None:
        for field in ("group", "scope"):
            if spec.get(field) != old["spec"].get(field):
                value = spec.get(field)
                yield FieldError(f"spec.{field}", "Invalid value", "field is immutable", value)


def _check_versions(spec: Json) -> Iterator[FieldError]:
    versions = spec.get("versions") or []
    if sum(bool(v.get("storage")) for v in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        yield FieldError(
            "spec.versions", "Invalid value", detail, [v.get("name") for v in versions]
        )
    seen: set[str] = set()
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version.get("name", "")
        if not LABEL_1035.fullmatch(name):
            yield FieldError(f"{path}.name", "Invalid value", LABEL_1035_RULE, name)
        if name in seen:
            yield FieldError(f"{path}.name", "Duplicate value", "", name)
        seen.add(name)
        for field in ("served", "storage"):
            if field not in version:
                yield FieldError(f"{path}.{field}", "Required value")
        for at_column, column in enumerate(version.get("additionalPrinterColumns") or ()):
            if column.get("type") not in COLUMN_TYPES:
                place = f"{path}.additionalPrinterColumns[{at_column}].type"
                detail = f"must be one of {', '.join(sorted(COLUMN_TYPES))}"
                yield FieldError(place, "Invalid value", detail, column.get("type"))
        schema = at(version, "schema", "openAPIV3Schema")
        place = f"{path}.schema.openAPIV3Schema"
        if not isinstance(schema, dict):
            yield FieldError(place, "Required value", "schemas are required")
        else:
            if schema.get("type") != "object":
                detail = "must be object at the root"
                yield FieldError(f"{place}.type", "Invalid value", detail, schema.get("type"))
            yield from check_structural(schema, place)


TYPES = frozenset({"array", "boolean", "integer", "number", "object", "string"})
REFUSED = ("definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties")


def check_structural(
    schema: Json, path: str, *, below_junctor: bool = False
) -> Iterator[FieldError]:
    """Yield where a schema is not structural, so that pruning and defaulting would be unclear."""
    free = schema.get("x-kubernetes-int-or-string") or schema.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    kind = schema.get("type")
    if kind is not None and kind not in TYPES:
        detail = f"supported values: {', '.join(sorted(TYPES))}"
        yield FieldError(f"{path}.type", "Unsupported value", detail, kind)
    if kind is None and not free and not below_junctor:
        yield FieldError(
            f"{path}.type", "Required value", "must not be empty for specified object fields"
        )
    for field in ("$ref", *REFUSED):
        if field in schema:
            yield FieldError(f"{path}.{field}", "Forbidden", f"{field} is not supported")
    if "additionalProperties" in schema and "properties" in schema:
        detail = "additionalProperties and properties are mutual exclusive"
        yield FieldError(f"{path}.additionalProperties", "Forbidden", detail)
    if pattern := schema.get("pattern"):
        yield from _check_pattern(pattern, f"{path}.pattern")
    if kind == "array" and not isinstance(schema.get("items"), dict) and not below_junctor:
        yield FieldError(f"{path}.items", "Required value", "must be specified")
    yield from _check_list_type(schema, path)
    yield from _check_below(schema, path, below_junctor)


def _check_pattern(pattern: str, path: str) -> Iterator[FieldError]:
    from meshlab.cluster.embedded.apiserver.schema import compiled

    try:
        compiled(pattern)
    except re.error as error:
        yield FieldError(
            path, "Invalid value", f"must be a valid regular expression: {error}", pattern
        )


def _check_list_type(schema: Json, path: str) -> Iterator[FieldError]:
    if schema.get("x-kubernetes-list-type") != "map":
        return
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys:
        detail = "must be specified if x-kubernetes-list-type is map"
        yield FieldError(f"{path}.x-kubernetes-list-map-keys", "Required value", detail)
    items = schema.get("items") or {}
    for key in keys or ():
        if key not in (items.get("properties") or {}):
            detail = "entries must all be names of item properties"
            yield FieldError(f"{path}.x-kubernetes-list-map-keys", "Invalid value", detail, key)


def _check_below(schema: Json, path: str, below_junctor: bool) -> Iterator[FieldError]:
    for name, part in (schema.get("properties") or {}).items():
        place = f"{path}.properties[{name}]"
        if name == "metadata" and path.endswith("openAPIV3Schema"):
            continue
        yield from check_structural(part, place, below_junctor=below_junctor)
    for field in ("items", "additionalProperties"):
        if isinstance(schema.get(field), dict):
            yield from check_structural(
                schema[field], f"{path}.{field}", below_junctor=below_junctor
            )
    for field in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(field) or ()):
            yield from check_structural(part, f"{path}.{field}[{index}]", below_junctor=True)
    if isinstance(schema.get("not"), dict):
        yield from check_structural(schema["not"], f"{path}.not", below_junctor=True)

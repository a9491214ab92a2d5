"""In which form a client wants objects: as they are, as Table rows, or their metadata only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.apiserver.resource import Resource, Version
from meshlab.cluster.embedded.apiserver.status import ApiError
from meshlab.cluster.embedded.apiserver.table import column_definitions, row, table

Json = dict[str, Any]

META = "meta.k8s.io"


@dataclass(frozen=True, slots=True)
class Format:
    """A negotiated form."""

    kind: str = ""
    """"" (objects), Table, PartialObjectMetadata or PartialObjectMetadataList."""
    version: str = "v1"
    include: str = "Metadata"
    """Which part of the object a Table row carries: None, Metadata or Object."""

    @property
    def name(self) -> str:
        """Return a word that is the same for what encodes the same."""
        return f"{self.kind}/{self.version}/{self.include}"


KINDS = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


def negotiate(accept: str, include: str) -> Format:
    """Return the first form of an Accept header that we have.

    Raises:
        ApiError: 406; it takes no JSON.
    """
    for part in accept.split(",") if accept else ["*/*"]:
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media not in {"application/json", "application/*", "*/*"}:
            continue
        wanted = dict(p.split("=", 1) for p in parameters if "=" in p)
        kind = wanted.get("as", "")
        if not kind:
            return Format()
        if kind in KINDS and wanted.get("g") == META and wanted.get("v") in {"v1", "v1beta1"}:
            return Format(kind, wanted["v"], include or "Metadata")
    message = (
        "only the following media types are accepted: application/json, "
        "application/json;stream=watch"
    )
    raise ApiError(406, "NotAcceptable", message)


def partial(obj: Json, version: str = "v1") -> Json:
    """Return an object's metadata as an object of its own."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"{META}/{version}",
        "metadata": obj["metadata"],
    }


def shown_list(
    form: Format, resource: Resource, version: Version, items: Sequence[Json], metadata: Json
) -> Json:
    """Return a list in the form that was asked for."""
    api_version = resource.api_version(version.name)
    if form.kind == "Table":
        rows = [_row(form, resource, version, obj) for obj in items]
        return table(form.version, column_definitions(resource, version), rows, metadata)
    if form.kind:
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"{META}/{form.version}",
            "metadata": metadata,
            "items": [partial(obj, form.version) for obj in items],
        }
    same = api_version == resource.stored_api_version
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": api_version,
        "metadata": metadata,
        "items": items if same else [{**obj, "apiVersion": api_version} for obj in items],
    }


def shown_one(form: Format, resource: Resource, version: Version, obj: Json) -> Json:
    """Return one object in the form that was asked for."""
    if form.kind == "Table":
        return _table_of(form, resource, version, obj)
    return partial(obj, form.version) if form.kind else obj


def watch_encoder(form: Format, resource: Resource, version: Version) -> Callable[[Json], Json]:
    """Return what makes of an object what a watch event carries."""
    api_version = resource.api_version(version.name)

    def encoded(obj: Json) -> Json:
        if obj["apiVersion"] != api_version:
            obj = {**obj, "apiVersion": api_version}
        return shown_one(form, resource, version, obj)

    return encoded


def _table_of(form: Format, resource: Resource, version: Version, obj: Json) -> Json:
    metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
    rows = [_row(form, resource, version, obj)]
    return table(form.version, column_definitions(resource, version), rows, metadata)


def _row(form: Format, resource: Resource, version: Version, obj: Json) -> Json:
    cells = row(resource, version, obj)
    found: Json = {"cells": cells}
    if form.include == "Object":
        found["object"] = obj
    elif form.include == "Metadata":
        found["object"] = partial(obj, form.version)
    return found

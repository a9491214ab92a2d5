"""OpenAPI v3 and v2, as much as kubectl's apply, explain and validation read of it.

Made on request and not kept: a document is asked for once by each kubectl, and costs megabytes.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.discovery import groups, of_version
from meshlab.cluster.embedded.apiserver.patch import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
)
from meshlab.cluster.embedded.apiserver.resource import Resource, Version
from meshlab.cluster.embedded.apiserver.schema import builtin

Json = dict[str, Any]

GVK = "x-kubernetes-group-version-kind"
PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
INFO = {"title": "Kubernetes", "version": "v1.32.0"}


def index(catalog: Catalog) -> Json:
    """Return `/openapi/v3`: where each group's document is, with a mark of its content."""
    names = [("", "v1")] + [(g, v) for g, versions in groups(catalog) for v in versions]
    paths = {}
    for group, version in names:
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        declared = [
            [resource.kind, served.schema]
            for resource, served in of_version(catalog, group, version)
        ]
        digest = hashlib.sha256(json.dumps(declared).encode()).hexdigest()[:32]
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def document(catalog: Catalog, group: str, version: str) -> Json | None:
    """Return the OpenAPI v3 document of one group's version; None: it is not served."""
    found = of_version(catalog, group, version)
    if not found:
        return None
    schemas = Schemas("#/components/schemas/", wrapped=True)
    paths: Json = {}
    for resource, served in found:
        name = schemas.add(resource, served)
        paths |= _paths(resource, served, {"$ref": f"#/components/schemas/{name}"})
    return {
        "openapi": "3.0.0",
        "info": INFO,
        "paths": paths,
        "components": {"schemas": schemas.found},
    }


def document_v2(catalog: Catalog) -> Json:
    """Return `/openapi/v2`: all definitions, for older clients."""
    schemas = Schemas("#/definitions/", wrapped=False)
    for resource in catalog:
        for version in resource.versions:
            if version.served:
                schemas.add(resource, version)
    return {"swagger": "2.0", "info": INFO, "paths": {}, "definitions": schemas.found}


class Schemas:
    """Collects the named schemas of a document, with descriptions."""

    def __init__(self, prefix: str, *, wrapped: bool) -> None:
        self.found: Json = {}
        self._prefix = prefix
        self._wrapped = wrapped
        """Whether a reference with words beside it is wrapped in `allOf` (v3)."""
        text = Path(__file__).with_name("builtin_description.json").read_bytes()
        self._about: Json = json.loads(text)

    def add(self, resource: Resource, served: Version) -> str:
        """Return the name under which a kind's schema is in the document."""
        gvk = {"group": resource.group, "version": served.name, "kind": resource.kind}
        if served.schema is not None:
            reversed_group = ".".join(reversed(resource.group.split(".")))
            name = f"{reversed_group}.{served.name}.{resource.kind}"
            self.found[name] = self._custom(served.schema, gvk)
            return name
        name = self._builtin(builtin()["kinds"][resource.kind])
        known = self.found[name].setdefault(GVK, [])
        if gvk not in known:
            known.append(gvk)
        return name

    def _custom(self, schema: Any, gvk: Json) -> Json:
        properties = dict(schema.get("properties") or {})
        properties["metadata"] = self._ref("ObjectMeta")
        words = self._about["ConfigMap"]
        for field in ("apiVersion", "kind"):
            properties[field] = {"type": "string", "description": words[field]}
        return {**schema, "properties": properties, GVK: [gvk]}

    def _ref(self, type_name: str) -> Json:
        return {"$ref": self._prefix + self._builtin(type_name)}

    def _builtin(self, type_name: str) -> str:
        name = f"io.k8s.api.{type_name}"
        if name in self.found:
            return name
        self.found[name] = {}  # types mention each other in circles
        source = builtin()["types"][type_name]
        about = self._about.get(type_name, {})
        properties = {
            field: self._field(schema, about.get(field) or self._summary(schema))
            for field, schema in source["properties"].items()
        }
        self.found[name] |= {**source, "description": about.get("", ""), "properties": properties}
        return name

    def _summary(self, schema: Json) -> str:
        """Return what a field's type says of itself, for fields that say nothing."""
        return str(self._about.get(schema.get("$ref", ""), {}).get("", ""))

    def _field(self, schema: Json, description: str) -> Json:
        found = self._linked(schema)
        if "$ref" in found and self._wrapped:
            ref = found.pop("$ref")
            found = {**found, "allOf": [{"$ref": ref}], "default": {}}
        if description:
            found["description"] = description
        return found

    def _linked(self, schema: Json) -> Json:
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self._ref(schema["$ref"]) | rest
        found = dict(schema)
        for key in ("items", "additionalProperties"):
            if isinstance(found.get(key), dict):
                found[key] = self._linked(found[key])
        if found.get("x-kubernetes-int-or-string"):
            del found["x-kubernetes-int-or-string"]
            found |= {"type": "string"}
        return found


def _paths(resource: Resource, served: Version, schema: Json) -> Json:
    root = f"/apis/{resource.group}/{served.name}" if resource.group else f"/api/{served.name}"
    if resource.namespaced:
        root += "/namespaces/{namespace}"
    gvk = {"group": resource.group, "version": served.name, "kind": resource.kind}

    def operation(action: str, *media: str) -> Json:
        found: Json = {
            "operationId": f"{action}{resource.group}{served.name}{resource.kind}",
            "x-kubernetes-action": action,
            GVK: gvk,
            "parameters": [_parameter(name) for name in PARAMETERS] if media else [],
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {"application/json": {"schema": schema}},
                }
            },
        }
        if media:
            body = {"content": {m: {"schema": schema} for m in media}}
            found["requestBody"] = body
        return found

    patches = [JSON_PATCH, MERGE_PATCH]
    if served.schema is None:
        patches.append(STRATEGIC_MERGE_PATCH)
    collection = {"post": operation("post", "application/json")}
    one: Json = {}
    if "list" in resource.verbs:
        collection["get"] = operation("list")
    if "get" in resource.verbs:
        one["get"] = operation("get")
    if "update" in resource.verbs:
        one["put"] = operation("put", "application/json")
    if "patch" in resource.verbs:
        one["patch"] = operation("patch", *patches)
    if "delete" in resource.verbs:
        one["delete"] = operation("delete")
    found = {f"{root}/{resource.plural}": collection}
    if one:
        found[f"{root}/{resource.plural}/{{name}}"] = one
    return found


def _parameter(name: str) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": "",
        "schema": {"type": "string", "uniqueItems": True},
    }

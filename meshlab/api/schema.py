"""Models → structural OpenAPI schemas → CustomResourceDefinitions (apiextensions.k8s.io/v1)."""

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from meshlab.api.field import Range, Text, annotations, model_fields
from meshlab.api.registry import KINDS, Column, Kind

Schema = dict[str, Any]


def crds() -> list[Schema]:
    """Return the CustomResourceDefinitions of the kinds that are supported."""
    return [crd(kind) for kind in KINDS]


def crd(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of a kind, as Istio installs it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": kind.resource,
            "labels": {
                "app": "istio-pilot",
                "istio": kind.group.split(".")[0].replace("networking", "pilot"),
                "release": "istio",
            },
        },
        "spec": {
            "group": kind.group,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": list(kind.short_names),
                "categories": ["istio-io", kind.group.replace(".", "-")],
            },
            "scope": "Namespaced",
            "versions": [
                _version(kind, version, stored=i == 0) for i, version in enumerate(kind.versions)
            ],
        },
    }


def _version(kind: Kind, version: str, *, stored: bool) -> Schema:
    made: Schema = {
        "name": version,
        "served": True,
        "storage": stored,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": object_schema(kind)},
    }
    if kind.columns:
        made["additionalPrinterColumns"] = [_column(column) for column in kind.columns]
    return made


def _column(column: Column) -> Schema:
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
    }


def object_schema(kind: Kind) -> Schema:
    """Return the schema of a whole object of a kind."""
    return {
        "type": "object",
        "properties": {
            "spec": schema(kind.model),
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }


def schema(hint: Any) -> Schema:
    """Return the structural schema of a model or of a field's type."""
    if hint is Any:
        return {"x-kubernetes-preserve-unknown-fields": True}
    marks = annotations(hint)
    base = get_args(hint)[0] if marks else hint
    if is_dataclass(base):
        return _model_schema(base)  # type: ignore[arg-type]  # a class, not an instance
    origin = get_origin(base)
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(base))}
    if origin is tuple:
        return {"type": "array", "items": schema(get_args(base)[0])}
    if origin is not None:
        return {"type": "object", "additionalProperties": schema(get_args(base)[1])}
    return _scalar_schema(base, marks)


def _scalar_schema(base: Any, marks: Sequence[Any]) -> Schema:
    made: Schema = {
        "type": {str: "string", bool: "boolean", int: "integer", float: "number"}.get(
            base, "string"
        )
    }
    for mark in marks:
        if isinstance(mark, Range):
            made |= {"minimum": mark.minimum, "maximum": mark.maximum}
        elif isinstance(mark, Text):
            made = {"type": "string"}
            if mark.format == "bytes":
                made["format"] = "binary"
    if base is float and not marks:
        made["format"] = "double"
    return made


def _model_schema(model: type[Any]) -> Schema:
    texts = field_docs(model)  # type: ignore[arg-type]  # a class is hashable
    properties = {}
    required = []
    fields = model_fields(model)  # type: ignore[arg-type]  # a class is hashable
    for name, spec in fields.items():
        properties[name] = schema(spec.type)
        if text := texts.get(spec.name):
            properties[name]["description"] = text
        if spec.required:
            required.append(name)
    made: Schema = {"type": "object", "properties": properties}
    if model.__doc__:
        made["description"] = inspect.cleandoc(model.__doc__)
    if required:
        made["required"] = required
    return made


@cache
def field_docs(model: type[Any]) -> dict[str, str]:
    """Return field → the docstring under it: what `kubectl explain` shows."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    docs = {}
    previous = ""
    for node in tree.body if isinstance(tree, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            previous = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and previous:
            docs[previous] = inspect.cleandoc(str(node.value.value))
    return docs

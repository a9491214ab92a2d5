"""Structural schemas at work: what is unknown, what is filled in, what is wrong.

One engine for custom resources (the CRD's OpenAPI v3 schema) and for built-in kinds (types of
`builtin_schema.json`, linked by `$ref`).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import copy, encode
from meshlab.cluster.embedded.apiserver.status import FieldError, bad_request

Json = dict[str, Any]
Schema = Mapping[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
EMBEDDED = "x-kubernetes-embedded-resource"


@lru_cache(maxsize=1)
def builtin() -> Json:
    """Return {"kinds": kind → type name, "types": type name → schema}."""
    text = Path(__file__).with_name("builtin_schema.json").read_bytes()
    found: Json = json.loads(text)
    return found


def builtin_schema(kind: str) -> Schema:
    """Return the schema of a built-in kind."""
    return {"$ref": builtin()["kinds"][kind]}


def resolve(schema: Schema) -> Schema:
    """Return what a `$ref` stands for."""
    ref = schema.get("$ref")
    return builtin()["types"][ref] if ref else schema


def fields_of(schema: Schema, value: Json) -> Iterator[tuple[str, Schema | None]]:
    """Yield each key of an object with its schema; None where the schema does not know it."""
    properties = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    for key in value:
        if key in properties:
            yield key, properties[key]
        elif isinstance(rest, Mapping):
            yield key, rest
        elif rest is True or schema.get(PRESERVE):
            yield key, {PRESERVE: True}
        else:
            yield key, None


OBJECT_ITSELF = frozenset({"apiVersion", "kind", "metadata"})


def prune(schema: Schema, value: Any, path: str = "", *, root: bool = True) -> list[str]:
    """Take out, in place, the fields no schema knows; returns their paths."""
    unknown: list[str] = []
    schema = resolve(schema)
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, Mapping):
            for index, item in enumerate(value):
                unknown += prune(items, item, f"{path}[{index}]", root=False)
    elif isinstance(value, dict):
        whole = root or schema.get(EMBEDDED)
        for key, below in list(fields_of(schema, value)):
            place = f"{path}.{key}" if path else key
            if below is not None:
                unknown += prune(below, value[key], place, root=False)
            elif not (whole and key in OBJECT_ITSELF):
                unknown.append(place)
                del value[key]
    return unknown


def drop_nulls(value: Any) -> Any:
    """Take out null fields, in place: to built-in kinds null is the same as absent."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            if item is None:
                del value[key]
            else:
                drop_nulls(item)
    elif isinstance(value, list):
        for item in value:
            drop_nulls(item)
    return value


def fill_defaults(schema: Schema, value: Any) -> None:
    """Fill in, in place, what a custom resource's schema gives a `default` for."""
    if isinstance(value, dict):
        for key, below in (schema.get("properties") or {}).items():
            missing = key not in value or (value[key] is None and not below.get("nullable"))
            if missing and "default" in below:
                value[key] = copy(below["default"])
            elif missing and key in value:
                del value[key]  # null where null may not be, and nothing to put there
        for key, known in list(fields_of(schema, value)):
            if known is not None:
                fill_defaults(known, value[key])
    elif isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, Mapping):
            for item in value:
                fill_defaults(items, item)


def check_builtin_types(kind: str, version: str, value: Json) -> None:
    """Refuse a value of the wrong type, as Go's JSON decoder words it.

    Raises:
        ApiError: 400 at the first.
    """
    name = builtin()["kinds"][kind]
    problem = _go_mismatch(builtin()["types"][name], value, name, "")
    if problem:
        raise bad_request(
            f'{kind} in version "{version}" cannot be handled as a {kind}: json: {problem}'
        )


GO_TYPES = {"string": "string", "integer": "int32", "boolean": "bool", "number": "float64"}


def _go_mismatch(schema: Schema, value: Any, owner: str, path: str) -> str:
    if "$ref" in schema:
        owner = schema["$ref"]
        schema = resolve(schema)
    if value is None or (schema.get(PRESERVE) and "type" not in schema):
        return ""
    if schema.get(INT_OR_STRING):
        if isinstance(value, int | str) and not isinstance(value, bool):
            return ""
        if isinstance(value, float) and schema.get("format") == "quantity":
            return ""
        return _cannot(value, owner, path, "intstr.IntOrString")
    if schema["type"] == "array":
        if not isinstance(value, list):
            return _cannot(value, owner, path, "[]" + _go_type(schema["items"]))
        below = (_go_mismatch(schema["items"], item, owner, path) for item in value)
        return next(filter(None, below), "")
    if schema["type"] == "object":
        if not isinstance(value, dict):
            return _cannot(value, owner, path, _go_type(schema, owner))
        below = (
            _go_mismatch(known, value[key], owner, f"{path}.{key}" if path else key)
            for key, known in fields_of(schema, value)
            if known is not None
        )
        return next(filter(None, below), "")
    return (
        ""
        if is_type(value, schema["type"])
        else _cannot(value, owner, path, GO_TYPES[schema["type"]])
    )


def _go_type(schema: Schema, owner: str = "") -> str:
    if "$ref" in schema:
        return f"v1.{schema['$ref']}"
    if "additionalProperties" in schema:
        return f"map[string]{_go_type(schema['additionalProperties'])}"
    return GO_TYPES.get(schema.get("type", ""), f"v1.{owner}" if owner else "interface {}")


def _cannot(value: Any, owner: str, path: str, wanted: str) -> str:
    names = {bool: "bool", str: "string", list: "array", dict: "object"}
    found = names.get(type(value), "number")
    if found == "number" and wanted == "int32":
        found = f"number {value}"
    return f"cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}"


def is_type(value: Any, wanted: str) -> bool:
    """Say whether a JSON value is of an OpenAPI type."""
    match wanted:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case _:
            return True


def type_of(value: Any) -> str:
    """Return the OpenAPI name of a JSON value's type."""
    if value is None:
        return "null"
    for name in ("boolean", "integer", "number", "string", "array", "object"):
        if is_type(value, name):
            return name
    return "unknown"


def validate(schema: Schema, value: Any, path: str = "") -> list[FieldError]:
    """Return all that a custom resource's schema forbids in a value."""
    if value is None:
        if schema.get("nullable") or not schema.get("type"):
            return []
        return [_wrong_type(path, schema["type"], value)]
    errors: list[FieldError] = []
    if schema.get(INT_OR_STRING):
        if not isinstance(value, int | str) or isinstance(value, bool):
            return [_wrong_type(path, "integer,string", value)]
    elif (wanted := schema.get("type")) and not is_type(value, wanted):
        return [_wrong_type(path, wanted, value)]
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(encode(item).decode() for item in schema["enum"])
        errors.append(FieldError(path, "Unsupported value", f"supported values: {allowed}", value))
    if isinstance(value, str):
        errors += _string(schema, value, path)
    elif isinstance(value, dict):
        errors += _object(schema, value, path)
    elif isinstance(value, list):
        errors += _array(schema, value, path)
    elif not isinstance(value, bool):
        errors += _number(schema, value, path)
    errors += _combined(schema, value, path)
    return errors


def _wrong_type(path: str, wanted: str, value: Any) -> FieldError:
    name = path or '""'
    found = type_of(value)
    detail = f'{name} in body must be of type {wanted}: "{found}"'
    return FieldError(path or "<nil>", "Invalid value", detail, found)


def _string(schema: Schema, value: str, path: str) -> Iterator[FieldError]:
    if (least := schema.get("minLength")) is not None and len(value) < least:
        detail = f"{path} in body should be at least {least} chars long"
        yield FieldError(path, "Invalid value", detail, value)
    if (most := schema.get("maxLength")) is not None and len(value) > most:
        yield FieldError(path, "Too long", f"may not be more than {most} bytes", value)
    if (pattern := schema.get("pattern")) and not compiled(pattern).search(value):
        detail = f"{path} in body should match '{pattern}'"
        yield FieldError(path, "Invalid value", detail, value)
    if (form := schema.get("format")) and not _has_format(form, value):
        detail = f'{path} in body must be of type {form}: "{value}"'
        yield FieldError(path, "Invalid value", detail, value)


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    r"""Return a schema's pattern, compiled; Go's `\z` is Python's `\Z`."""
    return re.compile(pattern.replace(r"\z", r"\Z"))


def _has_format(form: str, value: str) -> bool:
    from datetime import datetime
    from ipaddress import ip_address, ip_network

    checks: dict[str, Any] = {
        "date-time": datetime.fromisoformat,
        "ipv4": ip_address,
        "ipv6": ip_address,
        "cidr": lambda text: ip_network(text, strict=False),
    }
    try:
        checks.get(form, str)(value)
    except ValueError:
        return False
    return True


def _number(schema: Schema, value: float, path: str) -> Iterator[FieldError]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        word = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield FieldError(path, "Invalid value", f"{path} in body should be {word} {least}", value)
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        word = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield FieldError(path, "Invalid value", f"{path} in body should be {word} {most}", value)
    step = schema.get("multipleOf")
    if step and not math.isclose(value / step, round(value / step)):
        detail = f"{path} in body should be a multiple of {step}"
        yield FieldError(path, "Invalid value", detail, value)


def _object(schema: Schema, value: Json, path: str) -> Iterator[FieldError]:
    for key in schema.get("required") or ():
        if key not in value:
            yield FieldError(f"{path}.{key}" if path else key, "Required value")
    if (least := schema.get("minProperties")) is not None and len(value) < least:
        detail = f"{path} in body should have at least {least} properties"
        yield FieldError(path, "Invalid value", detail, len(value))
    if (most := schema.get("maxProperties")) is not None and len(value) > most:
        yield FieldError(path, "Too many", f"must have at most {most} items", len(value))
    for key, below in fields_of(schema, value):
        if below is not None:
            yield from validate(below, value[key], f"{path}.{key}" if path else key)


def _array(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    if (least := schema.get("minItems")) is not None and len(value) < least:
        detail = f"{path} in body should have at least {least} items"
        yield FieldError(path, "Invalid value", detail, len(value))
    if (most := schema.get("maxItems")) is not None and len(value) > most:
        yield FieldError(path, "Too many", f"must have at most {most} items", len(value))
    items = schema.get("items")
    if isinstance(items, Mapping):
        for index, item in enumerate(value):
            yield from validate(items, item, f"{path}[{index}]")
    yield from _duplicates(schema, value, path)


def _duplicates(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    """Yield the entries of a set or map list that say the same thing twice."""
    kind = schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if kind not in {"set", "map"} and not schema.get("uniqueItems"):
        return
    seen: set[bytes] = set()
    for index, item in enumerate(value):
        same: Any = {k: item.get(k) for k in keys} if keys and isinstance(item, dict) else item
        mark = json.dumps(same, sort_keys=True).encode()
        if mark in seen:
            yield FieldError(f"{path}[{index}]", "Duplicate value", "", same)
        seen.add(mark)


def _combined(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    for part in schema.get("allOf") or ():
        yield from validate(part, value, path)
    if (some := schema.get("anyOf")) and not any(not validate(s, value, path) for s in some):
        detail = f"{path} in body must validate at least one schema (anyOf)"
        yield FieldError(path, "Invalid value", detail, value)
    if some := schema.get("oneOf"):
        hits = sum(not validate(s, value, path) for s in some)
        if hits != 1:
            found = "Found none valid" if not hits else f"Found {hits} valid alternatives"
            detail = f"{path} in body must validate one and only one schema (oneOf). {found}"
            yield FieldError(path, "Invalid value", detail, value)
    forbidden = schema.get("not")
    if forbidden is not None and not validate(forbidden, value, path):
        detail = f"{path} in body must not validate the schema (not)"
        yield FieldError(path, "Invalid value", detail, value)

"""OpenAPI v2 in protobuf (gnostic's `OpenAPIv2.proto`): kubectl checks `kind: List` against it.

kubectl asks for nothing else there, so what OpenAPI v2 has no word for (oneOf, nullable) and what
kubectl does not read is left out.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED_AS = "com.github.proto-openapi.spec.v2"
"""Part of the Accept header, in either of its spellings (`.v1.0`, `@v1.0`)."""

# Document, Info, Schema: field numbers
SWAGGER, INFO, PATHS, DEFINITIONS = 1, 2, 8, 9
REF, FORMAT, DESCRIPTION, REQUIRED = 1, 2, 4, 19
ADDITIONAL_PROPERTIES, TYPE, ITEMS, PROPERTIES, VENDOR_EXTENSION = 21, 22, 23, 25, 31


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _flag(number: int) -> bytes:
    return _varint(number << 3) + b"\x01"


def encode_document(document: Json) -> bytes:
    """Return an OpenAPI v2 document, made by `openapi.document_v2`, as protobuf."""
    info = _field(1, document["info"]["title"]) + _field(2, document["info"]["version"])
    definitions = _named(1, document["definitions"])
    return b"".join(
        (
            _field(SWAGGER, document["swagger"]),
            _field(INFO, info),
            _field(PATHS, b""),
            _field(DEFINITIONS, definitions),
        )
    )


def _named(number: int, schemas: Mapping[str, Json]) -> bytes:
    return b"".join(
        _field(number, _field(1, name) + _field(2, _schema(schema)))
        for name, schema in schemas.items()
    )


def _schema(schema: Json) -> bytes:
    return b"".join(_schema_fields(schema))


def _schema_fields(schema: Json) -> Iterable[bytes]:
    if ref := schema.get("$ref"):
        yield _field(REF, ref)
    if form := schema.get("format"):
        yield _field(FORMAT, form)
    if description := schema.get("description"):
        yield _field(DESCRIPTION, description)
    for name in schema.get("required") or ():
        yield _field(REQUIRED, name)
    below = schema.get("additionalProperties")
    if isinstance(below, dict):
        yield _field(ADDITIONAL_PROPERTIES, _field(1, _schema(below)))
    elif below:
        yield _field(ADDITIONAL_PROPERTIES, _flag(2))
    if kind := schema.get("type"):
        yield _field(TYPE, _field(1, kind))
    if isinstance(items := schema.get("items"), dict):
        yield _field(ITEMS, _field(1, _schema(items)))
    if properties := schema.get("properties"):
        yield _field(PROPERTIES, _named(1, properties))
    for name, value in schema.items():
        if name.startswith("x-kubernetes-"):
            yaml = json.dumps(value)  # JSON is YAML
            yield _field(VENDOR_EXTENSION, _field(1, name) + _field(2, _field(2, yaml)))

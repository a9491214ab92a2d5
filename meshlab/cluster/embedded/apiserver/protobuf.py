"""Kubernetes' protobuf bodies, decoded to what the same object is in JSON.

kubectl's typed commands send them and have no other way. Answers are always JSON, which every
client takes. The tables (field numbers, kinds) are in `builtin_protobuf.json`.
"""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.apiserver.status import ApiError, bad_request

Json = dict[str, Any]
Field = tuple[int, int | bytes]

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
DEEPEST = 60
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@lru_cache(maxsize=1)
def tables() -> Json:
    """Return {"kinds": kind → type, "types": type → {number: [name, kind, how often]}}."""
    found: Json = json.loads(Path(__file__).with_name("builtin_protobuf.json").read_bytes())
    return found


def decode_protobuf(body: bytes) -> Json:
    """Return the object in a protobuf body (`runtime.Unknown` behind a magic number).

    Raises:
        ApiError: 400 for what cannot be read, 415 for a kind we have no table for.
    """
    if not body.startswith(MAGIC):
        raise bad_request("the body is no Kubernetes protobuf: its magic number is missing")
    try:
        unknown = dict(_fields(body[len(MAGIC) :]))
        meta = dict(_fields(_bytes(unknown.get(1, b""))))
        version, kind = _bytes(meta.get(1, b"")).decode(), _bytes(meta.get(2, b"")).decode()
        table = tables()["kinds"].get(kind)
        if table is None:
            raise ApiError(
                415, "UnsupportedMediaType", f"protobuf is not read for kind {kind}; send JSON"
            )
        found = _message(table, _bytes(unknown.get(2, b"")), DEEPEST)
    except (ValueError, IndexError, TypeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body cannot be read as protobuf: {error}") from error
    return {"apiVersion": version, "kind": kind, **found}


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number stands where bytes should")
    return value


def _varint(data: bytes, index: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[index]
        index += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _fields(data: bytes) -> Iterator[Field]:
    """Yield (number, value) of a message."""
    index = 0
    while index < len(data):
        key, index = _varint(data, index)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, index = _varint(data, index)
            yield number, value
            continue
        if wire == BYTES:
            size, index = _varint(data, index)
        elif wire in {FIXED64, FIXED32}:
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is not used by Kubernetes")
        if index + size > len(data):
            raise ValueError("a field is longer than its message")
        yield number, data[index : index + size]
        index += size


def _message(type_name: str, data: bytes, depth: int) -> Json:
    if not depth:
        raise ValueError(f"messages are nested more than {DEEPEST} levels deep")
    table = tables()["types"][type_name]
    found: Json = {}
    for number, raw in _fields(data):
        field = table.get(str(number))
        if field is None:
            continue
        name, kind, often = field
        if often == "map":
            found.setdefault(name, {}).update(_entry(kind, _bytes(raw), depth))
        elif often == "list":
            found.setdefault(name, []).append(_value(kind, raw, depth))
        else:
            value = _value(kind, raw, depth)
            if not name:  # an embedded struct: its fields are ours
                found |= value
            elif often or value not in ("", 0, None, {}, []):
                found[name] = value
    return found


def _entry(kind: str, data: bytes, depth: int) -> Json:
    entry = dict(_fields(data))
    key = _bytes(entry.get(1, b"")).decode()
    empty: int | bytes = 0 if kind in {"int", "bool"} else b""
    return {key: _value(kind, entry.get(2, empty), depth)}


def _value(kind: str, raw: int | bytes, depth: int) -> Any:
    match kind:
        case "int" if isinstance(raw, int):
            return raw - (1 << 64) if raw >> 63 else raw
        case "bool":
            return bool(raw)
        case "string":
            return _bytes(raw).decode()
        case "bytes":
            return base64.b64encode(_bytes(raw)).decode()
        case "strings":
            return [_bytes(item).decode() for _, item in _fields(_bytes(raw))]
        case "Time" | "MicroTime":
            return _time(_bytes(raw), micro=kind == "MicroTime")
        case "Quantity":
            return _bytes(dict(_fields(_bytes(raw))).get(1, b"")).decode()
        case "IntOrString":
            return _int_or_string(_bytes(raw))
        case "RawExtension" | "FieldsV1":
            return json.loads(_bytes(dict(_fields(_bytes(raw))).get(1, b"null")) or b"null")
        case _:
            return _message(kind, _bytes(raw), depth - 1)


def _int_or_string(data: bytes) -> int | str:
    parts = dict(_fields(data))
    if parts.get(1):
        return _bytes(parts.get(3, b"")).decode()
    number = parts.get(2, 0)
    if isinstance(number, bytes):
        raise TypeError("a number is no number")
    return number - (1 << 64) if number >> 63 else number


def _time(data: bytes, *, micro: bool) -> str | None:
    if not data:
        return None
    parts = dict(_fields(data))
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    if isinstance(seconds, bytes) or isinstance(nanos, bytes):
        raise TypeError("a time is no number")
    if seconds >> 63:
        return None  # Go's zero time lies before 1970
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanos // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")

"""Who the peer is: Istio's metadata exchange by header, as a protobuf Struct in base64.

The Struct (google/protobuf/struct.proto) is written and read here by hand: the few lines keep
the request path free of protobuf objects. Maps are sorted by key, which makes bytes comparable.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import lru_cache

from meshlab.proxy.core.snapshot import Node
from meshlab.proxy.core.stream_info import PeerCertificate, PeerMetadata

ID_HEADER = b"x-envoy-peer-metadata-id"
HEADER = b"x-envoy-peer-metadata"

_SENT = ("NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID", "OWNER")
_SENT_LABELS = (
    "app",
    "version",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
)
_MAX_DEPTH = 8


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _block(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _encode_value(value: object) -> bytes:
    if isinstance(value, Mapping):
        return _block(5, encode_struct(value))
    return _block(3, str(value).encode())


def encode_struct(values: Mapping[str, object]) -> bytes:
    """Return a Struct of strings and nested Structs."""
    return b"".join(
        _block(1, _block(1, key.encode()) + _block(2, _encode_value(values[key])))
        for key in sorted(values)
    )


class _Cursor:
    """Reads protobuf fields; ValueError where bytes are cut short."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            if self.at >= len(self.data):
                raise ValueError("cut short")
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("varint is too long")

    def field(self) -> tuple[int, bytes]:
        """Return (number, bytes) of the next field; b"" for numbers, which nobody here needs."""
        key = self.varint()
        kind = key & 7
        if kind == 0:
            self.varint()
            return key >> 3, b""
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            if kind != 2:
                raise ValueError("unknown wire type")
            size = self.varint()
        if self.at + size > len(self.data):
            raise ValueError("cut short")
        piece = self.data[self.at : self.at + size]
        self.at += size
        return key >> 3, piece if kind == 2 else b""

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)


def _decode_value(data: bytes, depth: int) -> object:
    cursor = _Cursor(data)
    value: object = None
    while not cursor.done:
        number, piece = cursor.field()
        if number == 3:
            value = piece.decode()
        elif number == 5:
            value = decode_struct(piece, depth + 1)
    return value


def decode_struct(data: bytes, depth: int = 0) -> dict[str, object]:
    """Return a Struct's strings and nested Structs.

    Raises:
        ValueError: no Struct.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    found: dict[str, object] = {}
    cursor = _Cursor(data)
    while not cursor.done:
        number, entry = cursor.field()
        if number != 1:
            continue
        inner = _Cursor(entry)
        key = ""
        value: object = None
        while not inner.done:
            part, piece = inner.field()
            if part == 1:
                key = piece.decode()
            elif part == 2:
                value = _decode_value(piece, depth)
        found[key] = value
    return found


def _text(values: Mapping[str, object], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def from_metadata(metadata: Mapping[str, object], node_id: str = "") -> PeerMetadata:
    """Return what node metadata (ours, or a peer's) says."""
    labels_found = metadata.get("LABELS")
    labels: dict[str, str] = {}
    if isinstance(labels_found, Mapping):
        labels = {str(key): str(value) for key, value in labels_found.items()}
    workload = _text(metadata, "WORKLOAD_NAME")
    name = labels.get("service.istio.io/canonical-name") or labels.get("app") or workload
    revision = labels.get("service.istio.io/canonical-revision") or labels.get("version")
    return PeerMetadata(
        id=node_id,
        name=_text(metadata, "NAME"),
        namespace=_text(metadata, "NAMESPACE"),
        workload=workload,
        cluster=_text(metadata, "CLUSTER_ID"),
        app=labels.get("app", ""),
        version=labels.get("version", ""),
        canonical_service=name,
        canonical_revision=revision or "latest",
        labels=labels,
        owner=_text(metadata, "OWNER"),
    )


def encode(node: Node) -> bytes:
    """Return the value of `x-envoy-peer-metadata` for this node."""
    sent: dict[str, object] = {key: value for key in _SENT if (value := _text(node.metadata, key))}
    labels = node.metadata.get("LABELS")
    if isinstance(labels, Mapping):
        kept = {key: str(labels[key]) for key in _SENT_LABELS if key in labels}
        if kept:
            sent["LABELS"] = kept
    return b64encode(encode_struct(sent))


@lru_cache(maxsize=1024)
def decode(value: bytes, node_id: bytes) -> PeerMetadata | None:
    """Return what the peer's headers say; None for what cannot be read."""
    try:
        return from_metadata(decode_struct(b64decode(value)), node_id.decode("latin-1"))
    except (ValueError, binascii.Error):
        return None


@lru_cache(maxsize=1024)
def from_endpoint(workload: str) -> PeerMetadata:
    """Return what endpoint metadata `istio.workload` says: `name;ns;canonical;revision;cluster`."""
    parts = [*workload.split(";"), "", "", "", "", ""]
    return PeerMetadata(
        workload=parts[0],
        namespace=parts[1],
        canonical_service=parts[2],
        canonical_revision=parts[3],
        cluster=parts[4],
        app=parts[2],
        version=parts[3],
    )


def spiffe_namespace(certificate: PeerCertificate | None) -> str:
    """Return the namespace in a SPIFFE id, `spiffe://domain/ns/NAMESPACE/sa/NAME`; "" for none."""
    if certificate is None:
        return ""
    for uri in certificate.uri_sans:
        parts = uri.split("/")
        if uri.startswith("spiffe://") and len(parts) >= 7 and parts[3] == "ns":
            return parts[4]
    return ""

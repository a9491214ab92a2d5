"""Pieces of xDS that every feature is put together from."""

from collections.abc import Mapping
from typing import Any

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import UInt32Value
from udpa.type.v1 import typed_struct_pb2

UNLIMITED = 2**32 - 1
"""What "no limit" is in a 32-bit field."""


def pack(message: Message) -> AnyMessage:
    """Return the message in an Any, serialized so that equal messages give equal bytes."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def typed_struct(type_url: str, value: Mapping[str, Any] | None = None) -> AnyMessage:
    """Return a configuration whose protobuf only the data plane knows."""
    return pack(
        typed_struct_pb2.TypedStruct(
            type_url=f"type.googleapis.com/{type_url}", value=struct(value or {})
        )
    )


def struct(value: Mapping[str, Any]) -> Struct:
    made = Struct()
    made.update(dict(value))
    return made


def duration(seconds: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e9))
    return made


def uint32(value: int) -> UInt32Value:
    return UInt32Value(value=value)


def address(ip: str, port: int) -> Any:
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(address=ip, port_value=port)
    )


def metadata(**filters: Mapping[str, Any]) -> Any:
    """Return `filter_metadata`; names of filters with dots go through `metadata_of`."""
    return metadata_of(filters)


def metadata_of(filters: Mapping[str, Mapping[str, Any]]) -> Any:
    return base_pb2.Metadata(
        filter_metadata={name: struct(value) for name, value in filters.items()}
    )


def fraction(percent: float) -> Any:
    """Return a share of requests, in the steps of a ten-thousandth per cent that Istio keeps."""
    return percent_pb2.FractionalPercent(
        numerator=round(percent * 10_000), denominator=percent_pb2.FractionalPercent.MILLION
    )

"""Read protobuf values into plain Python ones: durations, wrappers, `Any`, JSON with field paths.

Every module of `config/` goes through here for what protobuf itself says badly: an `Any` of a type
that nobody imported, a JSON value of the wrong kind, a duration as two integers.
"""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any as Anything
from typing import TypeVar

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from udpa.type.v1.typed_struct_pb2 import TypedStruct as UdpaTypedStruct
from xds.type.v3.typed_struct_pb2 import TypedStruct as XdsTypedStruct

from meshlab.errors import ConfigError

M = TypeVar("M", bound=Message)

for module in (
    "envoy.extensions.access_loggers.file.v3.file_pb2",
    "envoy.extensions.access_loggers.grpc.v3.als_pb2",
    "envoy.extensions.access_loggers.stream.v3.stream_pb2",
    "envoy.extensions.filters.http.cors.v3.cors_pb2",
    "envoy.extensions.filters.http.fault.v3.fault_pb2",
    "envoy.extensions.filters.http.grpc_stats.v3.config_pb2",
    "envoy.extensions.filters.http.router.v3.router_pb2",
    "envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2",
    "envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2",
    "envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2",
    "envoy.extensions.load_balancing_policies.least_request.v3.least_request_pb2",
    "envoy.extensions.load_balancing_policies.random.v3.random_pb2",
    "envoy.extensions.load_balancing_policies.round_robin.v3.round_robin_pb2",
    "envoy.extensions.network.dns_resolver.cares.v3.cares_dns_resolver_pb2",
    "envoy.extensions.request_id.uuid.v3.uuid_pb2",
    "envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2",
    "envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2",
    "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
    "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2",
):
    import_module(module)  # a type is known to protobuf's JSON reader once it was imported

TYPED_STRUCT_NAMES = frozenset(
    (UdpaTypedStruct.DESCRIPTOR.full_name, XdsTypedStruct.DESCRIPTOR.full_name)
)


def join(path: str, step: str) -> str:
    """Return `path.step`; `step` alone at the root."""
    return f"{path}.{step}" if path else step


def seconds(duration: Duration) -> float:
    """Return a `google.protobuf.Duration` in seconds."""
    return float(duration.seconds + duration.nanos / 1e9)


def optional_seconds(message: Message, field: str, path: str = "") -> float | None:
    """Return the duration `field` of `message` in seconds; None where it is not set.

    Raises:
        ConfigError: negative.
    """
    if not message.HasField(field):
        return None
    value = seconds(getattr(message, field))
    if value < 0:
        raise ConfigError("must not be negative", field=join(path, field), found=f"{value:g}s")
    return value


def duration(message: Message, field: str, default: float, path: str = "") -> float:
    """Return the duration `field` of `message` in seconds, `default` where it is not set."""
    value = optional_seconds(message, field, path)
    return default if value is None else value


def wrapped(message: Message, field: str, default: Anything) -> Anything:
    """Return the value of a wrapper field (`UInt32Value`, …), `default` where it is not set."""
    return getattr(message, field).value if message.HasField(field) else default


def type_name(any_message: Any) -> str:
    """Return the full name of the message inside: `type.googleapis.com/a.B` → `a.B`."""
    return str(any_message.type_url).rpartition("/")[2]


def message_class(name: str) -> type[Message]:
    """Return the class of a message by its full name; KeyError for one that was never imported."""
    kind: type[Message] = message_factory.GetMessageClass(
        descriptor_pool.Default().FindMessageTypeByName(name)
    )
    return kind


def unpack(any_message: Any, kind: type[M], path: str) -> M:
    """Return the message inside.

    Raises:
        ConfigError: it is of another type, or its bytes are damaged.
    """
    if type_name(any_message) != kind.DESCRIPTOR.full_name:
        raise ConfigError(
            "holds another type than this field takes",
            field=path,
            found=type_name(any_message) or "nothing",
            allowed=kind.DESCRIPTOR.full_name,
        )
    try:
        return kind.FromString(any_message.value)
    except DecodeError as error:
        raise ConfigError(f"cannot be decoded: {error}", field=path) from None


def unpack_typed_struct(any_message: Any, path: str) -> tuple[str, Mapping[str, Anything]]:
    """Return (inner type name, its JSON value) of a `TypedStruct`, as Istio's filters travel.

    Raises:
        ConfigError: not a `TypedStruct`.
    """
    name = type_name(any_message)
    if name not in TYPED_STRUCT_NAMES:
        raise ConfigError("is not a TypedStruct", field=path, found=name)
    kind = UdpaTypedStruct if name == UdpaTypedStruct.DESCRIPTOR.full_name else XdsTypedStruct
    struct = unpack(any_message, kind, path)
    return str(struct.type_url).rpartition("/")[2], json_format.MessageToDict(struct.value)


def parse_json(value: object, kind: type[M]) -> M:
    """Return the protobuf of a JSON value (objects as dicts), as Envoy reads its bootstrap.

    Raises:
        ConfigError: `field` is the path inside the value.
    """
    if not isinstance(value, dict):
        raise ConfigError("must be an object", found=type(value).__name__)
    message = kind()
    try:
        json_format.ParseDict(value, message)
    except json_format.ParseError as error:
        raise parse_error(str(error), kind.DESCRIPTOR.name) from None
    return message


def parse_error(text: str, root: str) -> ConfigError:
    """Turn json_format's sentence into an error that carries the path.

    json_format nests `Failed to parse a field: Failed to parse b field: …` and mostly ends in
    ` at Root.a[0].b`; where it does not, the nested names are the best path there is.
    """
    names = re.findall(r"Failed to parse (\S+) field: ", text)
    reason = re.sub(r"Failed to parse \S+ field: ", "", text)
    place = re.search(rf' at "?{re.escape(root)}\.?([^"\s]*)"?', reason)
    path = place.group(1).rstrip(".") if place else ".".join(names)
    if place:
        reason = reason[: place.start()]
    unknown = re.match(r'Message type "([^"]+)" has no field named "([^"]+)"', reason)
    if unknown:
        return ConfigError(f"is not a field of {unknown.group(1)}", field=join(path, unknown[2]))
    missing = re.match(r"Can not find message descriptor by type_url: (\S+)", reason)
    if missing:
        return ConfigError(
            "is an extension that this proxy does not have",
            field=path,
            found=missing[1].rstrip("."),
        )
    return ConfigError(reason.strip().rstrip("."), field=path)


def walk(message: Message, path: str = "") -> Iterator[tuple[str, Message]]:
    """Yield (path, message) for `message` and every message inside it, through known `Any`s."""
    yield path, message
    if isinstance(message, Any):
        try:
            inner = message_class(type_name(message)).FromString(message.value)
        except (KeyError, DecodeError):
            return
        yield from walk(inner, path)
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        place = join(path, field.name)
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from walk(value[key], f"{place}[{key!r}]")
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from walk(item, f"{place}[{index}]")
        else:
            yield from walk(value, place)

"""Read protobuf values into plain Python ones: durations, wrappers, `Any`, JSON with field paths.

Every module of `config/` goes through here for what protobuf itself says badly: an `Any` of a type
that nobody imported, a JSON value of the wrong kind, a duration as two integers.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any as Anything
from typing import TypeVar, cast

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
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

# Istio's types that xds-protos lacks: declared without fields, so that empty ones have a JSON form.
for package, name in (
    ("stats", "PluginConfig"),
    ("io.istio.http.peer_metadata", "Config"),
    ("envoy.tcp.metadataexchange.config", "MetadataExchange"),
    ("istio.envoy.config.filter.http.alpn.v2alpha1", "FilterConfig"),
):
    file = FileDescriptorProto(name=f"meshlab/{package}.proto", package=package, syntax="proto3")
    file.message_type.add(name=name)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())

TYPED_STRUCT_NAMES = frozenset(
    (UdpaTypedStruct.DESCRIPTOR.full_name, XdsTypedStruct.DESCRIPTOR.full_name)
)


def join(path: str, step: str) -> str:
    """Return `path.step`; either alone where the other is empty."""
    return f"{path}.{step}" if path and step else path or step


def located(error: ConfigError, *, owner: str = "", path: str = "") -> ConfigError:
    """Return `error` with the object it is in, and the path of what was compiled put before its."""
    return ConfigError(
        error.what,
        object=owner or error.object,
        field=join(path, error.field),
        found=error.found,
        allowed=error.allowed,
        fix=error.fix,
    )


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
        path = locate(value, cast(Descriptor, kind.DESCRIPTOR))
        raise parse_error(str(error), path) from None
    return message


def locate(value: object, kind: Descriptor) -> str:
    """Return the path of the first part of a JSON value that does not parse as `kind`.

    json_format names no list positions and no path at all for a wrong number, so look again: into
    each member by itself.
    """
    if not isinstance(value, dict):
        return ""
    if kind.full_name == Any.DESCRIPTOR.full_name:
        try:
            kind = descriptor_pool.Default().FindMessageTypeByName(
                str(value.get("@type")).rpartition("/")[2]
            )
        except KeyError:
            return ""
        value = {key: item for key, item in value.items() if key != "@type"}
    for key, item in value.items():
        if parses({key: item}, kind):
            continue
        field = kind.fields_by_name.get(key) or kind.fields_by_camelcase_name.get(key)
        if field is None or field.message_type is None:
            return str(key)
        if field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"].message_type
            return join_bad_item(key, item.items() if isinstance(item, dict) else (), inner)
        if field.is_repeated:
            return join_bad_item(
                key, enumerate(item if isinstance(item, list) else ()), field.message_type
            )
        return join(key, locate(item, field.message_type))
    return ""


def join_bad_item(key: str, items: Iterable[tuple[object, object]], kind: Descriptor | None) -> str:
    """Return `key[index].path` of the first item that does not parse; `key` where all do."""
    for index, item in items:
        if kind is not None and not parses(item, kind):
            return join(f"{key}[{index!r}]", locate(item, kind))
    return key


def parses(value: Anything, kind: Descriptor) -> bool:
    try:
        json_format.ParseDict(value, message_factory.GetMessageClass(kind)())
    except (json_format.ParseError, AttributeError, TypeError):
        return False
    return True


def parse_error(text: str, path: str) -> ConfigError:
    """Turn json_format's sentence into an error that carries the path."""
    reason = re.sub(r"Failed to parse \S+ field: ", "", text)
    unknown = re.match(r'Message type "([^"]+)" has no field named', reason)
    if unknown:
        return ConfigError(f"is not a field of {unknown.group(1)}", field=path)
    missing = re.match(r"Can not find message descriptor by type_url: (\S+)", reason)
    if missing:
        return ConfigError(
            "is an extension that this proxy does not have",
            field=path,
            found=missing[1].partition(" at ")[0].rstrip("."),
        )
    reason = re.split(r' at "?[A-Z]\w*[.\[]', reason)[0]
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

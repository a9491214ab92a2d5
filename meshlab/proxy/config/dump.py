"""Show the configuration as Envoy's /config_dump does, secrets blotted out."""

import re
from collections.abc import Iterator
from typing import Any as Anything

from envoy.admin.v3 import config_dump_pb2
from envoy.admin.v3.config_dump_shared_pb2 import (
    ClustersConfigDump,
    EndpointsConfigDump,
    ListenersConfigDump,
    RoutesConfigDump,
    UpdateFailureState,
)
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from udpa.annotations.sensitive_pb2 import sensitive

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import message_class, type_name
from meshlab.proxy.config.snapshot import Configuration, Entry, Failure
from meshlab.proxy.config.xds import (
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    ROUTE_TYPE,
    SECRET_TYPE,
)

REDACTED = "[redacted]"

Dumped = dict[str, Anything]


def config_dump(
    configuration: Configuration,
    *,
    include_eds: bool = False,
    resource: str = "",
    name_regex: str = "",
) -> Dumped:
    """Return the dump as JSON values.

    Args:
        configuration: what to show.
        include_eds: endpoints, too.
        resource: only the list of that name, flat (`dynamic_active_clusters`).
        name_regex: only resources with such a name.

    Raises:
        ConfigError: no such list, or the expression does not compile.
    """
    try:
        wanted = re.compile(name_regex)
    except re.error as error:
        raise ConfigError(
            f"does not compile: {error}", field="name_regex", found=name_regex
        ) from None
    sections = list(dump_sections(configuration, include_eds or bool(resource), wanted))
    if not resource:
        return to_json(config_dump_pb2.ConfigDump(configs=[pack(item) for item in sections]))
    for section in sections:
        if resource in section.DESCRIPTOR.fields_by_name:
            found = getattr(section, resource)
            items = list(found) if not isinstance(found, Message) else [found]
            return to_json(config_dump_pb2.ConfigDump(configs=[pack(item) for item in items]))
    raise ConfigError(f"{resource} not found in config dump", field="resource")


def dump_sections(
    configuration: Configuration, include_eds: bool, wanted: "re.Pattern[str]"
) -> Iterator[Message]:
    """Yield the parts in Envoy's order."""
    yield config_dump_pb2.BootstrapConfigDump(bootstrap=configuration.bootstrap.message)
    yield clusters_dump(configuration, wanted)
    if include_eds:
        yield endpoints_dump(configuration, wanted)
    yield listeners_dump(configuration, wanted)
    yield routes_dump(configuration, wanted)
    yield secrets_dump(configuration, wanted)


def entries(
    configuration: Configuration, type_url: str, wanted: "re.Pattern[str]", *, static: bool
) -> Iterator[tuple[str, Entry]]:
    for name, entry in sorted(configuration.entries[type_url].items()):
        if entry.static is static and wanted.search(name):
            yield name, entry


def clusters_dump(configuration: Configuration, wanted: "re.Pattern[str]") -> ClustersConfigDump:
    dump = ClustersConfigDump()
    for name, cluster in configuration.grpc_clusters.items():
        if wanted.search(name):
            dump.static_clusters.add(cluster=pack(cluster))
    for _, entry in entries(configuration, CLUSTER_TYPE, wanted, static=True):
        dump.static_clusters.add(cluster=pack(entry.message), last_updated=moment(entry.updated))
    for name, entry in entries(configuration, CLUSTER_TYPE, wanted, static=False):
        active = configuration.snapshot.clusters.get(name) is entry.compiled
        found = dump.dynamic_active_clusters if active else dump.dynamic_warming_clusters
        found.add(
            version_info=entry.version,
            cluster=pack(entry.message),
            last_updated=moment(entry.updated),
            error_state=failure_state(configuration, CLUSTER_TYPE, name),
        )
    for name, failure in failures_alone(configuration, CLUSTER_TYPE, wanted):
        dump.dynamic_warming_clusters.add(
            cluster=pack(failure.message),
            error_state=failure_state(configuration, CLUSTER_TYPE, name),
        )
    return dump


def endpoints_dump(configuration: Configuration, wanted: "re.Pattern[str]") -> EndpointsConfigDump:
    dump = EndpointsConfigDump()
    for _, entry in entries(configuration, CLUSTER_TYPE, wanted, static=True):
        assignment = entry.message.load_assignment  # type: ignore[attr-defined]  # a Cluster
        dump.static_endpoint_configs.add(endpoint_config=pack(assignment))
    for _, entry in entries(configuration, ENDPOINT_TYPE, wanted, static=False):
        dump.dynamic_endpoint_configs.add(
            version_info=entry.version,
            endpoint_config=pack(entry.message),
            last_updated=moment(entry.updated),
        )
    return dump


def listeners_dump(configuration: Configuration, wanted: "re.Pattern[str]") -> ListenersConfigDump:
    dump = ListenersConfigDump()
    for _, entry in entries(configuration, LISTENER_TYPE, wanted, static=True):
        dump.static_listeners.add(listener=pack(entry.message), last_updated=moment(entry.updated))
    for name, entry in entries(configuration, LISTENER_TYPE, wanted, static=False):
        state = ListenersConfigDump.DynamicListenerState(
            version_info=entry.version,
            listener=pack(entry.message),
            last_updated=moment(entry.updated),
        )
        active = configuration.snapshot.listeners.get(name) is entry.compiled
        dump.dynamic_listeners.add(
            name=name,
            active_state=state if active else None,
            warming_state=None if active else state,
            error_state=failure_state(configuration, LISTENER_TYPE, name),
        )
    for name, _ in failures_alone(configuration, LISTENER_TYPE, wanted):
        dump.dynamic_listeners.add(
            name=name, error_state=failure_state(configuration, LISTENER_TYPE, name)
        )
    return dump


def routes_dump(configuration: Configuration, wanted: "re.Pattern[str]") -> RoutesConfigDump:
    dump = RoutesConfigDump()
    for table in inline_routes(configuration):
        if wanted.search(table.name):  # type: ignore[attr-defined]  # a RouteConfiguration
            dump.static_route_configs.add(route_config=pack(table))
    for name, entry in entries(configuration, ROUTE_TYPE, wanted, static=False):
        dump.dynamic_route_configs.add(
            version_info=entry.version,
            route_config=pack(entry.message),
            last_updated=moment(entry.updated),
            error_state=failure_state(configuration, ROUTE_TYPE, name),
        )
    return dump


def inline_routes(configuration: Configuration) -> Iterator[Message]:
    """Yield the route tables that stand in listeners."""
    for entry in configuration.entries[LISTENER_TYPE].values():
        yield from entry.inline_routes


def secrets_dump(
    configuration: Configuration, wanted: "re.Pattern[str]"
) -> config_dump_pb2.SecretsConfigDump:
    dump = config_dump_pb2.SecretsConfigDump()
    for name, entry in entries(configuration, SECRET_TYPE, wanted, static=True):
        dump.static_secrets.add(
            name=name, secret=pack(entry.message), last_updated=moment(entry.updated)
        )
    for name, entry in entries(configuration, SECRET_TYPE, wanted, static=False):
        dump.dynamic_active_secrets.add(
            name=name,
            version_info=entry.version,
            secret=pack(entry.message),
            last_updated=moment(entry.updated),
        )
    for name in configuration.wanted_secrets():
        if name not in configuration.entries[SECRET_TYPE] and wanted.search(name):
            dump.dynamic_warming_secrets.add(name=name, version_info="uninitialized")
    return dump


def failures_alone(
    configuration: Configuration, type_url: str, wanted: "re.Pattern[str]"
) -> Iterator[tuple[str, Failure]]:
    """Yield what was refused and has no earlier version in force."""
    for (kind, name), failure in sorted(configuration.failures.items(), key=lambda item: item[0]):
        if kind == type_url and name not in configuration.entries[kind] and wanted.search(name):
            yield name, failure


def failure_state(
    configuration: Configuration, type_url: str, name: str
) -> UpdateFailureState | None:
    failure = configuration.failures.get((type_url, name))
    if failure is None:
        return None
    return UpdateFailureState(
        failed_configuration=pack(failure.message),
        last_update_attempt=moment(failure.time),
        details=failure.details,
        version_info=failure.version,
    )


def pack(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def moment(seconds: float) -> Timestamp:
    """Return unix seconds as protobuf's timestamp, to the millisecond."""
    stamp = Timestamp()
    stamp.FromMilliseconds(int(seconds * 1000))
    return stamp


def to_json(message: Message) -> Dumped:
    """Return a message as JSON values in Envoy's field names, secrets blotted out."""
    return dict(json_format.MessageToDict(redacted(message), preserving_proto_field_name=True))


def redacted(message: Message) -> Message:
    """Return a copy in which fields that Envoy's API marks as sensitive hold `[redacted]`."""
    copy = type(message)()
    copy.CopyFrom(message)
    redact(copy, sensitive_here=False)
    return copy


def redact(message: Message, *, sensitive_here: bool) -> None:
    if isinstance(message, Any):
        redact_any(message, sensitive_here)
        return
    for field, value in message.ListFields():
        hidden = sensitive_here or field.GetOptions().Extensions[sensitive]
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            if kind.fields_by_name["value"].message_type is not None:
                for key in value:
                    redact(value[key], sensitive_here=hidden)
        elif kind is not None and field.is_repeated:
            for item in value:
                redact(item, sensitive_here=hidden)
        elif kind is not None:
            redact(value, sensitive_here=hidden)
        elif hidden and not field.is_repeated:
            blot_out(message, field.name, value)


def blot_out(message: Message, name: str, value: object) -> None:
    if isinstance(value, str):
        setattr(message, name, REDACTED)
    elif isinstance(value, bytes):
        setattr(message, name, REDACTED.encode())


def redact_any(message: Any, sensitive_here: bool) -> None:
    try:
        inner = message_class(type_name(message)).FromString(message.value)
    except (KeyError, DecodeError):
        message.Clear()  # what cannot be read cannot be searched for secrets
        return
    redact(inner, sensitive_here=sensitive_here)
    message.value = inner.SerializeToString()

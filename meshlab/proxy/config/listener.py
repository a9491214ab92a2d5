"""Read listeners (Envoy `Listener`)."""

from dataclasses import dataclass, field
from typing import Literal

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import (
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import Listener as ListenerMessage
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector

from meshlab.errors import ConfigError
from meshlab.proxy.config.access_log import compile_access_logs
from meshlab.proxy.config.address import compile_address
from meshlab.proxy.config.filter_chain import compile_filter_chain
from meshlab.proxy.config.protobuf import duration, join, type_name, wrapped
from meshlab.proxy.core.filter_chain import FilterChain, FilterChainMatch
from meshlab.proxy.core.listener import Inspector, Listener

DIRECTIONS: dict[int, Literal["unspecified", "inbound", "outbound"]] = {
    TrafficDirection.UNSPECIFIED: "unspecified",
    TrafficDirection.INBOUND: "inbound",
    TrafficDirection.OUTBOUND: "outbound",
}


@dataclass(slots=True)
class ListenerFilters:
    """What `listener_filters` asks for."""

    original_dst: bool = False
    inspectors: dict[str, Inspector] = field(default_factory=dict)
    """By the full name of their configuration."""


def compile_listener(message: ListenerMessage, path: str = "") -> Listener:
    """Return the listener; one without a name gets its address as name.

    Raises:
        ConfigError: with the path of the field.
    """
    address = compile_address(message.address, join(path, "address"))
    filters = compile_listener_filters(message, path)
    direction = DIRECTIONS[message.traffic_direction]
    reporter: Literal["source", "destination"] = (
        "destination" if direction == "inbound" else "source"
    )
    chains = tuple(
        compile_filter_chain(chain, reporter, f"{join(path, 'filter_chains')}[{index}]")
        for index, chain in enumerate(message.filter_chains)
    )
    check_chains(chains, path)
    has_default = message.HasField("default_filter_chain")
    if not chains and not has_default:
        raise ConfigError("must not be empty", field=join(path, "filter_chains"))
    return Listener(
        name=message.name or str(address),
        address=address,
        additional_addresses=tuple(
            compile_address(item.address, join(path, f"additional_addresses[{index}].address"))
            for index, item in enumerate(message.additional_addresses)
        ),
        bind_to_port=bool(
            wrapped(message, "bind_to_port", wrapped(message.deprecated_v1, "bind_to_port", True))
        ),
        use_original_dst=bool(wrapped(message, "use_original_dst", False)),
        original_dst_filter=filters.original_dst,
        tls_inspector=filters.inspectors.get(TlsInspector.DESCRIPTOR.full_name),
        http_inspector=filters.inspectors.get(HttpInspector.DESCRIPTOR.full_name),
        listener_filters_timeout=duration(message, "listener_filters_timeout", 15.0, path),
        continue_on_listener_filters_timeout=message.continue_on_listener_filters_timeout,
        filter_chains=chains,
        default_filter_chain=(
            compile_filter_chain(
                message.default_filter_chain, reporter, join(path, "default_filter_chain")
            )
            if has_default
            else None
        ),
        access_logs=compile_access_logs(message.access_log, join(path, "access_log")),
        traffic_direction=direction,
        stat_prefix=message.stat_prefix,
        reuse_port=bool(wrapped(message, "enable_reuse_port", message.reuse_port)),
        tcp_backlog=wrapped(message, "tcp_backlog_size", 4096),
        buffer_limit=wrapped(message, "per_connection_buffer_limit_bytes", 1024 * 1024),
        pipe_mode=message.address.pipe.mode,
    )


def check_chains(chains: tuple[FilterChain, ...], path: str) -> None:
    """Raise ConfigError for two chains with the same criteria: which one would be taken?"""
    owners: dict[FilterChainMatch, int] = {}
    for index, chain in enumerate(chains):
        other = owners.setdefault(chain.match, index)
        if other != index:
            raise ConfigError(
                f"has the same criteria as filter_chains[{other}]",
                field=f"{join(path, 'filter_chains')}[{index}].filter_chain_match",
            )


def compile_listener_filters(message: ListenerMessage, path: str) -> ListenerFilters:
    filters = ListenerFilters()
    for index, item in enumerate(message.listener_filters):
        place = f"{join(path, 'listener_filters')}[{index}]"
        name = type_name(item.typed_config)
        if name == OriginalDst.DESCRIPTOR.full_name:
            if item.HasField("filter_disabled"):
                raise ConfigError("is not supported here", field=join(place, "filter_disabled"))
            filters.original_dst = True
        elif name in (TlsInspector.DESCRIPTOR.full_name, HttpInspector.DESCRIPTOR.full_name):
            filters.inspectors[name] = compile_inspector(item, place)
        else:
            raise ConfigError(
                "is a listener filter that this proxy does not have",
                field=join(place, "typed_config"),
                found=name,
            )
    return filters


def compile_inspector(item: ListenerFilter, path: str) -> Inspector:
    if not item.HasField("filter_disabled"):
        return Inspector()
    return Inspector(
        disabled_port_ranges=port_ranges(item.filter_disabled, join(path, "filter_disabled"))
    )


def port_ranges(
    predicate: ListenerFilterChainMatchPredicate, path: str
) -> tuple[tuple[int, int], ...]:
    """Return the destination port ranges that a predicate is the union of."""
    kind = predicate.WhichOneof("rule")
    if kind == "destination_port_range":
        ports = predicate.destination_port_range
        return ((ports.start, ports.end),)
    if kind == "or_match":
        return tuple(
            ports
            for index, rule in enumerate(predicate.or_match.rules)
            for ports in port_ranges(rule, join(path, f"or_match.rules[{index}]"))
        )
    raise ConfigError("must be port ranges, joined by or_match", field=path, found=str(kind))

"""Read filter chains: which connections they take, TLS, network filters (Envoy `FilterChain`)."""

from collections.abc import Sequence
from typing import Literal

from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.listener.v3.listener_components_pb2 import FilterChain as FilterChainMessage
from envoy.config.listener.v3.listener_components_pb2 import FilterChainMatch as MatchMessage
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy as TcpProxyMessage

from meshlab.errors import ConfigError
from meshlab.proxy.config.http_connection_manager import compile_http_connection_manager
from meshlab.proxy.config.http_filter import (
    ISTIO_METADATA_EXCHANGE,
    ISTIO_STATS,
    Reporter,
    compile_istio_stats,
    config_type,
)
from meshlab.proxy.config.matcher import compile_cidrs
from meshlab.proxy.config.protobuf import duration, join, unpack, wrapped
from meshlab.proxy.config.tcp_proxy import compile_tcp_proxy
from meshlab.proxy.config.tls import compile_downstream_socket
from meshlab.proxy.core.filter_chain import FilterChain, FilterChainMatch, NetworkFilter
from meshlab.proxy.core.http_connection_manager import HttpConnectionManager, MetadataExchange
from meshlab.proxy.core.tcp_proxy import TcpProxy

SOURCE_TYPES: dict[int, Literal["any", "same_ip_or_loopback", "external"]] = {
    MatchMessage.ANY: "any",
    MatchMessage.SAME_IP_OR_LOOPBACK: "same_ip_or_loopback",
    MatchMessage.EXTERNAL: "external",
}


def compile_filter_chain(message: FilterChainMessage, reporter: Reporter, path: str) -> FilterChain:
    terminal, filters = compile_network_filters(message.filters, reporter, join(path, "filters"))
    return FilterChain(
        terminal=terminal,
        filters=filters,
        name=message.name,
        match=compile_filter_chain_match(
            message.filter_chain_match, join(path, "filter_chain_match")
        ),
        tls=(
            compile_downstream_socket(message.transport_socket, join(path, "transport_socket"))
            if message.HasField("transport_socket")
            else None
        ),
        transport_socket_connect_timeout=duration(
            message, "transport_socket_connect_timeout", 0.0, path
        ),
    )


def compile_network_filters(
    messages: Sequence[Filter], reporter: Reporter, path: str
) -> tuple[HttpConnectionManager | TcpProxy, tuple[NetworkFilter, ...]]:
    """Return (the filter that serves, those before it).

    Raises:
        ConfigError: none that serves, something behind it, a filter that this proxy does not have.
    """
    before: list[NetworkFilter] = []
    for index, message in enumerate(messages):
        place = join(f"{path}[{index}]", "typed_config")
        name = config_type(message.typed_config, place)
        terminal: HttpConnectionManager | TcpProxy
        if name == ISTIO_STATS:
            before.append(compile_istio_stats(message.typed_config, reporter, place))
            continue
        if name == ISTIO_METADATA_EXCHANGE:
            before.append(MetadataExchange())
            continue
        if name == hcm.HttpConnectionManager.DESCRIPTOR.full_name:
            manager = unpack(message.typed_config, hcm.HttpConnectionManager, place)
            terminal = compile_http_connection_manager(manager, reporter, place)
        elif name == TcpProxyMessage.DESCRIPTOR.full_name:
            proxy = unpack(message.typed_config, TcpProxyMessage, place)
            terminal = compile_tcp_proxy(proxy, place)
        else:
            raise ConfigError(
                "is a network filter that this proxy does not have", field=place, found=name
            )
        if index + 1 < len(messages):
            raise ConfigError("stands behind the filter that serves", field=f"{path}[{index + 1}]")
        return terminal, tuple(before)
    raise ConfigError("must end in http_connection_manager or tcp_proxy", field=path)


def compile_filter_chain_match(message: MatchMessage, path: str) -> FilterChainMatch:
    protocol = message.transport_protocol
    if protocol not in ("", "tls", "raw_buffer"):
        raise ConfigError(
            "is detected by no listener filter of this proxy",
            field=join(path, "transport_protocol"),
            found=protocol,
            allowed="tls, raw_buffer",
        )
    for index, name in enumerate(message.server_names):
        if "*" in name and not (name.startswith("*.") and name.count("*") == 1):
            raise ConfigError(
                "may have a wildcard for whole labels at the front only",
                field=f"{join(path, 'server_names')}[{index}]",
                found=name,
            )
    return FilterChainMatch(
        destination_port=wrapped(message, "destination_port", None),
        prefix_ranges=compile_cidrs(message.prefix_ranges, join(path, "prefix_ranges")),
        server_names=tuple(name.lower() for name in message.server_names),
        transport_protocol=protocol,
        application_protocols=tuple(message.application_protocols),
        direct_source_prefix_ranges=compile_cidrs(
            message.direct_source_prefix_ranges, join(path, "direct_source_prefix_ranges")
        ),
        source_type=SOURCE_TYPES[message.source_type],
        source_prefix_ranges=compile_cidrs(
            message.source_prefix_ranges, join(path, "source_prefix_ranges")
        ),
        source_ports=tuple(message.source_ports),
    )

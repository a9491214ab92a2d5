"""Which filter chain a connection gets (Envoy `FilterChainMatch`)."""

from dataclasses import dataclass
from typing import Literal

from meshlab.proxy.core.http_connection_manager import (
    HttpConnectionManager,
    IstioStats,
    MetadataExchange,
)
from meshlab.proxy.core.tcp_proxy import TcpProxy
from meshlab.proxy.core.tls import DownstreamTls


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChainMatch:
    """`listener.v3.FilterChainMatch`; an empty criterion takes everything."""

    destination_port: int | None = None
    prefix_ranges: tuple[str, ...] = ()
    """Destination addresses, CIDR notation."""
    server_names: tuple[str, ...] = ()
    """`a.b` or `*.b`; lower case."""
    transport_protocol: Literal["", "tls", "raw_buffer"] = ""
    application_protocols: tuple[str, ...] = ()
    direct_source_prefix_ranges: tuple[str, ...] = ()
    source_type: Literal["any", "same_ip_or_loopback", "external"] = "any"
    source_prefix_ranges: tuple[str, ...] = ()
    source_ports: tuple[int, ...] = ()


ANY_CONNECTION = FilterChainMatch()

NetworkFilter = IstioStats | MetadataExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChain:
    """`listener.v3.FilterChain`: network filters that only watch, and the one that serves."""

    terminal: HttpConnectionManager | TcpProxy
    filters: tuple[NetworkFilter, ...] = ()
    name: str = ""
    match: FilterChainMatch = ANY_CONNECTION
    tls: DownstreamTls | None = None
    """None: raw bytes."""
    transport_socket_connect_timeout: float = 0.0
    """Seconds for the TLS handshake; 0: none (then 15 s, as a guard)."""

"""Settings of a listener (Envoy `Listener`)."""

from dataclasses import dataclass
from typing import Literal

from meshlab.proxy.core.access_log import AccessLog
from meshlab.proxy.core.filter_chain import FilterChain


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect: an IP address and port, or the path of a unix socket."""

    host: str
    """An IP address, or a name where DNS is asked; "" for a unix socket."""
    port: int = 0
    path: str = ""
    """Unix socket; a leading `@` is the abstract namespace."""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspector:
    """`tls_inspector` or `http_inspector`, and where it stays off."""

    disabled_port_ranges: tuple[tuple[int, int], ...] = ()
    """`filter_disabled` by destination port: from, to (excluded)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """`listener.v3.Listener`; times in seconds."""

    name: str
    address: Address
    additional_addresses: tuple[Address, ...] = ()
    bind_to_port: bool = True
    """False: gets connections only from a `use_original_dst` listener."""
    use_original_dst: bool = False
    """Hand connections to the listener whose address is the original destination."""
    original_dst_filter: bool = False
    """`listener_filters` has `envoy.filters.listener.original_dst`: restore the destination."""
    tls_inspector: Inspector | None = None
    http_inspector: Inspector | None = None
    listener_filters_timeout: float = 15.0
    """0: none."""
    continue_on_listener_filters_timeout: bool = False
    filter_chains: tuple[FilterChain, ...] = ()
    default_filter_chain: FilterChain | None = None
    access_logs: tuple[AccessLog, ...] = ()
    traffic_direction: Literal["unspecified", "inbound", "outbound"] = "unspecified"
    stat_prefix: str = ""
    reuse_port: bool = False
    tcp_backlog: int = 4096
    buffer_limit: int = 1024 * 1024
    """`per_connection_buffer_limit_bytes`."""
    pipe_mode: int = 0
    """Mode of a unix socket; 0: the process's umask decides."""

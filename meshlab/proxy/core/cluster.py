"""Settings of an upstream cluster and its endpoints (Envoy `Cluster`, `ClusterLoadAssignment`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from meshlab.proxy.core.circuit_breaker import DEFAULT_BREAKERS, CircuitBreakers
from meshlab.proxy.core.http_connection_manager import MetadataExchange
from meshlab.proxy.core.listener import Address
from meshlab.proxy.core.outlier_detection import OutlierDetection
from meshlab.proxy.core.tls import UpstreamTls

Metadata = Mapping[str, Mapping[str, object]]
"""`filter_metadata`: name of the filter → values (`istio`, `envoy.transport_socket_match`)."""

HealthStatus = Literal["unknown", "healthy", "unhealthy", "draining", "timeout", "degraded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`endpoint.v3.LbEndpoint`."""

    address: Address
    hostname: str = ""
    health: HealthStatus = "unknown"
    weight: int = 1
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Locality:
    """`core.v3.Locality`."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


NOWHERE = Locality()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityEndpoints:
    """`endpoint.v3.LocalityLbEndpoints`."""

    endpoints: tuple[Endpoint, ...]
    locality: Locality = NOWHERE
    weight: int | None = None
    """`load_balancing_weight`; counts only with `Cluster.locality_weighted`."""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAssignment:
    """`endpoint.v3.ClusterLoadAssignment`."""

    cluster_name: str
    localities: tuple[LocalityEndpoints, ...] = ()
    overprovisioning_factor: int = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSocketMatch:
    """`cluster.v3.Cluster.TransportSocketMatch`: the socket for endpoints with such metadata."""

    name: str
    match: Mapping[str, object]
    """All must stand in the endpoint's `envoy.transport_socket_match` metadata; {}: any."""
    tls: UpstreamTls | None
    """None: raw bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpKeepalive:
    """`core.v3.TcpKeepalive`; None: the system's value. Seconds."""

    probes: int | None = None
    time: int | None = None
    interval: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """`cluster.v3.Cluster` with Envoy's defaults; times in seconds."""

    name: str
    type: Literal["static", "strict_dns", "logical_dns", "eds", "original_dst"] = "static"
    stat_name: str = ""
    """`alt_stat_name`; "": the name."""
    connect_timeout: float = 5.0
    load_assignment: LoadAssignment | None = None
    """For `static`, `strict_dns` and `logical_dns`."""
    eds_service_name: str = ""
    """Key into the snapshot's endpoints; "": the name."""
    lb_policy: Literal["round_robin", "least_request", "random", "cluster_provided"] = "round_robin"
    choice_count: int = 2
    """`least_request`: how many hosts are compared."""
    active_request_bias: float = 1.0
    healthy_panic_percent: float = 50.0
    """0: never panic."""
    locality_weighted: bool = False
    circuit_breakers: CircuitBreakers = DEFAULT_BREAKERS
    outlier_detection: OutlierDetection | None = None
    tls: UpstreamTls | None = None
    transport_socket_matches: tuple[TransportSocketMatch, ...] = ()
    """In order; no match: `tls`."""
    filters: tuple[MetadataExchange, ...] = ()
    """Network filters of upstream connections."""
    bind_source: str = ""
    """`upstream_bind_config.source_address`; "": the system chooses."""
    tcp_keepalive: TcpKeepalive | None = None
    max_requests_per_connection: int = 0
    idle_timeout: float = 3600.0
    """Of pooled HTTP connections; 0: none."""
    max_connection_duration: float = 0.0
    max_response_headers_bytes: int = 60 * 1024
    max_response_headers_count: int = 100
    enable_trailers: bool = False
    buffer_limit: int = 1024 * 1024
    dns_refresh_rate: float = 5.0
    respect_dns_ttl: bool = False
    dns_lookup_family: Literal["auto", "v4_only", "v6_only", "v4_preferred", "all"] = "auto"
    original_dst_http_header: bytes = b""
    """`use_http_header` (then `x-envoy-original-dst-host`) or the header of that name."""
    original_dst_port: int = 0
    """`upstream_port_override`."""
    cleanup_interval: float = 5.0
    metadata: Metadata = field(default_factory=dict)

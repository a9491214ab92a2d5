"""DestinationRule: what holds on the way to a host, after routing (networking.istio.io).

Every field that Istio has is here; `meshlab.control.validate` says which are not done yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from meshlab.api.field import Duration, Int32, UInt32, UInt64
from meshlab.api.istio.peer_authentication import WorkloadSelector
from meshlab.api.istio.virtual_service import PortSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPCookieAttribute:
    """An attribute of a generated cookie, such as `SameSite`."""

    name: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPCookie:
    """The cookie that is hashed; made by the proxy where it is missing."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[HTTPCookieAttribute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RingHash:
    """Ketama ring."""

    minimum_ring_size: UInt64 | None = None
    """Missing: 1024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maglev:
    """Maglev table."""

    table_size: UInt64 | None = None
    """Missing: 65537."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistentHash:
    """Requests with one key go to one endpoint."""

    ONE_OF: ClassVar = (
        ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),
        ("ringHash", "maglev"),
    )
    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: UInt64 | None = None
    """Deprecated by `ringHash.minimumRingSize`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityDistribute:
    """Shares by locality."""

    from_: str = ""
    """`region/zone/subzone`, `*` as a wildcard."""
    to: Mapping[str, UInt32] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityFailover:
    """Where traffic of a region goes when the region is unhealthy."""

    from_: str = ""
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityLbSetting:
    """Balancing by locality."""

    distribute: tuple[LocalityDistribute, ...] = ()
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """New endpoints get their share gradually."""

    duration: Duration
    minimum_percent: float | None = None
    """Missing: 10."""
    aggression: float | None = None
    """Missing: 1.0, linear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneAwareLbSetting:
    """Balancing by zone, as Envoy does it."""

    enabled: bool | None = None
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: UInt64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerSettings:
    """Which endpoint gets the next request."""

    ONE_OF: ClassVar = (("simple", "consistentHash"), ("localityLbSetting", "zoneAwareLbSetting"))
    simple: (
        Literal[
            "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"
        ]
        | None
    ) = None
    """Missing: LEAST_REQUEST; LEAST_CONN is its old name."""
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    warmup_duration_secs: Duration | None = None
    """Deprecated by `warmup`."""
    warmup: Warmup | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpKeepalive:
    """SO_KEEPALIVE; what is missing is the operating system's."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPSettings:
    """Limits of connections."""

    max_connections: Int32 = 0
    """Per proxy and cluster; 0 means no limit."""
    connect_timeout: Duration | None = None
    """Missing: the mesh's, 10s."""
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None
    """Of TCP connections; missing: 1h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2KeepAlive:
    """HTTP/2 PING on idle connections."""

    interval: Duration | None = None
    timeout: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPSettings:
    """Limits of requests; 0 means no limit."""

    http1_max_pending_requests: Int32 = 0
    """Requests that wait for a connection."""
    http2_max_requests: Int32 = 0
    """Requests under way, with HTTP/1.1 too."""
    max_requests_per_connection: Int32 = 0
    """1 switches keep-alive off."""
    max_retries: Int32 = 0
    """Retries under way."""
    idle_timeout: Duration | None = None
    """Of upstream connections without requests; missing: 1h."""
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: Http2KeepAlive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPoolSettings:
    """Limits on the way to a host; they hold in front of the server as well."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When an endpoint that fails is left out; without this block: never."""

    consecutive_errors: Int32 = 0
    """Removed from Istio; ignored."""
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    """Missing: 5."""
    consecutive_gateway_errors: UInt32 | None = None
    """502, 503, 504 in a row; missing or 0: off."""
    consecutive_5xx_errors: UInt32 | None = None
    """5xx in a row; missing: 5; 0: off."""
    interval: Duration | None = None
    """Between sweeps; missing: 10s."""
    base_ejection_time: Duration | None = None
    """Times the number of ejections; missing: 30s."""
    max_ejection_percent: Int32 = 0
    """Share of endpoints that may be out at once; 0: Envoy's 10, but always at least one."""
    min_health_percent: Int32 = 0
    """Below this share of healthy endpoints all are used (panic); 0: never."""
    outlier_detection_http_error_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTLSSettings:
    """TLS towards the host."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    """ISTIO_MUTUAL uses the workload's own mesh certificate."""
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    """Missing with ISTIO_MUTUAL: the identities of the service's service accounts."""
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTrafficPolicy:
    """The policy of one port; replaces the whole policy, nothing is inherited."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSettings:
    """HTTP CONNECT around outbound connections."""

    protocol: str = ""
    target_host: str
    target_port: UInt32


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProtocol:
    """PROXY protocol header on upstream connections."""

    version: Literal["V1", "V2"] = "V1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """Retries as a share of requests under way."""

    percent: float | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    """What holds on the way to a host or subset."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A named part of a host's endpoints."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Endpoints that carry all of them; empty: all endpoints."""
    traffic_policy: TrafficPolicy | None = None
    """Overlays the host's policy, field by field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRule:
    """What holds on the way to a host, after routing."""

    host: str
    """A service; a short name is completed with the object's namespace; `*.` is a wildcard."""
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None
    """Clients that it holds for; missing: all."""

"""Settings of the HTTP connection manager and its filters (Envoy `HttpConnectionManager`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from meshlab.proxy.core.access_log import AccessLog
from meshlab.proxy.core.fault import Fault
from meshlab.proxy.core.route import RouteConfiguration


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """`router.v3.Router`, the last HTTP filter."""

    suppress_envoy_headers: bool = False
    """No `x-envoy-upstream-service-time` and the like."""
    dynamic_stats: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioStats:
    """`istio.stats`: Istio's standard metrics, HTTP or TCP."""

    reporter: Literal["source", "destination"]
    """From the listener's traffic direction: outbound is source. Gateways are source, too."""
    disable_host_header_fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataExchange:
    """`istio.metadata_exchange`: who the peer is, by header (HTTP) or preface (TCP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alpn:
    """`istio.alpn`: the ALPN offered upstream by the upstream's protocol."""

    http1: tuple[str, ...] = ("istio-http/1.1", "istio", "http/1.1")
    """`alpn_override` of the entry with upstream protocol HTTP11."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noop:
    """A filter that changes nothing for HTTP/1 (`grpc_stats` without gRPC)."""

    name: str


HttpFilter = Fault | Router | IstioStats | MetadataExchange | Alpn | Noop


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificateDetails:
    """`set_current_client_cert_details`: parts of XFCC besides By and Hash."""

    subject: bool = False
    cert: bool = False
    chain: bool = False
    dns: bool = False
    uri: bool = False


NO_DETAILS = ClientCertificateDetails()

ForwardClientCertificate = Literal[
    "sanitize", "forward_only", "append_forward", "sanitize_set", "always_forward_only"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnectionManager:
    """`http_connection_manager.v3.HttpConnectionManager`, Envoy's defaults; seconds."""

    stat_prefix: str
    rds_name: str = ""
    """Name of the `RouteConfiguration` in the snapshot; "": `route_config`."""
    route_config: RouteConfiguration | None = None
    http_filters: tuple[HttpFilter, ...] = ()
    """In order; the last is a `Router`."""
    access_logs: tuple[AccessLog, ...] = ()
    server_name: bytes = b"envoy"
    server_header: Literal["overwrite", "append_if_absent", "pass_through"] = "overwrite"
    scheme_overwrite: Literal["", "http", "https"] = ""
    """`scheme_header_transformation.scheme_to_overwrite`."""
    use_remote_address: bool = False
    xff_num_trusted_hops: int = 0
    skip_xff_append: bool = False
    internal_addresses: tuple[str, ...] | None = None
    """CIDRs of `internal_address_config`; none: every client is from outside, Envoy's default."""
    via: bytes = b""
    generate_request_id: bool = True
    preserve_external_request_id: bool = False
    always_set_request_id_in_response: bool = False
    forward_client_cert: ForwardClientCertificate = "sanitize"
    client_cert_details: ClientCertificateDetails = NO_DETAILS
    normalize_path: bool = False
    merge_slashes: bool = False
    escaped_slashes: Literal["keep", "reject", "unescape_redirect", "unescape_forward"] = "keep"
    strip_matching_host_port: bool = False
    strip_any_host_port: bool = False
    upgrades: Mapping[bytes, bool] = field(default_factory=dict)
    """`upgrade_configs` by lower-case name (`websocket`): enabled or not."""
    proxy_100_continue: bool = False
    stream_idle_timeout: float = 300.0
    request_timeout: float = 0.0
    request_headers_timeout: float = 0.0
    idle_timeout: float = 3600.0
    max_connection_duration: float = 0.0
    max_stream_duration: float = 0.0
    max_requests_per_connection: int = 0
    drain_timeout: float = 5.0
    delayed_close_timeout: float = 1.0
    max_request_headers_bytes: int = 60 * 1024
    max_headers_count: int = 100
    accept_http_10: bool = False
    default_host_for_http_10: bytes = b""
    enable_trailers: bool = False
    allow_absolute_url: bool = True
    headers_with_underscores: Literal["allow", "reject_request", "drop_header"] = "allow"
    stream_error_on_invalid_http: bool = False

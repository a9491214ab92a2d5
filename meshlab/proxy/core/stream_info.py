"""What is known of a request (or TCP connection): read by access logs, formats and statistics."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshlab.proxy.core.head import Headers

# Response flags as bits, with Envoy's short and long names; the order is Envoy's order of printing.
FLAGS = (
    ("LH", "FailedLocalHealthCheck"),
    ("UH", "NoHealthyUpstream"),
    ("UT", "UpstreamRequestTimeout"),
    ("LR", "LocalReset"),
    ("UR", "UpstreamRemoteReset"),
    ("UF", "UpstreamConnectionFailure"),
    ("UC", "UpstreamConnectionTermination"),
    ("UO", "UpstreamOverflow"),
    ("NR", "NoRouteFound"),
    ("DI", "DelayInjected"),
    ("FI", "FaultInjected"),
    ("RL", "RateLimited"),
    ("UAEX", "UnauthorizedExternalService"),
    ("RLSE", "RateLimitServiceError"),
    ("DC", "DownstreamConnectionTermination"),
    ("URX", "UpstreamRetryLimitExceeded"),
    ("SI", "StreamIdleTimeout"),
    ("IH", "InvalidEnvoyRequestHeaders"),
    ("DPE", "DownstreamProtocolError"),
    ("UMSDR", "UpstreamMaxStreamDurationReached"),
    ("RFCF", "ResponseFromCacheFilter"),
    ("NFCF", "NoFilterConfigFound"),
    ("DT", "DurationTimeout"),
    ("UPE", "UpstreamProtocolError"),
    ("NC", "NoClusterFound"),
    ("OM", "OverloadManagerTerminated"),
    ("DF", "DnsResolutionFailed"),
    ("DO", "DropOverload"),
    ("DR", "DownstreamRemoteReset"),
    ("UDO", "UnconditionalDropOverload"),
)
BIT = {short: 1 << place for place, (short, _) in enumerate(FLAGS)}

UH = BIT["UH"]
UT = BIT["UT"]
LR = BIT["LR"]
UR = BIT["UR"]
UF = BIT["UF"]
UC = BIT["UC"]
UO = BIT["UO"]
NR = BIT["NR"]
DI = BIT["DI"]
FI = BIT["FI"]
DC = BIT["DC"]
URX = BIT["URX"]
SI = BIT["SI"]
DPE = BIT["DPE"]
UMSDR = BIT["UMSDR"]
DT = BIT["DT"]
UPE = BIT["UPE"]
NC = BIT["NC"]
OM = BIT["OM"]


def flag_names(flags: int) -> str:
    """Return the short names, `UF,URX`; `-` for none."""
    if not flags:
        return "-"
    return ",".join(short for place, (short, _) in enumerate(FLAGS) if flags >> place & 1)


def flag_long_names(flags: int) -> str:
    if not flags:
        return "-"
    return ",".join(long for place, (_, long) in enumerate(FLAGS) if flags >> place & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """What the other side's certificate (or our own) says."""

    subject: str = ""
    """RFC 2253, last part of the name first."""
    issuer: str = ""
    serial: str = ""
    """Hexadecimal, lower case."""
    sha256: str = ""
    """Fingerprint of the DER form, hexadecimal, lower case."""
    uri_sans: tuple[str, ...] = ()
    dns_sans: tuple[str, ...] = ()
    email_sans: tuple[str, ...] = ()
    ip_sans: tuple[str, ...] = ()
    not_before: float = 0.0
    """Unix seconds."""
    not_after: float = 0.0
    pem: str = ""
    """URL-encoded, as XFCC carries it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeerMetadata:
    """The workload at the other end, as Istio's metrics name it; "" is not known.

    Compared by identity: each peer's is decoded once, and then a key of its metrics.
    """

    id: str = ""
    """Node id, or "" where it did not say."""
    name: str = ""
    namespace: str = ""
    workload: str = ""
    cluster: str = ""
    app: str = ""
    version: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""
    labels: Mapping[str, str] | None = None
    owner: str = ""


class ConnectionInfo:
    """A downstream connection. Addresses are `ip:port`, or the path of a socket."""

    __slots__ = (
        "alpn",
        "id",
        "local_address",
        "local_certificate",
        "peer_certificate",
        "peer_metadata",
        "prepared",
        "remote_address",
        "requested_server_name",
        "start_time",
        "tls_cipher",
        "tls_version",
        "traffic_direction",
        "transport_failure_reason",
    )

    def __init__(self, id: int, local_address: str, remote_address: str) -> None:  # noqa: A002 - Envoy's %CONNECTION_ID%
        self.id = id
        self.local_address = local_address
        """The original destination where it was restored."""
        self.remote_address = remote_address
        self.requested_server_name = ""
        self.tls_version = ""
        """`TLSv1.3`; "" without TLS."""
        self.tls_cipher = ""
        self.alpn = ""
        self.local_certificate: PeerCertificate | None = None
        self.peer_certificate: PeerCertificate | None = None
        self.peer_metadata: PeerMetadata | None = None
        """TCP metadata exchange."""
        self.transport_failure_reason = ""
        self.start_time = 0.0
        self.traffic_direction = "unspecified"
        self.prepared: object = None
        """The shell's TLS context until the handshake is checked."""


class StreamInfo:
    """One request, or one TCP connection (then `method` is empty). Made new for each, kept by logs.

    Times are seconds of the monotonic clock, 0.0 what did not happen; only `start_time` is of the
    wall clock (unix seconds). Bodies and wire bytes are counted as they pass.
    """

    __slots__ = (
        "attempt_count",
        "authority",
        "bytes_received",
        "bytes_sent",
        "connection",
        "connection_termination_details",
        "downstream_peer",
        "downstream_remote_address",
        "end",
        "first_downstream_byte_sent",
        "first_upstream_byte_received",
        "first_upstream_byte_sent",
        "flags",
        "last_downstream_byte_received",
        "last_upstream_byte_received",
        "method",
        "path",
        "protocol",
        "request_headers",
        "request_id",
        "response_code",
        "response_code_details",
        "response_headers",
        "response_trailers",
        "route_metadata",
        "route_name",
        "scheme",
        "start",
        "start_time",
        "upstream_bytes_received",
        "upstream_bytes_sent",
        "upstream_certificate",
        "upstream_cluster",
        "upstream_cluster_metadata",
        "upstream_host",
        "upstream_host_metadata",
        "upstream_local_address",
        "upstream_own_certificate",
        "upstream_peer",
        "upstream_tls_version",
        "upstream_transport_failure_reason",
        "virtual_host",
    )

    def __init__(self, connection: ConnectionInfo, start_time: float, start: float) -> None:
        self.connection = connection
        self.start_time = start_time
        self.start = start
        self.end = 0.0
        self.first_upstream_byte_sent = 0.0
        self.first_upstream_byte_received = 0.0
        self.last_upstream_byte_received = 0.0
        self.first_downstream_byte_sent = 0.0
        self.last_downstream_byte_received = 0.0
        self.protocol = ""
        """`HTTP/1.1`; "" for TCP."""
        self.method = b""
        self.path = b""
        """With its query, as it goes upstream; `x-envoy-original-path` is the one before."""
        self.authority = b""
        self.scheme = b"http"
        self.request_id = b""
        self.request_headers: Headers | None = None
        """As they went upstream (or would have)."""
        self.response_headers: Headers | None = None
        """As they went downstream."""
        self.response_trailers: Headers | None = None
        self.bytes_received = 0
        """Body bytes (TCP: all bytes) from downstream."""
        self.bytes_sent = 0
        self.upstream_bytes_sent = 0
        self.upstream_bytes_received = 0
        self.response_code = 0
        """0: there was no answer."""
        self.flags = 0
        """Bits of `FLAGS`."""
        self.response_code_details = ""
        self.connection_termination_details = ""
        self.upstream_cluster = ""
        """The name; "" when none was chosen."""
        self.upstream_cluster_metadata: Mapping[str, Mapping[str, object]] | None = None
        self.upstream_host = ""
        self.upstream_host_metadata: Mapping[str, Mapping[str, object]] | None = None
        self.upstream_local_address = ""
        self.upstream_transport_failure_reason = ""
        self.upstream_certificate: PeerCertificate | None = None
        """The upstream peer's; the next one is our own towards it."""
        self.upstream_own_certificate: PeerCertificate | None = None
        self.upstream_tls_version = ""
        self.upstream_peer: PeerMetadata | None = None
        self.downstream_peer: PeerMetadata | None = None
        self.downstream_remote_address = connection.remote_address
        """Of the client that x-forwarded-for names, when it is trusted."""
        self.attempt_count = 0
        self.route_name = ""
        self.virtual_host = ""
        self.route_metadata: Mapping[str, Mapping[str, object]] | None = None

    @property
    def request_headers_bytes(self) -> int:
        """Names and values of the request's headers, as Envoy counts them."""
        return self.request_headers.size() if self.request_headers is not None else 0

    @property
    def response_headers_bytes(self) -> int:
        return self.response_headers.size() if self.response_headers is not None else 0

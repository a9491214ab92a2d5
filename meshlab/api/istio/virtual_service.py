"""VirtualService: how requests to a host are routed (networking.istio.io).

Every field that Istio has is here, so that none is pruned before it can be named;
`meshlab.control.validate` says which of them the mesh does not do yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from meshlab.api.field import Bytes, DocumentName, Duration, Int32, UInt32

REDIRECT_CODES = (301, 302, 303, 307, 308)
MAX_DIRECT_RESPONSE = 1024 * 1024
"""Bytes in the body of a direct response."""
GRPC_STATUS = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""Names in the order of their codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StringMatch:
    """How a text is compared; none set: the text must be present."""

    ONE_OF: ClassVar = (("exact", "prefix", "regex"),)
    exact: str | None = None
    """The whole text, case-sensitive."""
    prefix: str | None = None
    """The text's beginning; for a URI a raw string prefix, not one of path segments."""
    regex: str | None = None
    """RE2 syntax; must match the whole text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSelector:
    """A port of the destination."""

    number: UInt32 | None = None
    """The service's port, not the pod's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a request goes."""

    host: str
    """A service; a short name is completed with the namespace of the VirtualService."""
    subset: str = ""
    """Name of a subset in the host's DestinationRule."""
    port: PortSelector | None = None
    """Missing: the service's only port, else the port the request came to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """The VirtualService that decides for this route."""

    name: str = ""
    namespace: str = ""
    """Missing: the namespace of the VirtualService that delegates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOperations:
    """What is done to the headers of a message: set, then add, then remove."""

    set: Mapping[str, str] = field(default_factory=dict)
    """Overwrite."""
    add: Mapping[str, str] = field(default_factory=dict)
    """Append to what is there."""
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """Header operations on requests and responses."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPMatchRequest:
    """Conditions that must all hold; a route applies when one of its entries does."""

    name: str = ""
    """Added to the route's name in logs: `<route>.<match>`."""
    uri: StringMatch | None = None
    """The path without the query."""
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    """The Host header."""
    headers: Mapping[str, StringMatch] = field(default_factory=dict)
    """Lower-case names; values are compared case-sensitively."""
    port: UInt32 = 0
    """The port of the host that is addressed; 0: any."""
    source_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that the calling workload must have; ignored for gateways."""
    gateways: tuple[str, ...] = ()
    """Gateways where this entry applies, instead of the VirtualService's."""
    query_params: Mapping[str, StringMatch] = field(default_factory=dict)
    ignore_uri_case: bool = False
    """Compare `uri` without regard to case; not for regex."""
    without_headers: Mapping[str, StringMatch] = field(default_factory=dict)
    """Headers that must not match; a missing header counts as empty."""
    source_namespace: str = ""
    """Namespace that the calling workload must be in."""
    stat_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteDestination:
    """One share of the traffic of a route."""

    destination: Destination
    weight: Int32 = 0
    """Share relative to the sum of all weights; the only entry takes everything."""
    headers: Headers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRedirect:
    """Answer with a redirect instead of forwarding."""

    ONE_OF: ClassVar = (("port", "derivePort"), ("uri", "prefixRewrite"))
    uri: str = ""
    """The new path; "" keeps it."""
    prefix_rewrite: str = ""
    """Replaces the matched prefix of the path."""
    authority: str = ""
    """The new host; "" keeps it."""
    port: UInt32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    redirect_code: UInt32 = 301
    """301, 302, 303, 307 or 308."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPBody:
    """A body that is sent as it stands."""

    ONE_OF: ClassVar = (("string", "bytes"),)
    string: str | None = None
    bytes: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPDirectResponse:
    """Answer with a fixed response instead of forwarding."""

    status: UInt32
    body: HTTPBody | None = None
    """At most 1 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexRewrite:
    """Rewrite of the whole path by a regular expression."""

    match: str = ""
    """RE2 syntax."""
    rewrite: str = ""
    r"""What replaces each match; `\1` is the first group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRewrite:
    """What is changed in the request before it is forwarded."""

    ONE_OF: ClassVar = (("uri", "uriRegexRewrite"),)
    uri: str = ""
    """Replaces the matched prefix; the whole path when the match is exact or a regex."""
    authority: str = ""
    """The new Host header."""
    uri_regex_rewrite: RegexRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRetry:
    """When and how often a request is sent again."""

    attempts: Int32 = 0
    """Tries after the first; 0: no retries at all."""
    per_try_timeout: Duration | None = None
    """Missing: only the route's own timeout counts."""
    retry_on: str = ""
    """Envoy's conditions and status codes, by commas; "" means Istio's default conditions."""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    """Prefer hosts that were not tried yet; missing means true."""
    backoff: Duration | None = None
    """Base of the exponential back-off; missing means 25ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percent:
    """A share of requests."""

    value: float = 0.0
    """0.0 to 100.0, in steps of a ten-thousandth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDelay:
    """Requests that are held back before they are forwarded."""

    ONE_OF: ClassVar = (("fixedDelay", "exponentialDelay"),)
    percent: Int32 = 0
    """Deprecated by `percentage`."""
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    """Accepted and ignored, as Istio does."""
    percentage: Percent | None = None
    """Missing: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultAbort:
    """Requests that are answered with an error instead of being forwarded."""

    ONE_OF: ClassVar = (("httpStatus", "grpcStatus", "http2Error"),)
    http_status: Int32 | None = None
    grpc_status: str | None = None
    """Name of the code, `UNAVAILABLE`."""
    http2_error: str | None = None
    """Accepted and ignored, as Istio does."""
    percentage: Percent | None = None
    """Missing: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPFaultInjection:
    """Faults that are made on purpose."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPMirrorPolicy:
    """A copy of the traffic whose answers nobody reads."""

    destination: Destination
    percentage: Percent | None = None
    """Missing: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsPolicy:
    """Cross-origin requests (Fetch standard)."""

    allow_origin: tuple[str, ...] = ()
    """Deprecated by `allowOrigins`."""
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRoute:
    """One rule; rules are tried in order and the first that matches decides."""

    name: str = ""
    """Shown in access logs."""
    match: tuple[HTTPMatchRequest, ...] = ()
    """One of them must hold; none: every request matches."""
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    """From request to the end of the response, retries included; missing or 0: none."""
    retries: HTTPRetry | None = None
    """Missing: 2 retries on failures where nothing can have happened."""
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    """Deprecated by `mirrorPercentage`."""
    mirror_percent_old: Annotated[UInt32 | None, DocumentName("mirror_percent")] = None
    """Deprecated by `mirrorPercentage`."""
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDestination:
    """One share of the connections of a TCP or TLS route."""

    destination: Destination
    weight: Int32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSMatchAttributes:
    """Conditions on a TLS connection that is not decrypted."""

    sni_hosts: tuple[str, ...]
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: Mapping[str, str] = field(default_factory=dict)
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSRoute:
    """A rule for TLS connections, by the name they ask for."""

    match: tuple[TLSMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class L4MatchAttributes:
    """Conditions on a TCP connection."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: Mapping[str, str] = field(default_factory=dict)
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPRoute:
    """A rule for TCP connections."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """How requests to a host are routed."""

    hosts: tuple[str, ...] = ()
    """Host names; a short one is completed with the object's namespace; `*.` is a wildcard."""
    gateways: tuple[str, ...] = ()
    """`[namespace/]name` of gateways, or `mesh` for the sidecars; none means `mesh`."""
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()
    """Namespaces that see it: `.` its own, `*` all (also when empty)."""

"""Which virtual host and route a request takes, and what that route does (Envoy's RDS)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from meshlab.proxy.core.fault import Fault
from meshlab.proxy.core.header_mutation import NO_MUTATION, HeaderMutation
from meshlab.proxy.core.matcher import Fraction, HeaderMatch, QueryMatch
from meshlab.proxy.core.retry import RetryPolicy
from meshlab.proxy.core.weighted_cluster import WeightedCluster


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMatch:
    """The test of the path, without its query (`route.v3.RouteMatch.path_specifier`)."""

    kind: Literal["exact", "prefix", "regex", "separated_prefix"]
    """`separated_prefix`: whole segments only (`path_separated_prefix`)."""
    value: bytes
    case_sensitive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """`route.v3.RouteMatch`: all must hold."""

    path: PathMatch
    headers: tuple[HeaderMatch, ...] = ()
    query_parameters: tuple[QueryMatch, ...] = ()
    runtime_fraction: Fraction | None = None
    grpc: bool = False
    """Only requests whose content-type is `application/grpc…`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexRewrite:
    r"""`type.matcher.v3.RegexMatchAndSubstitute`; the substitution is in RE2's form (`\1`)."""

    pattern: bytes
    substitution: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAction:
    """Where a request goes, and how (`route.v3.RouteAction`); times in seconds."""

    cluster: str = ""
    weighted_clusters: tuple[WeightedCluster, ...] = ()
    cluster_header: bytes = b""
    """Exactly one of the three is set."""
    cluster_not_found_code: int = 503
    timeout: float = 15.0
    """0: none."""
    idle_timeout: float | None = None
    """None: the connection manager's `stream_idle_timeout`; 0: none."""
    retry: RetryPolicy | None = None
    """None: the virtual host's."""
    prefix_rewrite: bytes = b""
    regex_rewrite: RegexRewrite | None = None
    host_rewrite: bytes = b""
    auto_host_rewrite: bool = False
    """The endpoint's hostname becomes the host."""
    host_rewrite_header: bytes = b""
    append_x_forwarded_host: bool = False
    priority: Literal["default", "high"] = "default"
    upgrades: Mapping[bytes, bool] = field(default_factory=dict)
    """`upgrade_configs` by lower-case name: enabled or not; over the connection manager's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """`route.v3.RedirectAction`."""

    response_code: Literal[301, 302, 303, 307, 308] = 301
    scheme: bytes = b""
    """`https_redirect` is scheme `https`."""
    host: bytes = b""
    port: int = 0
    path: bytes = b""
    prefix_rewrite: bytes = b""
    regex_rewrite: RegexRewrite | None = None
    strip_query: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResponse:
    """`route.v3.DirectResponseAction`."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`route.v3.Route`."""

    match: RouteMatch
    action: RouteAction | Redirect | DirectResponse
    name: str = ""
    request_headers: HeaderMutation = NO_MUTATION
    response_headers: HeaderMutation = NO_MUTATION
    decorator: str = ""
    """`decorator.operation`."""
    decorator_propagate: bool = True
    fault: Fault | None = None
    """`typed_per_filter_config["envoy.filters.http.fault"]`."""
    metadata: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """`metadata.filter_metadata`."""
    stat_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """`route.v3.VirtualHost`."""

    name: str
    domains: tuple[bytes, ...]
    """`a.b`, `*.b`, `a.*` or `*`; in lower case."""
    routes: tuple[Route, ...] = ()
    request_headers: HeaderMutation = NO_MUTATION
    response_headers: HeaderMutation = NO_MUTATION
    require_tls: Literal["none", "external_only", "all"] = "none"
    retry: RetryPolicy | None = None
    include_request_attempt_count: bool = False
    include_attempt_count_in_response: bool = False
    fault: Fault | None = None
    metadata: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfiguration:
    """`route.v3.RouteConfiguration`."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...] = ()
    request_headers: HeaderMutation = NO_MUTATION
    response_headers: HeaderMutation = NO_MUTATION
    internal_only_headers: tuple[bytes, ...] = ()
    """Removed from requests that come from outside."""
    ignore_port_in_host_matching: bool = False
    most_specific_header_mutations_wins: bool = False
    max_direct_response_body_size: int = 4096

"""Which virtual host and route a request takes, and what that route does (Envoy's RDS)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from meshlab.errors import ConfigError
from meshlab.proxy.core.fault import CompiledFault, Fault
from meshlab.proxy.core.header_mutation import NO_MUTATION, HeaderMutation, compile_mutations
from meshlab.proxy.core.http1 import RequestHead
from meshlab.proxy.core.matcher import (
    Fraction,
    HeaderMatch,
    QueryMatch,
    StringMatch,
    compile_query,
    compile_string,
)
from meshlab.proxy.core.path import compile_regex_rewrite, split
from meshlab.proxy.core.request_match import compile_headers
from meshlab.proxy.core.retry import Retry, RetryPolicy
from meshlab.proxy.core.weighted_cluster import WeightedCluster, WeightTable


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


Test = Callable[[RequestHead, bytes, bytes, float], bool]
"""(head, path, query with its `?`, draw from [0, 1)) → whether the route takes the request."""


class CompiledRoute:
    """A route with everything decided that can be decided before the request.

    Attributes:
        weights: None with a single cluster.
        rewrite: path → new path; None for no rewrite.
    """

    __slots__ = (
        "action",
        "config",
        "fault",
        "host",
        "matches",
        "mutate_request",
        "mutate_response",
        "retry",
        "rewrite",
        "weights",
    )

    def __init__(
        self, config: Route, host: VirtualHost, table: RouteConfiguration, path: str
    ) -> None:
        self.config = config
        self.host = host
        self.action = config.action
        self.matches = compile_match(config.match, f"{path}.match")
        levels = [config.request_headers, host.request_headers, table.request_headers]
        answers = [config.response_headers, host.response_headers, table.response_headers]
        if table.most_specific_header_mutations_wins:  # then the most specific speaks last
            levels.reverse()
            answers.reverse()
        self.mutate_request = compile_mutations(levels)
        self.mutate_response = compile_mutations(answers)
        fault = config.fault or host.fault
        self.fault = CompiledFault(fault) if fault else None
        self.retry: Retry | None = None
        self.rewrite: Callable[[bytes], bytes] | None = None
        self.weights: WeightTable | None = None
        action = config.action
        if isinstance(action, RouteAction):
            policy = action.retry or host.retry
            self.retry = Retry(policy) if policy and policy.retry_on else None
            self.rewrite = compile_rewrite(
                config.match.path, action.prefix_rewrite, action.regex_rewrite, f"{path}.route"
            )
            if action.weighted_clusters:
                self.weights = WeightTable(
                    action.weighted_clusters, field=f"{path}.route.weighted_clusters"
                )
        elif isinstance(action, Redirect):
            self.rewrite = compile_rewrite(
                config.match.path, action.prefix_rewrite, action.regex_rewrite, f"{path}.redirect"
            )
        elif len(action.body) > table.max_direct_response_body_size:
            raise ConfigError(
                "body is too long",
                field=f"{path}.direct_response.body",
                found=f"{len(action.body)} bytes",
                allowed=f"{table.max_direct_response_body_size} bytes",
            )


def compile_match(match: RouteMatch, field_path: str) -> Test:
    """Return all of a route's conditions as one function."""
    in_path = compile_path(match.path, f"{field_path}.path")
    headers = compile_headers(match.headers, field=f"{field_path}.headers")
    query = (
        compile_query(match.query_parameters, field=f"{field_path}.query_parameters")
        if match.query_parameters
        else None
    )
    fraction = match.runtime_fraction
    grpc = match.grpc
    if headers is None and query is None and fraction is None and not grpc:
        return lambda head, path, rest, draw: in_path(path)

    def test(head: RequestHead, path: bytes, rest: bytes, draw: float) -> bool:
        return (
            in_path(path)
            and (headers is None or headers(head))
            and (query is None or query(rest[1:].partition(b"#")[0]))
            and (fraction is None or fraction.hit(draw))
            and (not grpc or is_grpc(head))
        )

    return test


def is_grpc(head: RequestHead) -> bool:
    kind = head.headers.get(b"content-type") or b""
    return kind == b"application/grpc" or kind.startswith(b"application/grpc+")


def compile_path(match: PathMatch, field_path: str) -> Callable[[bytes], bool]:
    value = match.value
    if match.kind == "separated_prefix":
        inside = value + b"/"
        if match.case_sensitive:
            return lambda path: path == value or path.startswith(inside)
        value = value.lower()
        inside = inside.lower()
        return lambda path: path.lower() == value or path.lower().startswith(inside)
    if match.kind == "prefix" and value == b"/":
        return lambda path: path[:1] == b"/"  # `*` of OPTIONS is no path
    ignore_case = not match.case_sensitive and match.kind != "regex"
    return compile_string(
        StringMatch(kind=match.kind, value=value, ignore_case=ignore_case), field=field_path
    )


def compile_rewrite(
    match: PathMatch, prefix_rewrite: bytes, regex_rewrite: RegexRewrite | None, field_path: str
) -> Callable[[bytes], bytes] | None:
    """Return the rewrite of the path (without query) of requests that `match` took."""
    if regex_rewrite is not None:
        return compile_regex_rewrite(
            regex_rewrite.pattern, regex_rewrite.substitution, field=f"{field_path}.regex_rewrite"
        )
    if not prefix_rewrite:
        return None
    if match.kind in ("exact", "regex"):
        return lambda path: prefix_rewrite
    length = len(match.value)
    return lambda path: prefix_rewrite + path[length:]


class _Host:
    """A virtual host with its routes compiled."""

    __slots__ = ("config", "routes")

    def __init__(self, config: VirtualHost, table: RouteConfiguration, path: str) -> None:
        self.config = config
        self.routes = [
            CompiledRoute(route, config, table, f"{path}.routes[{place}]")
            for place, route in enumerate(config.routes)
        ]


_CACHED_AUTHORITIES = 1024


class RouteTable:
    """A route configuration, compiled: domains indexed, conditions as functions.

    Raises:
        ConfigError: a domain in two virtual hosts, an expression that does not compile, weights
            that add up to 0.
    """

    __slots__ = ("_authorities", "_default", "_exact", "_prefixes", "_suffixes", "config")

    def __init__(self, config: RouteConfiguration) -> None:
        self.config = config
        self._exact: dict[bytes, _Host] = {}
        self._default: _Host | None = None
        suffixes: dict[bytes, _Host] = {}
        prefixes: dict[bytes, _Host] = {}
        self._authorities: dict[bytes, _Host | None] = {}
        owners: dict[bytes, str] = {}
        for place, host_config in enumerate(config.virtual_hosts):
            path = f"virtual_hosts[{place}]"
            host = _Host(host_config, config, path)
            for number, spelled in enumerate(host_config.domains):
                domain = spelled.lower()
                if domain in owners:
                    raise ConfigError(
                        f"is {domain.decode()!r}, already in virtual host {owners[domain]!r}; "
                        "a domain has one",
                        object=f"RouteConfiguration {config.name}",
                        field=f"{path}.domains[{number}]",
                        fix="Remove either.",
                    )
                owners[domain] = host_config.name
                if domain == b"*":
                    self._default = host
                elif domain.startswith(b"*"):
                    suffixes[domain[1:]] = host
                elif domain.endswith(b"*"):
                    prefixes[domain[:-1]] = host
                else:
                    self._exact[domain] = host
        self._suffixes = sorted(suffixes.items(), key=by_length, reverse=True)
        self._prefixes = sorted(prefixes.items(), key=by_length, reverse=True)

    def virtual_host(self, authority: bytes) -> _Host | None:
        """Return the virtual host for a Host header: exact, then longest suffix, then prefix."""
        found = self._authorities.get(authority)
        if found is not None:
            return found
        domain = authority.lower()
        if self.config.ignore_port_in_host_matching:
            domain = without_port(domain)
        found = self._find(domain)
        if len(self._authorities) >= _CACHED_AUTHORITIES:
            self._authorities.clear()
        self._authorities[authority] = found
        return found

    def _find(self, domain: bytes) -> _Host | None:
        host = self._exact.get(domain)
        if host is not None:
            return host
        # A wildcard stands for at least one character.
        for suffix, host in self._suffixes:
            if len(domain) > len(suffix) and domain.endswith(suffix):
                return host
        for prefix, host in self._prefixes:
            if len(domain) > len(prefix) and domain.startswith(prefix):
                return host
        return self._default

    def route(self, head: RequestHead, draw: float) -> CompiledRoute | None:
        """Return the first route that takes the request; None is a 404.

        Args:
            head: the request, its path in normal form.
            draw: from [0, 1), for routes that take a share only.
        """
        host = self.virtual_host(head.authority or b"")
        if host is None:
            return None
        path, rest = split(head.target)
        for route in host.routes:
            if route.matches(head, path, rest, draw):
                return route
        return None


def by_length(entry: tuple[bytes, _Host]) -> int:
    return len(entry[0])


def without_port(authority: bytes) -> bytes:
    """Return an authority without its port."""
    host, colon, port = authority.rpartition(b":")
    return host if colon and port.isdigit() and not host.endswith(b":") else authority

"""Read route configurations: virtual hosts, routes, what a route does (Envoy's RDS)."""

from collections.abc import Mapping, Sequence
from typing import Literal

from envoy.config.core.v3.base_pb2 import Metadata as MetadataMessage
from envoy.config.core.v3.base_pb2 import RoutingPriority
from envoy.config.route.v3 import route_components_pb2 as components
from envoy.config.route.v3.route_pb2 import RouteConfiguration as RouteConfigurationMessage
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute
from google.protobuf import json_format
from google.protobuf.message import Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.fault import compile_fault
from meshlab.proxy.config.header_mutation import compile_header_mutation
from meshlab.proxy.config.matcher import (
    compile_fraction,
    compile_header_matchers,
    compile_query_matcher,
)
from meshlab.proxy.config.protobuf import duration, join, optional_seconds, unpack, wrapped
from meshlab.proxy.config.retry import compile_retry_policy
from meshlab.proxy.config.secret import read_data_source
from meshlab.proxy.core.fault import Fault
from meshlab.proxy.core.matcher import compile_regex
from meshlab.proxy.core.route import (
    DirectResponse,
    PathMatch,
    Redirect,
    RegexRewrite,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from meshlab.proxy.core.weighted_cluster import WeightedCluster

FAULT = "envoy.filters.http.fault"

REDIRECT_CODES: dict[int, Literal[301, 302, 303, 307, 308]] = {
    components.RedirectAction.MOVED_PERMANENTLY: 301,
    components.RedirectAction.FOUND: 302,
    components.RedirectAction.SEE_OTHER: 303,
    components.RedirectAction.TEMPORARY_REDIRECT: 307,
    components.RedirectAction.PERMANENT_REDIRECT: 308,
}
TLS_REQUIREMENTS: dict[int, Literal["none", "external_only", "all"]] = {
    components.VirtualHost.NONE: "none",
    components.VirtualHost.EXTERNAL_ONLY: "external_only",
    components.VirtualHost.ALL: "all",
}
NOT_FOUND_CODES = {
    components.RouteAction.SERVICE_UNAVAILABLE: 503,
    components.RouteAction.NOT_FOUND: 404,
    components.RouteAction.INTERNAL_SERVER_ERROR: 500,
}


def compile_route_configuration(
    message: RouteConfigurationMessage, path: str = ""
) -> RouteConfiguration:
    """Return the route table.

    Raises:
        ConfigError: with the path of the field, `virtual_hosts[1].domains[0]`.
    """
    limit = wrapped(message, "max_direct_response_body_size_bytes", 4096)
    check_domains(message.virtual_hosts, path)
    return RouteConfiguration(
        name=message.name,
        virtual_hosts=tuple(
            compile_virtual_host(host, f"{join(path, 'virtual_hosts')}[{index}]", limit)
            for index, host in enumerate(message.virtual_hosts)
        ),
        request_headers=compile_header_mutation(message, "request", path),
        response_headers=compile_header_mutation(message, "response", path),
        internal_only_headers=tuple(
            name.lower().encode() for name in message.internal_only_headers
        ),
        ignore_port_in_host_matching=message.ignore_port_in_host_matching,
        most_specific_header_mutations_wins=message.most_specific_header_mutations_wins,
        max_direct_response_body_size=limit,
    )


def check_domains(hosts: Sequence[components.VirtualHost], path: str) -> None:
    """Raise ConfigError for a domain or name that stands twice, or a bad wildcard."""
    owners: dict[str, str] = {}
    names: set[str] = set()
    for at, host in enumerate(hosts):
        place = f"{join(path, 'virtual_hosts')}[{at}]"
        if host.name in names:
            raise ConfigError(
                "is the name of another virtual host, too",
                field=join(place, "name"),
                found=repr(host.name),
            )
        names.add(host.name)
        if not host.domains:
            raise ConfigError("must have a domain", field=join(place, "domains"))
        for index, domain in enumerate(host.domains):
            where = f"{join(place, 'domains')}[{index}]"
            key = domain.lower()
            if key in owners:
                raise ConfigError(
                    f"is {domain!r}, already in virtual host {owners[key]!r}; a domain has one",
                    field=where,
                    fix="Remove either",
                )
            if not key or "*" in key[1:-1] or (key.count("*") > 1):
                raise ConfigError(
                    "may have one wildcard, at one end",
                    field=where,
                    found=repr(domain),
                    allowed="a.b, *.b, a.*, *",
                )
            owners[key] = host.name


def compile_virtual_host(host: components.VirtualHost, path: str, body_limit: int) -> VirtualHost:
    return VirtualHost(
        name=host.name,
        domains=tuple(domain.lower().encode() for domain in host.domains),
        routes=tuple(
            compile_route(route, f"{join(path, 'routes')}[{index}]", body_limit)
            for index, route in enumerate(host.routes)
        ),
        request_headers=compile_header_mutation(host, "request", path),
        response_headers=compile_header_mutation(host, "response", path),
        require_tls=TLS_REQUIREMENTS[host.require_tls],
        retry=(
            compile_retry_policy(host.retry_policy, join(path, "retry_policy"))
            if host.HasField("retry_policy")
            else None
        ),
        include_request_attempt_count=host.include_request_attempt_count,
        include_attempt_count_in_response=host.include_attempt_count_in_response,
        fault=compile_route_fault(host, path),
        metadata=compile_metadata(host.metadata),
    )


def compile_route(route: components.Route, path: str, body_limit: int) -> Route:
    kind = route.WhichOneof("action")
    action: RouteAction | Redirect | DirectResponse
    if kind == "route":
        action = compile_route_action(route.route, join(path, "route"))
    elif kind == "redirect":
        action = compile_redirect(route.redirect, join(path, "redirect"))
    elif kind == "direct_response":
        action = compile_direct_response(
            route.direct_response, join(path, "direct_response"), body_limit
        )
    else:
        raise ConfigError(
            "must have an action", field=path, allowed="route, redirect, direct_response"
        )
    return Route(
        match=compile_route_match(route.match, join(path, "match")),
        action=action,
        name=route.name,
        request_headers=compile_header_mutation(route, "request", path),
        response_headers=compile_header_mutation(route, "response", path),
        fault=compile_route_fault(route, path),
        metadata=compile_metadata(route.metadata),
        stat_prefix=route.stat_prefix,
    )


def compile_route_match(match: components.RouteMatch, path: str) -> RouteMatch:
    return RouteMatch(
        path=compile_path_match(match, path),
        headers=compile_header_matchers(match.headers, join(path, "headers")),
        query_parameters=tuple(
            compile_query_matcher(item, f"{join(path, 'query_parameters')}[{index}]")
            for index, item in enumerate(match.query_parameters)
        ),
        runtime_fraction=(
            compile_fraction(
                match.runtime_fraction.default_value, join(path, "runtime_fraction.default_value")
            )
            if match.HasField("runtime_fraction")
            else None
        ),
        grpc=match.HasField("grpc"),
    )


def compile_path_match(match: components.RouteMatch, path: str) -> PathMatch:
    case_sensitive = bool(wrapped(match, "case_sensitive", True))
    kind = match.WhichOneof("path_specifier")
    if kind == "prefix":
        return PathMatch(kind="prefix", value=match.prefix.encode(), case_sensitive=case_sensitive)
    if kind == "path":
        return PathMatch(kind="exact", value=match.path.encode(), case_sensitive=case_sensitive)
    if kind == "path_separated_prefix":
        prefix = match.path_separated_prefix
        if not prefix.startswith("/") or prefix.endswith("/") or set(prefix) & set("?#"):
            raise ConfigError(
                "must begin with / and not end with it, without ? and #",
                field=join(path, "path_separated_prefix"),
                found=repr(prefix),
            )
        return PathMatch(
            kind="separated_prefix", value=prefix.encode(), case_sensitive=case_sensitive
        )
    if kind == "safe_regex":
        pattern = match.safe_regex.regex.encode()
        compile_regex(pattern, field=join(path, "safe_regex.regex"))
        return PathMatch(kind="regex", value=pattern, case_sensitive=True)
    raise ConfigError(
        "must say which paths it takes",
        field=path,
        allowed="prefix, path, path_separated_prefix, safe_regex",
    )


def compile_route_action(action: components.RouteAction, path: str) -> RouteAction:
    cluster, shares, cluster_header = compile_target(action, path)
    rewrites = [
        name
        for name in ("prefix_rewrite", "regex_rewrite")
        if (action.HasField(name) if name == "regex_rewrite" else getattr(action, name))
    ]
    if len(rewrites) > 1:
        raise ConfigError(
            "and prefix_rewrite exclude each other", field=join(path, "regex_rewrite")
        )
    host_rewrite = action.WhichOneof("host_rewrite_specifier")
    return RouteAction(
        cluster=cluster,
        weighted_clusters=shares,
        cluster_header=cluster_header,
        cluster_not_found_code=NOT_FOUND_CODES[action.cluster_not_found_response_code],
        timeout=duration(action, "timeout", 15.0, path),
        idle_timeout=optional_seconds(action, "idle_timeout", path),
        retry=(
            compile_retry_policy(action.retry_policy, join(path, "retry_policy"))
            if action.HasField("retry_policy")
            else None
        ),
        prefix_rewrite=action.prefix_rewrite.encode(),
        regex_rewrite=compile_regex_rewrite(action, path),
        host_rewrite=action.host_rewrite_literal.encode(),
        auto_host_rewrite=host_rewrite == "auto_host_rewrite" and action.auto_host_rewrite.value,
        host_rewrite_header=action.host_rewrite_header.lower().encode(),
        append_x_forwarded_host=action.append_x_forwarded_host,
        priority="high" if action.priority == RoutingPriority.HIGH else "default",
        upgrades=compile_upgrades(action.upgrade_configs),
    )


def compile_target(
    action: components.RouteAction, path: str
) -> tuple[str, tuple[WeightedCluster, ...], bytes]:
    """Return (cluster, shares, header that names the cluster): one of them is set."""
    kind = action.WhichOneof("cluster_specifier")
    if kind == "cluster" and action.cluster:
        return action.cluster, (), b""
    if kind == "cluster_header" and action.cluster_header:
        return "", (), action.cluster_header.lower().encode()
    if kind == "weighted_clusters":
        return "", compile_shares(action.weighted_clusters, join(path, "weighted_clusters")), b""
    raise ConfigError(
        "must say where requests go",
        field=path,
        allowed="cluster, cluster_header, weighted_clusters",
    )


def compile_shares(message: components.WeightedCluster, path: str) -> tuple[WeightedCluster, ...]:
    total = sum(item.weight.value for item in message.clusters)
    if not 0 < total < 2**32:
        raise ConfigError(
            "must have weights with a sum from 1 to 4294967295",
            field=join(path, "clusters"),
            found=str(total),
        )
    return tuple(
        compile_share(item, f"{join(path, 'clusters')}[{index}]")
        for index, item in enumerate(message.clusters)
    )


def compile_share(item: components.WeightedCluster.ClusterWeight, path: str) -> WeightedCluster:
    if not item.name:
        raise ConfigError("must not be empty", field=join(path, "name"))
    return WeightedCluster(
        name=item.name,
        weight=item.weight.value,
        request_headers=compile_header_mutation(item, "request", path),
        response_headers=compile_header_mutation(item, "response", path),
        host_rewrite=item.host_rewrite_literal.encode(),
    )


def compile_regex_rewrite(message: Message, path: str) -> RegexRewrite | None:
    """Return `regex_rewrite` of a route or redirect action; None where it has none."""
    if not message.HasField("regex_rewrite"):
        return None
    rewrite: RegexMatchAndSubstitute = message.regex_rewrite  # type: ignore[attr-defined]  # both
    pattern = rewrite.pattern.regex.encode()
    compile_regex(pattern, field=join(path, "regex_rewrite.pattern.regex"))
    return RegexRewrite(pattern=pattern, substitution=rewrite.substitution.encode())


def compile_upgrades(configs: Sequence[Message]) -> Mapping[bytes, bool]:
    """Return upgrade type in lower case → enabled, of either kind of `UpgradeConfig`."""
    return {
        config.upgrade_type.lower().encode(): bool(wrapped(config, "enabled", True))  # type: ignore[attr-defined]  # two messages with the same fields
        for config in configs
    }


def compile_redirect(message: components.RedirectAction, path: str) -> Redirect:
    if message.response_code not in REDIRECT_CODES:
        raise ConfigError(
            "is unknown", field=join(path, "response_code"), found=str(message.response_code)
        )
    scheme = "https" if message.https_redirect else message.scheme_redirect.lower()
    return Redirect(
        response_code=REDIRECT_CODES[message.response_code],
        scheme=scheme.encode(),
        host=message.host_redirect.encode(),
        port=message.port_redirect,
        path=message.path_redirect.encode(),
        prefix_rewrite=message.prefix_rewrite.encode(),
        regex_rewrite=compile_regex_rewrite(message, path),
        strip_query=message.strip_query,
    )


def compile_direct_response(
    message: components.DirectResponseAction, path: str, body_limit: int
) -> DirectResponse:
    if not 200 <= message.status < 600:
        raise ConfigError(
            "must be 200 to 599", field=join(path, "status"), found=str(message.status)
        )
    body = read_data_source(message.body, join(path, "body")) if message.HasField("body") else b""
    if len(body) > body_limit:
        raise ConfigError(
            f"is longer than {body_limit} bytes",
            field=join(path, "body"),
            found=str(len(body)),
            fix="Raise max_direct_response_body_size_bytes",
        )
    return DirectResponse(status=message.status, body=body)


def compile_route_fault(message: Message, path: str) -> Fault | None:
    """Return what `typed_per_filter_config` puts in the place of the fault filter's settings.

    Raises:
        ConfigError: settings for another filter.
    """
    fault = None
    configs = message.typed_per_filter_config  # type: ignore[attr-defined]  # virtual host or route
    for name in configs:
        place = f"{join(path, 'typed_per_filter_config')}[{name!r}]"
        if name != FAULT:
            raise ConfigError(
                "names a filter without settings by route", field=place, allowed=FAULT
            )
        fault = compile_fault(unpack(configs[name], HTTPFault, place), place)
    return fault


def compile_metadata(message: MetadataMessage) -> dict[str, dict[str, object]]:
    """Return `filter_metadata` as plain values."""
    return {
        name: json_format.MessageToDict(message.filter_metadata[name])
        for name in message.filter_metadata
    }

"""What a request's route says to do: forward, redirect or answer (Envoy's router filter)."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.redirect import location
from meshlab.proxy.core.route import CompiledRoute, DirectResponse, Redirect, RouteAction
from meshlab.proxy.core.stream_info import NC, NR
from meshlab.proxy.net.local_reply import redirect, reply, send_own
from meshlab.proxy.net.retry import prepare_retry
from meshlab.proxy.net.timeout import start_idle, start_route_timeouts
from meshlab.proxy.net.upstream_head import prepare_head
from meshlab.proxy.net.upstream_request import try_upstream

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def choose_route(stream: "Stream") -> None:
    """Look the route and its cluster up: filters before the router already see them."""
    manager = stream.manager
    head = stream.head
    info = stream.info
    table = manager.table()
    if stream.external and table is not None:
        for name in table.config.internal_only_headers:
            head.headers.remove(name)
    route = table.route(head, manager.runtime.dice()) if table is not None else None
    stream.route = route
    if route is not None:
        info.route_name = route.config.name
        info.virtual_host = route.host.name
        info.route_metadata = route.config.metadata
        if isinstance(route.action, RouteAction) and not _needs_tls(stream, route):
            _choose_cluster(stream, route, route.action)


def route_request(stream: "Stream") -> None:
    """Do what the route says, now that every filter has let the request pass."""
    route = stream.route
    manager = stream.manager
    if route is None:
        stream.info.flags |= NR
        manager.stats.no_route.value += 1
        reply(stream, 404, b"", "route_not_found")
        return
    if _needs_tls(stream, route):
        redirect(stream, 301, b"https://%b%b" % (stream.head.authority or b"", stream.head.target))
        return
    action = route.action
    if isinstance(action, RouteAction):
        _forward(stream, route, action)
    elif isinstance(action, Redirect):
        manager.stats.rq_direct_response.value += 1
        where = location(action, route.rewrite, stream.head, stream.info.scheme)
        redirect(stream, action.response_code, where)
    else:
        _answer(stream, action)


def _needs_tls(stream: "Stream", route: CompiledRoute) -> bool:
    rule = route.host.require_tls
    return (
        rule == "all" or (rule == "external_only" and stream.external)
    ) and stream.info.scheme != b"https"


def _answer(stream: "Stream", action: DirectResponse) -> None:
    stream.manager.stats.rq_direct_response.value += 1
    headers = Headers([], [])
    if action.body:
        headers.add(b"content-type", b"text/plain")
    send_own(stream, action.status, headers, action.body, "direct_response")


def _choose_cluster(stream: "Stream", route: CompiledRoute, action: RouteAction) -> None:
    runtime = stream.manager.runtime
    name = action.cluster
    if route.weights is not None:
        stream.share = route.weights.pick(runtime.dice())
        name = stream.share.name
    elif not name:
        name = (stream.head.headers.get(action.cluster_header) or b"").decode("latin-1")
    cluster = runtime.clusters.get(name)
    if cluster is not None:
        stream.cluster = cluster
        stream.info.upstream_cluster = name
        stream.info.upstream_cluster_metadata = cluster.config.metadata


def _forward(stream: "Stream", route: CompiledRoute, action: RouteAction) -> None:
    manager = stream.manager
    head = stream.head
    cluster = stream.cluster
    if cluster is None:
        stream.info.flags |= NC
        manager.stats.no_cluster.value += 1
        reply(stream, action.cluster_not_found_code, b"", "cluster_not_found")
        return
    if head.upgrade and not _upgrade_allowed(stream, action):
        reply(stream, 403, b"", "upgrade_failed")
        return
    manager.stats.router_rq_total.value += 1
    stream.buffer_limit = cluster.config.buffer_limit
    stream.breakers = cluster.high_breakers if action.priority == "high" else cluster.breakers
    if action.idle_timeout is not None:
        start_idle(stream, action.idle_timeout)
    prepare_retry(stream, route)
    prepare_head(stream, route, action)
    if head.upgrade:
        stream.timeout = 0.0
    if stream.request_done:
        start_route_timeouts(stream)
    try_upstream(stream)


def _upgrade_allowed(stream: "Stream", action: RouteAction) -> bool:
    allowed = action.upgrades.get(stream.head.upgrade)
    if allowed is None:
        allowed = stream.manager.config.upgrades.get(stream.head.upgrade, False)
    return allowed

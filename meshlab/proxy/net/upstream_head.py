"""Make the request's head what upstream shall see: rewrites, header mutations, framing."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.http1 import CHUNKED
from meshlab.proxy.core.path import split
from meshlab.proxy.core.route import CompiledRoute, RouteAction
from meshlab.proxy.core.timeout import timeouts
from meshlab.proxy.net.metadata_exchange import exchange_in_request

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream

BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"})
"""Methods whose requests say nothing of a body that they have not."""
STEERING = frozenset(
    {
        b"x-envoy-retry-on",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-max-retries",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retriable-header-names",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
    }
)
"""What a request asks of this proxy, and of this proxy only."""


def prepare_head(stream: "Stream", route: CompiledRoute, action: RouteAction) -> None:
    """Make the head what upstream shall see, up to what changes with each try."""
    head = stream.head
    headers = head.headers
    info = stream.info
    manager = stream.manager
    policy = stream.retry.policy if stream.retry is not None else None
    stream.timeout, stream.per_try_timeout = timeouts(
        action.timeout, policy.per_try_timeout if policy else 0.0, headers
    )
    for name in STEERING.intersection(headers.names):
        headers.remove(name)
    expected = stream.per_try_timeout or stream.timeout
    if expected and not manager.suppress_envoy_headers:
        headers.set(b"x-envoy-expected-rq-timeout-ms", b"%d" % (expected * 1000))
    _rewrite_host(stream, action)
    if route.rewrite is not None:
        path, rest = split(head.target)
        new = route.rewrite(path) + rest
        if new != head.target:
            if not manager.suppress_envoy_headers:
                headers.set(b"x-envoy-original-path", head.target)
            head.target = new if new.startswith(b"/") else b"/" + new
            info.path = head.target
    if stream.share is not None and stream.share.mutate_request is not None:
        stream.share.mutate_request(headers, info)
    if route.mutate_request is not None:
        route.mutate_request(headers, info)
    if manager.exchange_metadata:
        exchange_in_request(stream)


def _rewrite_host(stream: "Stream", action: RouteAction) -> None:
    head = stream.head
    new = action.host_rewrite
    if stream.share is not None and stream.share.host_rewrite:
        new = stream.share.host_rewrite
    if action.host_rewrite_header:
        new = head.headers.get(action.host_rewrite_header) or b""
    if new:
        _set_host(stream, new, append=action.append_x_forwarded_host)


def _set_host(stream: "Stream", new: bytes, *, append: bool) -> None:
    head = stream.head
    if head.authority:
        if append:
            head.headers.add(b"x-forwarded-host", head.authority)
        if not stream.manager.suppress_envoy_headers:
            head.headers.set(b"x-envoy-original-host", head.authority)
    head.authority = new
    head.headers.set(b"host", new)
    stream.info.authority = new


def request_wire(stream: "Stream") -> bytes:
    """Return the request's head and what is here of its body, as one write."""
    head = stream.head
    headers = head.headers
    route = stream.route
    if route is not None:
        if route.host.include_request_attempt_count:
            headers.set(b"x-envoy-attempt-count", b"%d" % stream.attempts)
        action = route.action
        if isinstance(action, RouteAction) and action.auto_host_rewrite and stream.host:
            hostname = stream.host.endpoint.hostname
            if hostname:
                _set_host(stream, hostname.encode(), append=action.append_x_forwarded_host)
    framing = b""
    if head.body == CHUNKED:
        framing = b"transfer-encoding: chunked\r\n"
    elif head.upgrade:
        framing = b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade
    elif head.body == 0 and head.method not in BODILESS:
        headers.set(b"content-length", b"0")
    wire = b"%b %b HTTP/1.1\r\n%b%b\r\n" % (head.method, head.target, headers.wire(), framing)
    return wire + b"".join(stream.replay) if stream.replay else wire

"""Take the response of a try: retry it, or pass it on to the client."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.forwarded import remove_hop_by_hop
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import ResponseHead
from meshlab.proxy.net.downstream import TUNNEL
from meshlab.proxy.net.metadata_exchange import exchange_in_response
from meshlab.proxy.net.response_head import send_response
from meshlab.proxy.net.retry import release_retry, retry_if_allowed
from meshlab.proxy.net.timeout import stop_per_try

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def on_informational(stream: "Stream", head: ResponseHead) -> None:
    if stream.manager.config.proxy_100_continue and not stream.response_started:
        remove_hop_by_hop(head.headers)
        if stream.manager.config.always_set_request_id_in_response and stream.info.request_id:
            head.headers.set(b"x-request-id", stream.info.request_id)
        stream.connection.send_informational(head)


def on_response(stream: "Stream", head: ResponseHead, data: bytes, end: bool) -> None:
    """Take the response's head, and perhaps all of it."""
    cluster = stream.cluster
    host = stream.host
    upstream = stream.upstream
    info = stream.info
    if cluster is None or host is None or upstream is None:
        return
    now = stream.manager.runtime.now()
    status = head.status
    info.first_upstream_byte_received = now
    stream.last_activity = now
    if end:
        stream.upstream = None
    stop_per_try(stream)
    if status < 500:
        host.stats.rq_success += 1
    else:
        host.stats.rq_error += 1
    if cluster.outlier is not None:
        cluster.on_response(host, status)
    retry = stream.retry
    if retry is not None:
        if retry.after_response(status, head.headers):
            if retry_if_allowed(stream):
                cluster.stats.count_retried(status)
                if not end:
                    stream.cancel_upstream()
                return
        elif stream.retry_taken:
            cluster.stats.rq_retry_success.value += 1
        stream.retry = None
    cluster.stats.count_response(status)
    if stream.retry_taken:
        release_retry(stream)
    if stream.replay:
        stream.replay = []
    info.response_code_details = "via_upstream"
    if status == 101 and stream.head.upgrade:
        _begin_tunnel(stream, head)
    _pass_head(stream, head, data, end, now)


def _begin_tunnel(stream: "Stream", head: ResponseHead) -> None:
    stream.tunnel = True
    head.body = TUNNEL
    stats = stream.manager.stats
    stats.cx_upgrades_total.value += 1
    stats.cx_upgrades_active.value += 1


def _pass_head(stream: "Stream", head: ResponseHead, data: bytes, end: bool, now: float) -> None:
    manager = stream.manager
    info = stream.info
    headers = head.headers
    remove_hop_by_hop(headers)
    if manager.exchange_metadata:
        exchange_in_response(stream, headers)
    if not manager.suppress_envoy_headers and not stream.tunnel:
        taken = int((now - info.first_upstream_byte_sent) * 1000)
        headers.set(b"x-envoy-upstream-service-time", b"%d" % taken)
    route = stream.route
    if route is not None:
        if route.host.include_attempt_count_in_response:
            headers.set(b"x-envoy-attempt-count", b"%d" % stream.attempts)
        info.response_code = head.status
        info.response_headers = headers
        if stream.share is not None and stream.share.mutate_response is not None:
            stream.share.mutate_response(headers, info)
        if route.mutate_response is not None:
            route.mutate_response(headers, info)
    if stream.tunnel:
        headers.set(b"connection", b"upgrade")
        headers.set(b"upgrade", stream.head.upgrade)
    send_response(stream, head.status, head.reason, headers, head.body, data, end)


def on_response_data(stream: "Stream", data: bytes, end: bool, trailers: Headers | None) -> None:
    """Take more of the response's body."""
    info = stream.info
    stream.last_activity = stream.manager.runtime.now()
    if end:
        stream.upstream = None
        info.last_upstream_byte_received = stream.last_activity
        info.response_trailers = trailers
    info.bytes_sent += len(data)
    info.upstream_bytes_received += len(data)
    keep = stream.manager.config.enable_trailers
    stream.connection.send_data(data, end, trailers if keep else None)
    if end:
        stream.finish()

"""One try of a request: choose a host, get a connection, send, see it fail (`UpstreamRequest`)."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.core.retry import Reset
from meshlab.proxy.core.route import RouteAction, without_port
from meshlab.proxy.core.stream_info import UC, UF, UH, UO, UPE, UR, UT
from meshlab.proxy.net.local_reply import local_failure
from meshlab.proxy.net.retry import abandon_replay, release_retry, retry_if_allowed
from meshlab.proxy.net.timeout import start_per_try, stop_per_try
from meshlab.proxy.net.upstream_head import request_wire
from meshlab.proxy.net.upstream_http1 import UpstreamHttp1

if TYPE_CHECKING:
    from meshlab.proxy.net.cluster import ClusterState
    from meshlab.proxy.net.stream import Stream

RESET_FLAGS = {
    Reset.CONNECT_FAILURE: UF,
    Reset.LOCAL_CONNECT_FAILURE: UF,
    Reset.CONNECT_TIMEOUT: UF,
    Reset.TERMINATION: UC,
    Reset.OVERFLOW: UO,
    Reset.PROTOCOL_ERROR: UPE,
    Reset.REMOTE_RESET: UR,
    Reset.PER_TRY_TIMEOUT: UT,
}


def try_upstream(stream: "Stream") -> None:
    """Choose a host and wait for a connection to it."""
    cluster = stream.cluster
    route = stream.route
    if cluster is None or route is None or not isinstance(route.action, RouteAction):
        return
    stream.attempts += 1
    info = stream.info
    info.attempt_count = stream.attempts
    host = _choose_host(stream, cluster)
    if host is None:
        info.flags |= UH
        local_failure(stream, 503, b"no healthy upstream", "no_healthy_upstream")
        return
    stream.host = host
    info.upstream_host = host.address
    info.upstream_host_metadata = host.endpoint.metadata
    tls = cluster.tls_for(host)
    alpn: tuple[str, ...] = ()
    server_name = ""
    if tls is not None:
        alpn = stream.manager.alpn or tls.context.alpn_protocols
        server_name = tls.sni
        if tls.auto_sni_from_request:
            server_name = without_port(stream.head.authority or b"").decode("latin-1")
        elif tls.auto_host_sni and host.endpoint.hostname:
            server_name = host.endpoint.hostname
    stream.pool = cluster.pool(host, alpn, server_name, high=route.action.priority == "high")
    if stream.per_try_timeout and stream.request_done:
        start_per_try(stream)
    stream.pool.acquire(stream)


def on_retry_due(stream: "Stream") -> None:
    stream.retry_timer = None
    if not stream.done:
        try_upstream(stream)


def _choose_host(stream: "Stream", cluster: "ClusterState") -> Host | None:
    original = stream.info.connection.local_address
    header = cluster.config.original_dst_http_header
    override = (stream.head.headers.get(header) or b"").decode("latin-1") if header else ""
    host = cluster.choose(original, override)
    tried = stream.tried
    if tried is None or host is None or stream.retry is None:
        return host
    if stream.retry.policy.previous_hosts:
        for _ in range(stream.retry.policy.host_selection_attempts):
            if host not in tried:
                return host
            host = cluster.choose(original, override)
            if host is None:
                return None
    return host


def on_connection(stream: "Stream", connection: UpstreamHttp1) -> None:
    """Send the request on a connection that is ready."""
    stream.pool = None
    stream.upstream = connection
    info = stream.info
    info.upstream_local_address = connection.local_address
    info.upstream_certificate = connection.certificate
    info.upstream_own_certificate = connection.own_certificate
    info.upstream_tls_version = connection.tls_version
    info.upstream_transport_failure_reason = ""
    info.first_upstream_byte_sent = stream.manager.runtime.now()
    wire = request_wire(stream)
    info.upstream_bytes_sent += len(wire)
    if stream.replay_size > stream.buffer_limit:
        abandon_replay(stream)
    if stream.retry is None:
        stream.replay = []
        stream.replay_size = 0
    if not stream.request_done:
        stream.connection.resume_reading()
    if stream.upstream_paused:
        connection.pause_reading()
    connection.send_head(stream, stream.head.method, wire, end=stream.request_done)


def on_no_connection(stream: "Stream", reset: Reset, reason: str) -> None:
    """The pool has no connection for this try."""
    stream.pool = None
    on_failed_try(stream, reset, reason, sent=False)


def on_reset(stream: "Stream", reset: Reset, reason: str) -> None:
    """The try's connection is gone."""
    stream.upstream = None
    cluster = stream.cluster
    if cluster is not None:
        cluster.stats.rq_rx_reset.value += 1
        if stream.host is not None:
            stream.host.stats.rq_error += 1
            cluster.on_local_origin_failure(stream.host)
    if stream.response_started:
        word = reset.value.replace(" ", "_")
        stream.break_off(RESET_FLAGS[reset], f"upstream_reset_after_response_started{{{word}}}")
        return
    on_failed_try(stream, reset, reason, sent=True)


def on_failed_try(stream: "Stream", reset: Reset, reason: str, *, sent: bool) -> None:
    """Try again, or answer with what went wrong; `sent`: upstream may have seen the request."""
    stop_per_try(stream)
    stream.info.upstream_transport_failure_reason = reason
    if stream.retry is not None and stream.retry.after_reset(reset, request_sent=sent):
        if retry_if_allowed(stream):
            return
    elif stream.retry is not None and stream.retry_taken:
        release_retry(stream)
    stream.info.flags |= RESET_FLAGS[reset]
    word = reset.value
    detail = word.replace(" ", "_")
    if reset is Reset.PER_TRY_TIMEOUT:
        local_failure(stream, 504, b"upstream request timeout", "upstream_per_try_timeout")
        return
    latest = b"retried and the latest " if stream.attempts > 1 else b""
    body = b"upstream connect error or disconnect/reset before headers. %breset reason: %b" % (
        latest,
        word.encode(),
    )
    if reason:
        detail += "|" + reason.replace(" ", "_")
        if not reason.startswith("delayed connect error"):  # of that, clients learn nothing
            body += b", transport failure reason: " + reason.encode("latin-1", "replace")
    local_failure(
        stream,
        502 if reset is Reset.PROTOCOL_ERROR else 503,
        body,
        f"upstream_reset_before_response_started{{{detail}}}",
        overloaded=reset is Reset.OVERFLOW,
    )

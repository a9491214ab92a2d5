"""One request, from its head to its log line, and which file does what on the way."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.circuit_breaker import Breakers
from meshlab.proxy.core.fault import CompiledFault
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import CHUNKED, RequestHead, encode_chunk, encode_last_chunk
from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.core.retry import Retry
from meshlab.proxy.core.route import CompiledRoute
from meshlab.proxy.core.stream_info import DC, StreamInfo
from meshlab.proxy.core.weighted_cluster import Share
from meshlab.proxy.net import (
    fault,
    local_reply,
    request_head,
    retry,
    router,
    timeout,
    upstream_request,
    upstream_response,
)
from meshlab.proxy.net.clock import Timer
from meshlab.proxy.net.downstream import Downstream
from meshlab.proxy.net.manager import Manager
from meshlab.proxy.net.pool import HostPool
from meshlab.proxy.net.upstream_http1 import UpstreamHttp1

if TYPE_CHECKING:
    from meshlab.proxy.net.cluster import ClusterState


class Stream:
    """A request under way. It keeps the route and the cluster it began with.

    The request's way is `start`, then file by file: `request_head`, `fault`, `router`,
    `upstream_head`, `upstream_request`, `upstream_response`, `response_head`; `retry` and
    `timeout` may send it back or end it, `local_reply` answers in upstream's place. Their functions
    take the stream as first argument. Those that connections and timers call are bound here as
    methods, which costs no call in between and keeps the imports free of circles.

    Attributes:
        route: None before routing, and where there is none.
        cluster: where the route leads; None: nowhere, or to no cluster that we know.
        external: the request comes from outside, so it may not steer the proxy (`forward`).
        request_done: the client has sent all of the request.
        response_started: the response's head has gone downstream.
        done: over and logged; what still comes is dropped.
        tunnel: after an upgrade: bytes both ways.
        upstream: the connection of the current try; None between tries.
        pool: where the current try waits for a connection; None: it does not.
        host: the current or latest try's.
        upstream_paused: the client reads slowly, so upstream is not read.
        breakers: the cluster's, for the route's priority.
        retry: None: the request is not sent again (no policy, too late, body too large).
        retry_taken: the retries breaker counts a retry of this request.
        tried: hosts of earlier tries; None: there were none.
        replay: body that came so far, framed, for the next connection; kept up to `buffer_limit`.
        timeout: seconds for the response, once the request is complete; 0: any.
        per_try_timeout: the same for one try.
        idle_timeout: seconds without a byte either way; 0: any.
        fault: whose delay the request is in; None: in none.
    """

    __slots__ = (
        "attempts",
        "breakers",
        "buffer_limit",
        "cluster",
        "connection",
        "done",
        "external",
        "fault",
        "fault_delay",
        "head",
        "host",
        "idle_timeout",
        "idle_timer",
        "info",
        "last_activity",
        "manager",
        "max_duration_timer",
        "per_try_timeout",
        "per_try_timer",
        "pool",
        "replay",
        "replay_size",
        "request_done",
        "request_timer",
        "request_trailers",
        "response_started",
        "retries_left",
        "retry",
        "retry_taken",
        "retry_timer",
        "route",
        "share",
        "timeout",
        "timeout_timer",
        "tried",
        "tunnel",
        "upstream",
        "upstream_paused",
    )

    # The pool and the upstream connection call:
    on_connection = upstream_request.on_connection
    on_no_connection = upstream_request.on_no_connection
    on_reset = upstream_request.on_reset
    on_informational = upstream_response.on_informational
    on_response = upstream_response.on_response
    on_response_data = upstream_response.on_response_data

    # Timers call:
    after_fault_delay = fault.after_fault_delay
    on_retry_due = upstream_request.on_retry_due
    on_timeout = timeout.on_timeout
    on_per_try_timeout = timeout.on_per_try_timeout
    on_idle = timeout.on_idle
    on_request_timeout = timeout.on_request_timeout
    on_max_duration = timeout.on_max_duration

    # `timeout` calls, which `upstream_request` imports:
    on_failed_try = upstream_request.on_failed_try

    # The client's connection calls, besides the `on_downstream_*` and `on_data` below:
    reply = local_reply.reply

    def __init__(self, connection: Downstream, manager: Manager, head: RequestHead) -> None:
        runtime = manager.runtime
        self.connection = connection
        self.manager = manager
        self.head = head
        self.info = StreamInfo(connection.info, runtime.wall(), runtime.now())
        self.route: CompiledRoute | None = None
        self.share: Share | None = None
        self.cluster: ClusterState | None = None
        self.external = False
        self.request_done = False
        self.request_trailers: Headers | None = None
        self.response_started = False
        self.done = False
        self.tunnel = False
        self.last_activity = 0.0
        # The current try
        self.attempts = 0
        self.host: Host | None = None
        self.pool: HostPool | None = None
        self.upstream: UpstreamHttp1 | None = None
        self.upstream_paused = False
        self.breakers: Breakers | None = None
        # Retry
        self.retry: Retry | None = None
        self.retries_left = 0
        self.retry_taken = False
        self.retry_timer: Timer | None = None
        self.tried: list[Host] | None = None
        self.replay: list[bytes] = []
        self.replay_size = 0
        self.buffer_limit = 0
        # Timeout
        self.timeout = 0.0
        self.timeout_timer: Timer | None = None
        self.per_try_timeout = 0.0
        self.per_try_timer: Timer | None = None
        self.idle_timeout = 0.0
        self.idle_timer: Timer | None = None
        self.request_timer: Timer | None = None
        self.max_duration_timer: Timer | None = None
        # Fault
        self.fault: CompiledFault | None = None
        self.fault_delay: Timer | None = None

    def start(self, *, end: bool) -> None:
        """Take the head; `end`: there is no body."""
        manager = self.manager
        info = self.info
        head = self.head
        stats = manager.stats
        stats.rq_total.value += 1
        stats.rq_http1_total.value += 1
        stats.rq_active.value += 1
        self.request_done = end
        if end:
            info.last_downstream_byte_received = info.start
        info.protocol = "HTTP/1.1" if head.minor else "HTTP/1.0"
        info.method = head.method
        info.path = head.target
        info.authority = head.authority or b""
        info.request_headers = head.headers
        info.downstream_remote_address = info.connection.remote_address
        if not request_head.accept_head(self):
            return
        timeout.start_stream_timeouts(self)
        router.choose_route(self)
        if manager.has_fault:
            fault.inject_fault(self)
        else:
            router.route_request(self)

    def on_data(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """Take more of the request's body."""
        info = self.info
        info.bytes_received += len(data)
        runtime = self.manager.runtime
        self.last_activity = runtime.now()
        if end:
            self.request_done = True
            info.last_downstream_byte_received = self.last_activity
            if self.request_timer is not None:
                self.request_timer.cancel()
        if self.done:
            if end:
                self.connection.finished(self)
            return
        self.request_trailers = trailers
        wire = self._frame(data, end=end)
        upstream = self.upstream
        if upstream is not None:
            info.upstream_bytes_sent += len(wire)
            upstream.send(wire, end=end)
        if self.retry is not None or upstream is None:
            retry.keep_for_replay(self, wire)
        if end and self.route is not None and not self.tunnel:
            timeout.start_route_timeouts(self)

    def _frame(self, data: bytes, *, end: bool) -> bytes:
        if self.head.body != CHUNKED or self.tunnel:
            return data
        wire = encode_chunk(data) if data else b""
        if end:
            cluster = self.cluster
            keep = cluster is not None and cluster.config.enable_trailers
            wire += encode_last_chunk(self.request_trailers if keep else None)
        return wire

    def on_downstream_closed(self) -> None:
        """The client went away before the response was complete."""
        if self.done:
            return
        info = self.info
        info.flags |= DC
        if not info.response_code_details or info.response_code_details == "via_upstream":
            info.response_code_details = "downstream_remote_disconnect"
        self.manager.stats.rq_rx_reset.value += 1
        self.cancel_upstream()
        self.finish()

    def on_downstream_full(self) -> None:
        """The client reads slowly: take no more from upstream."""
        self.upstream_paused = True
        if self.upstream is not None:
            self.upstream.pause_reading()

    def on_downstream_free(self) -> None:
        self.upstream_paused = False
        if self.upstream is not None:
            self.upstream.resume_reading()

    def on_upstream_full(self) -> None:
        self.connection.pause_reading()

    def on_upstream_free(self) -> None:
        self.connection.resume_reading()

    def cancel_upstream(self) -> None:
        if self.pool is not None:
            self.pool.cancel(self)
            self.pool = None
        upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            upstream.cancel()

    def break_off(self, flag: int, details: str) -> None:
        """The response cannot be completed: the client sees its connection end."""
        self.info.flags |= flag
        self.info.response_code_details = details
        self.manager.stats.rq_tx_reset.value += 1
        self.connection.abort()  # first: a finished connection would go on with the next request
        self.finish()

    def finish(self) -> None:
        """Count and log the request, and let the connection go on."""
        if self.done:
            return
        self.done = True
        timeout.stop_timers(self)
        if self.fault is not None:
            fault.end_fault(self)
        if self.retry_taken:
            retry.release_retry(self)
        manager = self.manager
        info = self.info
        now = manager.runtime.now()
        info.end = now
        stats = manager.stats
        stats.rq_active.value -= 1
        if info.response_code:
            stats.count_response(info.response_code)
        milliseconds = (now - info.start) * 1000
        stats.rq_time.record(milliseconds)
        if self.cluster is not None and info.first_upstream_byte_received:
            self.cluster.stats.rq_time.record((now - info.first_upstream_byte_sent) * 1000)
        if self.tunnel:
            stats.cx_upgrades_active.value -= 1
        manager.log(info)
        self.connection.finished(self)

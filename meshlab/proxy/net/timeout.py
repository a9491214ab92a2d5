"""Every time limit of a request, and what happens when it is reached."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.retry import Reset
from meshlab.proxy.core.stream_info import DT, SI, UMSDR, UT
from meshlab.proxy.net.local_reply import local_failure, reply

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def start_stream_timeouts(stream: "Stream") -> None:
    """Start the limits that count from the request's head on, the connection manager's own."""
    config = stream.manager.config
    timers = stream.manager.runtime.timers
    idle = config.stream_idle_timeout
    if idle:
        start_idle(stream, idle)
    if config.request_timeout and not stream.request_done:
        stream.request_timer = timers.after(config.request_timeout, stream.on_request_timeout)
    if config.max_stream_duration:
        stream.max_duration_timer = timers.after(config.max_stream_duration, stream.on_max_duration)


def start_route_timeouts(stream: "Stream") -> None:
    """The request is complete: now the clock runs for the answer."""
    if stream.timeout and stream.timeout_timer is None and not stream.tunnel:
        stream.timeout_timer = stream.manager.runtime.timers.after(
            stream.timeout, stream.on_timeout
        )
    if (
        stream.per_try_timeout
        and stream.per_try_timer is None
        and (stream.upstream is not None or stream.pool is not None)
    ):
        start_per_try(stream)


def start_per_try(stream: "Stream") -> None:
    stop_per_try(stream)
    stream.per_try_timer = stream.manager.runtime.timers.after(
        stream.per_try_timeout, stream.on_per_try_timeout
    )


def stop_per_try(stream: "Stream") -> None:
    if stream.per_try_timer is not None:
        stream.per_try_timer.cancel()
        stream.per_try_timer = None


def on_timeout(stream: "Stream") -> None:
    stream.timeout_timer = None
    cluster = stream.cluster
    if cluster is not None:
        cluster.stats.rq_timeout.value += 1
        if stream.host is not None and (stream.upstream is not None or stream.pool is not None):
            stream.host.stats.rq_timeout += 1
            cluster.on_local_origin_failure(stream.host, timeout=True)
    stream.info.flags |= UT
    if stream.response_started:
        stream.cancel_upstream()
        stream.break_off(UT, "response_timeout")
        return
    stream.cancel_upstream()
    local_failure(stream, 504, b"upstream request timeout", "response_timeout")


def on_per_try_timeout(stream: "Stream") -> None:
    stream.per_try_timer = None
    cluster = stream.cluster
    if cluster is None or stream.response_started:
        return
    cluster.stats.rq_per_try_timeout.value += 1
    if stream.host is not None:
        stream.host.stats.rq_timeout += 1
        cluster.on_local_origin_failure(stream.host, timeout=True)
    stream.cancel_upstream()
    stream.on_failed_try(Reset.PER_TRY_TIMEOUT, "", sent=True)


def start_idle(stream: "Stream", seconds: float) -> None:
    if stream.idle_timer is not None:
        stream.idle_timer.cancel()
        stream.idle_timer = None
    stream.idle_timeout = seconds
    if seconds:
        stream.last_activity = stream.manager.runtime.now()
        stream.idle_timer = stream.manager.runtime.timers.after(seconds, stream.on_idle)


def on_idle(stream: "Stream") -> None:
    stream.idle_timer = None
    runtime = stream.manager.runtime
    left = stream.last_activity + stream.idle_timeout - runtime.now()
    if left > 0.001:
        stream.idle_timer = runtime.timers.after(round(left, 2) or 0.01, stream.on_idle)
        return
    stream.manager.stats.rq_idle_timeout.value += 1
    status = 408 if not stream.request_done else 504
    _give_up(stream, status, b"stream timeout", SI, "stream_idle_timeout")


def on_request_timeout(stream: "Stream") -> None:
    stream.request_timer = None
    stream.manager.stats.rq_timeout.value += 1
    _give_up(stream, 408, b"request timeout", DT, "request_overall_timeout")


def on_max_duration(stream: "Stream") -> None:
    stream.max_duration_timer = None
    stream.manager.stats.rq_max_duration_reached.value += 1
    _give_up(stream, 408, b"downstream duration timeout", UMSDR, "max_duration_timeout")


def _give_up(stream: "Stream", status: int, body: bytes, flag: int, details: str) -> None:
    if stream.done:
        return
    stream.info.flags |= flag
    stream.cancel_upstream()
    if stream.response_started:
        stream.break_off(flag, details)
    else:
        reply(stream, status, body, details)


def stop_timers(stream: "Stream") -> None:
    """Cancel and forget: a timer holds the stream, and the two would wait for the collector."""
    if stream.timeout_timer is not None:
        stream.timeout_timer.cancel()
        stream.timeout_timer = None
    if stream.idle_timer is not None:
        stream.idle_timer.cancel()
        stream.idle_timer = None
    if stream.per_try_timer is not None:
        stream.per_try_timer.cancel()
        stream.per_try_timer = None
    if stream.retry_timer is not None:
        stream.retry_timer.cancel()
        stream.retry_timer = None
    if stream.max_duration_timer is not None:
        stream.max_duration_timer.cancel()
        stream.max_duration_timer = None
    if stream.request_timer is not None:
        stream.request_timer.cancel()
        stream.request_timer = None

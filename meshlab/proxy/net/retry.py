"""Send a request again: whether policy and limits allow it, when, and the body kept for it."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.retry import Retry, with_request_headers
from meshlab.proxy.core.route import CompiledRoute
from meshlab.proxy.core.stream_info import UO, URX

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def prepare_retry(stream: "Stream", route: CompiledRoute) -> None:
    headers = stream.head.headers
    retry = route.retry
    if b"x-envoy-retry-on" in headers.names or b"x-envoy-max-retries" in headers.names:
        asked = with_request_headers(retry.policy if retry else None, headers)
        retry = Retry(asked) if asked is not None and asked.retry_on else None
    if retry is not None and not stream.head.upgrade and retry.concerns(stream.head):
        stream.retry = retry
        stream.retries_left = retry.policy.num_retries


def retry_if_allowed(stream: "Stream") -> bool:
    """Plan another try; False: the limits do not allow one (flags and counters say which)."""
    cluster = stream.cluster
    breakers = stream.breakers
    retry = stream.retry
    if cluster is None or breakers is None or retry is None:
        return False
    stats = cluster.stats
    if stream.retry_taken:
        release_retry(stream)
    if stream.retries_left <= 0:
        stream.info.flags |= URX
        stats.rq_retry_limit_exceeded.value += 1
        return False
    if not breakers.may_retry():
        stream.info.flags |= UO
        stats.rq_retry_overflow.value += 1
        return False
    stream.retries_left -= 1
    breakers.retries.take()
    stream.retry_taken = True
    stats.rq_retry.value += 1
    if stream.host is not None:
        if stream.tried is None:
            stream.tried = []
        stream.tried.append(stream.host)
    runtime = stream.manager.runtime
    seconds = retry.policy.backoff(stream.attempts, runtime.dice())
    # Rounded, so that back-offs share the queues of a few durations.
    stream.retry_timer = runtime.timers.after(round(seconds, 3), stream.on_retry_due)
    return True


def release_retry(stream: "Stream") -> None:
    if stream.retry_taken and stream.breakers is not None:
        stream.retry_taken = False
        stream.breakers.retries.give()


def keep_for_replay(stream: "Stream", wire: bytes) -> None:
    if not wire:
        return
    stream.replay.append(wire)
    stream.replay_size += len(wire)
    if stream.replay_size <= stream.buffer_limit:
        return
    if stream.upstream is None:
        # Nobody takes the body yet: the client waits until there is a connection.
        stream.connection.pause_reading()
    else:
        abandon_replay(stream)
        stream.replay = []
        stream.replay_size = 0


def abandon_replay(stream: "Stream") -> None:
    """The body is too large to be kept for another try."""
    if stream.retry is not None:
        stream.retry = None
        if stream.cluster is not None:
            stream.cluster.stats.retry_or_shadow_abandoned.value += 1

"""Delay and abort requests on purpose, before the router (Envoy's fault filter)."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.fault import CompiledFault
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.stream_info import DI, FI
from meshlab.proxy.net.local_reply import reply, send_own
from meshlab.proxy.net.router import route_request

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def inject_fault(stream: "Stream") -> None:
    route = stream.route
    fault = (route.fault if route is not None else None) or stream.manager.fault
    if fault is None or not fault.concerns(stream.head, stream.info.upstream_cluster):
        route_request(stream)
        return
    runtime = stream.manager.runtime
    seconds = fault.delay(runtime.dice())
    if not seconds:
        _abort_or_route(stream, fault)
        return
    stats = stream.manager.stats
    stats.fault_delays_injected.value += 1
    stats.fault_active.value += 1
    fault.active += 1
    stream.fault = fault
    stream.info.flags |= DI
    stream.fault_delay = runtime.timers.after(seconds, stream.after_fault_delay)


def after_fault_delay(stream: "Stream") -> None:
    fault = stream.fault
    end_fault(stream)
    if fault is not None and not stream.done:
        _abort_or_route(stream, fault)


def end_fault(stream: "Stream") -> None:
    if stream.fault is not None:
        stream.fault.active -= 1
        stream.fault = None
        stream.manager.stats.fault_active.value -= 1
    if stream.fault_delay is not None:
        stream.fault_delay.cancel()
        stream.fault_delay = None


def _abort_or_route(stream: "Stream", fault: CompiledFault) -> None:
    status = fault.abort(stream.manager.runtime.dice())
    if not status:
        route_request(stream)
        return
    stream.manager.stats.fault_aborts_injected.value += 1
    stream.info.flags |= FI
    grpc_status = fault.config.abort_grpc_status
    if grpc_status is None:
        reply(stream, status, b"fault filter abort", "fault_filter_abort")
        return
    headers = Headers.of(
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % grpc_status),
        (b"grpc-message", b"fault filter abort"),
    )
    send_own(stream, 200, headers, b"", "fault_filter_abort")

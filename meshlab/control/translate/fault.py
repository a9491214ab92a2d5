"""VirtualService `fault` → the fault filter's settings for a route."""

from typing import Any

from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2

from meshlab.api.istio.virtual_service import (
    GRPC_STATUS,
    FaultAbort,
    FaultDelay,
    HTTPFaultInjection,
)
from meshlab.control.translate import capability
from meshlab.control.translate.protobuf import duration, fraction, pack


def apply(route: Any, fault: HTTPFaultInjection | None) -> None:
    """Set what the fault filter does on a route."""
    if fault is None:
        return
    made = fault_pb2.HTTPFault()
    if fault.delay is not None and fault.delay.fixed_delay is not None:
        made.delay.CopyFrom(_delay(fault.delay, fault.delay.fixed_delay))
    if fault.abort is not None and fault.abort.http2_error is None:
        made.abort.CopyFrom(_abort(fault.abort))
    if made.ByteSize():
        route.typed_per_filter_config[capability.FAULT].CopyFrom(pack(made))


def _delay(delay: FaultDelay, seconds: float) -> Any:
    share = delay.percentage.value if delay.percentage else float(delay.percent)
    return common_fault_pb2.FaultDelay(fixed_delay=duration(seconds), percentage=fraction(share))


def _abort(abort: FaultAbort) -> Any:
    share = abort.percentage.value if abort.percentage else 0.0
    made = fault_pb2.FaultAbort(percentage=fraction(share))
    if abort.grpc_status is not None:
        made.grpc_status = GRPC_STATUS.index(abort.grpc_status)
    else:
        made.http_status = abort.http_status or 0
    return made

"""VirtualService `timeout`: how long a whole request may take."""

from typing import Any

from meshlab.control.translate.protobuf import duration


def apply(action: Any, timeout: float | None) -> None:
    """Set the route's time-out in seconds; None is off, where Envoy's own default were 15 s.

    It bounds gRPC as well. Istio also sets `max_grpc_timeout`, which Envoy has deprecated: by it
    a client's grpc-timeout header would shorten the time-out at the proxy, too.
    """
    action.timeout.CopyFrom(duration(timeout or 0))

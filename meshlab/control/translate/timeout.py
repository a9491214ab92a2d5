"""VirtualService `timeout`: how long a whole request may take."""

from typing import Any

from meshlab.control.translate.protobuf import duration


def apply(action: Any, timeout: float | None) -> None:
    """Set the route's time-out in seconds; None is off, where Envoy's own default were 15 s."""
    action.timeout.CopyFrom(duration(timeout or 0))
    # The client's grpc-timeout header is bounded by the route's, too.
    action.max_grpc_timeout.CopyFrom(duration(timeout or 0))

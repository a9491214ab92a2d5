"""Taking hosts that fail out of the choice for a while (Envoy `OutlierDetection`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """`cluster.v3.OutlierDetection` with Envoy's defaults; times in seconds, shares 0–100."""

    consecutive_5xx: int = 5
    enforcing_consecutive_5xx: int = 100
    consecutive_gateway_failure: int = 5
    enforcing_consecutive_gateway_failure: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int = 5
    enforcing_consecutive_local_origin_failure: int = 100
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: int = 10
    """One host may always be ejected, whatever the share."""
    always_eject_one_endpoint: bool = True

"""DestinationRule `outlierDetection` → Envoy's ejection of endpoints that fail in a row."""

from typing import Any

from envoy.config.cluster.v3 import outlier_detection_pb2
from envoy.type.v3 import percent_pb2

from meshlab.api.istio.destination_rule import OutlierDetection
from meshlab.control.translate.protobuf import duration, uint32


def apply(cluster: Any, outlier: OutlierDetection | None) -> None:
    """Set ejection; without a block there is none."""
    if outlier is None:
        return
    cluster.outlier_detection.CopyFrom(outlier_detection(outlier))
    # A few pods: panic would send traffic to those just ejected.
    cluster.common_lb_config.healthy_panic_threshold.CopyFrom(
        percent_pb2.Percent(value=outlier.min_health_percent)
    )


def outlier_detection(outlier: OutlierDetection) -> Any:
    made = outlier_detection_pb2.OutlierDetection(enforcing_success_rate=uint32(0))
    if outlier.consecutive_5xx_errors is not None:
        made.consecutive_5xx.value = outlier.consecutive_5xx_errors
        made.enforcing_consecutive_5xx.value = _enforce(outlier.consecutive_5xx_errors)
    if outlier.consecutive_gateway_errors is not None:
        made.consecutive_gateway_failure.value = outlier.consecutive_gateway_errors
        made.enforcing_consecutive_gateway_failure.value = _enforce(
            outlier.consecutive_gateway_errors
        )
    if outlier.interval is not None:
        made.interval.CopyFrom(duration(outlier.interval))
    if outlier.base_ejection_time is not None:
        made.base_ejection_time.CopyFrom(duration(outlier.base_ejection_time))
    if outlier.max_ejection_percent > 0:
        made.max_ejection_percent.value = outlier.max_ejection_percent
    if outlier.split_external_local_origin_errors:
        _split(made, outlier.consecutive_local_origin_failures)
    return made


def _enforce(threshold: int) -> int:
    """Return the share of detections that eject: all, or none where the threshold is 0."""
    return 100 if threshold else 0


def _split(made: Any, failures: int | None) -> None:
    made.split_external_local_origin_errors = True
    made.enforcing_local_origin_success_rate.value = 0
    if failures:
        made.consecutive_local_origin_failure.value = failures
        made.enforcing_consecutive_local_origin_failure.value = 100

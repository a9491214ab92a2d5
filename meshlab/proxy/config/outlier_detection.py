"""Read when a host is taken out of the choice (Envoy `OutlierDetection`)."""

from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection as Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import duration, join, wrapped
from meshlab.proxy.core.outlier_detection import OutlierDetection

PERCENTS = (
    "max_ejection_percent",
    "enforcing_consecutive_5xx",
    "enforcing_consecutive_gateway_failure",
    "enforcing_consecutive_local_origin_failure",
)


def compile_outlier_detection(message: Message, path: str) -> OutlierDetection:
    for field in PERCENTS:
        if wrapped(message, field, 0) > 100:
            raise ConfigError("must be 0 to 100", field=join(path, field))
    base = duration(message, "base_ejection_time", 30.0, path)
    return OutlierDetection(
        consecutive_5xx=wrapped(message, "consecutive_5xx", 5),
        enforcing_consecutive_5xx=wrapped(message, "enforcing_consecutive_5xx", 100),
        consecutive_gateway_failure=wrapped(message, "consecutive_gateway_failure", 5),
        enforcing_consecutive_gateway_failure=wrapped(
            message, "enforcing_consecutive_gateway_failure", 0
        ),
        split_external_local_origin_errors=message.split_external_local_origin_errors,
        consecutive_local_origin_failure=wrapped(message, "consecutive_local_origin_failure", 5),
        enforcing_consecutive_local_origin_failure=wrapped(
            message, "enforcing_consecutive_local_origin_failure", 100
        ),
        interval=duration(message, "interval", 10.0, path),
        base_ejection_time=base,
        # Envoy: 300 s where it is not set, and never less than the base
        max_ejection_time=duration(message, "max_ejection_time", max(300.0, base), path),
        max_ejection_time_jitter=duration(message, "max_ejection_time_jitter", 0.0, path),
        max_ejection_percent=wrapped(message, "max_ejection_percent", 10),
        always_eject_one_host=wrapped(message, "always_eject_one_host", False),
    )

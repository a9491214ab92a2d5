"""Access logs: Istio's text format to a file, and the log service through the agent."""

from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import config_source_pb2, grpc_service_pb2, substitution_format_string_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2

from meshlab.control.snapshot import Mesh
from meshlab.control.translate import names
from meshlab.control.translate.protobuf import pack

TEXT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "
    "%CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% '
    "%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" '
    "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% "
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
_PEERS = ("upstream_peer", "downstream_peer")


def http_logs(mesh: Mesh) -> list[Any]:
    """Return the logs of an HTTP connection manager."""
    common = _service("http_envoy_accesslog")
    service = als_pb2.HttpGrpcAccessLogConfig(common_config=common)
    return _logs(mesh, "envoy.access_loggers.http_grpc", service)


def tcp_logs(mesh: Mesh) -> list[Any]:
    """Return the logs of a TCP proxy."""
    service = als_pb2.TcpGrpcAccessLogConfig(common_config=_service("tcp_envoy_accesslog"))
    return _logs(mesh, "envoy.access_loggers.tcp_grpc", service)


def listener_logs(mesh: Mesh) -> list[Any]:
    """Return the logs of a listener: only connections that no filter chain takes."""
    logs = _logs(mesh, "", None)
    for log in logs:
        log.filter.response_flag_filter.flags.append("NR")
    return logs


def _logs(mesh: Mesh, service_name: str, service: Any) -> list[Any]:
    logs = []
    if mesh.access_log_file:
        file = file_pb2.FileAccessLog(path=mesh.access_log_file, log_format=_format())
        logs.append(
            accesslog_pb2.AccessLog(name="envoy.access_loggers.file", typed_config=pack(file))
        )
    if mesh.access_log_service and service is not None:
        logs.append(accesslog_pb2.AccessLog(name=service_name, typed_config=pack(service)))
    return logs


def _format() -> Any:
    made = substitution_format_string_pb2.SubstitutionFormatString()
    made.text_format_source.inline_string = TEXT_FORMAT
    return made


def _service(log_name: str) -> Any:
    envoy_grpc = grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=names.ALS_CLUSTER)
    return als_pb2.CommonGrpcAccessLogConfig(
        log_name=log_name,
        grpc_service=grpc_service_pb2.GrpcService(envoy_grpc=envoy_grpc),
        transport_api_version=config_source_pb2.V3,
        filter_state_objects_to_log=_PEERS,
    )

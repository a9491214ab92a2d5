"""Access logs: where, and in which format."""

from fixtures.xds import plain

from meshlab.control.snapshot import Mesh
from meshlab.control.translate.access_log import http_logs, listener_logs, tcp_logs

SAMPLE = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
LOGGERS = "type.googleapis.com/envoy.extensions.access_loggers"
FILE = {
    "name": "envoy.access_loggers.file",
    "typed_config": {
        "@type": f"{LOGGERS}.file.v3.FileAccessLog",
        "path": "/dev/stdout",
        "log_format": {"text_format_source": {"inline_string": SAMPLE}},
    },
}


def test_http() -> None:
    service = {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": f"{LOGGERS}.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "http_envoy_accesslog",
                "grpc_service": {"envoy_grpc": {"cluster_name": "als-grpc"}},
                "transport_api_version": "V3",
                "filter_state_objects_to_log": ["upstream_peer", "downstream_peer"],
            },
        },
    }
    assert [plain(log) for log in http_logs(Mesh())] == [FILE, service]


def test_tcp_has_a_service_of_its_own() -> None:
    assert [plain(log)["name"] for log in tcp_logs(Mesh())] == [
        "envoy.access_loggers.file",
        "envoy.access_loggers.tcp_grpc",
    ]


def test_listeners_log_what_no_chain_takes() -> None:
    assert [plain(log) for log in listener_logs(Mesh())] == [
        FILE | {"filter": {"response_flag_filter": {"flags": ["NR"]}}}
    ]


def test_off() -> None:
    assert http_logs(Mesh(access_log_file="", access_log_service=False)) == []

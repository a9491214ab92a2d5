import json

import pytest

from meshlab.errors import ConfigError
from meshlab.proxy.core.access_log import (
    AccessLogFilter,
    FileAccessLog,
    compile_filter,
    compile_log,
)
from meshlab.proxy.core.format import compile_text
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.header_mutation import HeaderMutation, HeaderValue, compile_mutations
from meshlab.proxy.core.stream_info import (
    UF,
    URX,
    ConnectionInfo,
    PeerCertificate,
    StreamInfo,
    flag_names,
)

ISTIO = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def stream():
    info = StreamInfo(ConnectionInfo(7, "10.0.0.2:80", "10.0.0.1:1234"), 1767323045.6789, 100.0)
    info.end = 100.0125
    info.protocol = "HTTP/1.1"
    info.method = b"GET"
    info.path = b"/in"
    info.authority = b"web.test"
    info.request_headers = Headers.of(
        (b"x-envoy-original-path", b"/out?a"), (b"user-agent", b"curl"), (b"x", b"1"), (b"x", b"2")
    )
    info.response_headers = Headers.of((b"x-envoy-upstream-service-time", b"3"))
    info.response_code = 200
    info.response_code_details = "via upstream"
    info.bytes_sent = 5
    info.upstream_host = "10.0.0.3:8080"
    info.upstream_cluster = "outbound|80||web"
    info.route_name = "default"
    info.upstream_host_metadata = {"istio": {"workload": "web;default", "n": 1}}
    return info


def test_istio_text():
    assert compile_log(FileAccessLog(path="x", text_format=ISTIO))(stream()) == (
        '[2026-01-02T03:04:05.678Z] "GET /out?a HTTP/1.1" 200 - via_upstream - "-" 0 5 12 3 '
        '"-" "curl" "-" "web.test" "10.0.0.3:8080" outbound|80||web - 10.0.0.2:80 '
        "10.0.0.1:1234 - default\n"
    )


def test_envoy_default():
    assert compile_log(FileAccessLog(path="x"))(stream()) == (
        '[2026-01-02T03:04:05.678Z] "GET /out?a HTTP/1.1" 200 - 0 5 12 3 "-" "curl" "-" '
        '"web.test" "10.0.0.3:8080"\n'
    )


def test_json_keeps_types():
    log = FileAccessLog(
        path="x",
        json_format={
            "status": "%RESPONSE_CODE%",
            "both": "%PROTOCOL% %RESPONSE_CODE%",
            "none": "%REQ(NOT-THERE)%",
            "nested": {"path": "%REQ(:PATH)%"},
            "constant": True,
        },
    )
    line = compile_log(log)(stream())
    assert line.endswith("}\n")
    assert json.loads(line) == {
        "both": "HTTP/1.1 200",
        "constant": True,
        "nested": {"path": "/in"},
        "none": None,
        "status": 200,
    }


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("%REQ(X)%", "1,2"),
        ("%REQ(:METHOD):2%", "GE"),
        ("%REQ(A?B)%", "-"),
        ("100%%", "100%"),
        ("%%%PROTOCOL%%%", "%HTTP/1.1%"),
        ("%START_TIME(%Y/%m/%d %H.%M.%S.%3f)%", "2026/01/02 03.04.05.678"),
        ("%START_TIME(%s)%", "1767323045"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1"),
        ("%UPSTREAM_REMOTE_PORT%", "8080"),
        ("%UPSTREAM_METADATA(istio:workload)%", "web;default"),
        ("%METADATA(UPSTREAM_HOST:istio:n)%", "1"),
        ("%METADATA(CLUSTER:istio:n)%", "-"),
        ("%CONNECTION_ID%", "7"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://a,spiffe://b"),
        ("%RESPONSE_DURATION%", "-"),
    ],
)
def test_operator(text, rendered):
    info = stream()
    info.connection.peer_certificate = PeerCertificate(uri_sans=("spiffe://a", "spiffe://b"))
    assert compile_text(text)(info) == rendered


@pytest.mark.parametrize("text", ["%NO_SUCH%", "%REQ%", "50%", "%METADATA(NOWHERE:a)%"])
def test_format_that_does_not_compile(text):
    with pytest.raises(ConfigError):
        compile_text(text)


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        (AccessLogFilter(response_flags=("NR",)), False),
        (AccessLogFilter(response_flags=("NR", "URX")), True),
        (AccessLogFilter(response_flags=()), True),
        (AccessLogFilter(status_at_least=400), False),
        (AccessLogFilter(status_at_least=200, duration_at_least=0.01), True),
        (AccessLogFilter(duration_at_least=1.0), False),
    ],
)
def test_filter(rule, taken):
    info = stream()
    info.flags = UF | URX
    takes = compile_filter(rule)
    assert takes is not None
    assert takes(info) is taken


def test_flags_in_the_order_of_envoy():
    assert flag_names(URX | UF) == "UF,URX"
    assert flag_names(0) == "-"


@pytest.mark.parametrize(
    ("action", "before", "values"),
    [
        ("append_if_exists_or_add", b"a", [b"a", b"HTTP/1.1"]),
        ("append_if_exists_or_add", None, [b"HTTP/1.1"]),
        ("add_if_absent", b"a", [b"a"]),
        ("add_if_absent", None, [b"HTTP/1.1"]),
        ("overwrite_if_exists_or_add", b"a", [b"HTTP/1.1"]),
        ("overwrite_if_exists", b"a", [b"HTTP/1.1"]),
        ("overwrite_if_exists", None, []),
    ],
)
def test_header_mutation(action, before, values):
    headers = Headers.of(*([] if before is None else [(b"x", before)]), (b"gone", b"1"))
    mutate = compile_mutations(
        [
            HeaderMutation(
                remove=(b"gone",),
                add=(
                    HeaderValue(name=b"x", value="%PROTOCOL%", action=action),
                    HeaderValue(name=b"y", value="%REQ(NOT-THERE)%"),
                ),
            )
        ]
    )
    assert mutate is not None
    mutate(headers, stream())
    assert [value for name, value in headers if name == b"x"] == values
    assert set(headers.names) <= {b"x"}

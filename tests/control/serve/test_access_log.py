"""What proxies report, kept and read."""

from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2

from meshlab.control.serve.access_log import AccessLogSink
from meshlab.proto.response_flag import response_flags


def message(path: str, code: int) -> als_pb2.StreamAccessLogsMessage:
    made = als_pb2.StreamAccessLogsMessage()
    entry = made.http_logs.log_entry.add()
    entry.request.request_method = 1
    entry.request.path = path
    entry.request.authority = "web"
    entry.response.response_code.value = code
    entry.protocol_version = 2
    common = entry.common_properties
    common.upstream_cluster = "outbound|80||web"
    common.time_to_last_downstream_tx_byte.FromMilliseconds(12)
    common.upstream_remote_address.socket_address.address = "10.0.0.1"
    common.upstream_remote_address.socket_address.port_value = 8080
    peer = common.tls_properties.peer_certificate_properties
    peer.subject_alt_name.add().uri = "spiffe://cluster.local/ns/a/sa/b"
    return made


def test_entries_are_read_in_istios_words() -> None:
    sink = AccessLogSink()
    sink._keep("sidecar~1", "log", message("/a", 503))
    page = sink.after(0, 10)
    (entry,) = page["entries"]
    assert page["next"] == 1
    picked = (
        "seq",
        "proxy",
        "method",
        "path",
        "protocol",
        "response_code",
        "response_flags",
        "duration",
        "upstream_host",
        "upstream_cluster",
        "authority",
        "source_principal",
    )
    assert {key: entry[key] for key in picked} == {
        "seq": 1,
        "proxy": "sidecar~1",
        "method": "GET",
        "path": "/a",
        "protocol": "HTTP/1.1",
        "response_code": 503,
        "response_flags": "-",
        "duration": 12.0,
        "upstream_host": "10.0.0.1:8080",
        "upstream_cluster": "outbound|80||web",
        "authority": "web",
        "source_principal": "spiffe://cluster.local/ns/a/sa/b",
    }


def test_reading_goes_on_where_it_stopped_and_old_entries_go() -> None:
    sink = AccessLogSink(kept=3)
    for number in range(5):
        sink._keep("p", "l", message(f"/{number}", 200))
    first = sink.after(0, 2)
    assert [e["path"] for e in first["entries"]] == ["/2", "/3"]
    rest = sink.after(first["next"], 10)
    assert [e["path"] for e in rest["entries"]] == ["/4"]
    assert sink.after(rest["next"], 10) == {"next": rest["next"], "entries": []}


def test_response_flags() -> None:
    flags = accesslog_pb2.ResponseFlags(upstream_overflow=True, no_healthy_upstream=True)
    assert response_flags(flags) == "UH,UO"
    assert response_flags(accesslog_pb2.ResponseFlags()) == "-"

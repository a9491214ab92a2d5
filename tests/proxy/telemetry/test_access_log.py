"""Lines to files, entries to a real ALS server."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.data.accesslog.v3 import accesslog_pb2 as data
from envoy.service.accesslog.v3 import als_pb2_grpc
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from meshlab.proxy.config.bootstrap import GrpcSource
from meshlab.proxy.core.access_log import FileAccessLog, GrpcAccessLog
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.core.stream_info import (
    BIT,
    ConnectionInfo,
    PeerCertificate,
    PeerMetadata,
    StreamInfo,
)
from meshlab.proxy.telemetry.access_log import AccessLogs
from meshlab.proxy.telemetry.access_log_entry import http_entry, tcp_entry

NODE = Node(id="n")
ALS = GrpcAccessLog(kind="http", cluster="als", log_name="http", buffer_flush_interval=0.01)


def finished(path: bytes = b"/a?b") -> StreamInfo:
    connection = ConnectionInfo(1, "10.0.0.2:80", "10.0.0.1:1234")
    connection.tls_version = "TLSv1.3"
    connection.requested_server_name = "sni"
    connection.peer_certificate = PeerCertificate(uri_sans=("spiffe://a",), subject="CN=a")
    info = StreamInfo(connection, start_time=1700000000.5, start=100.0)
    info.method, info.path, info.authority, info.scheme = b"GET", path, b"web", b"http"
    info.protocol, info.response_code, info.request_id = "HTTP/1.1", 503, b"id-1"
    info.end, info.last_downstream_byte_received = 100.25, 100.001
    info.first_upstream_byte_sent, info.first_upstream_byte_received = 100.002, 100.2
    info.flags = BIT["URX"] | BIT["UF"]
    info.response_code_details = "via_upstream"
    info.route_name, info.upstream_cluster = "r", "outbound|80||web"
    info.upstream_host, info.upstream_local_address = "10.0.0.3:8080", "10.0.0.2:5"
    info.bytes_received, info.bytes_sent = 5, 7
    info.attempt_count = 3
    info.request_headers = Headers.of((b"user-agent", b"curl"), (b"x-a", b"1"), (b"x-a", b"2"))
    info.response_headers = Headers.of((b"server", b"envoy"))
    info.upstream_peer = PeerMetadata(name="web-1", namespace="shop", workload="web")
    return info


def test_http_entry() -> None:
    config = GrpcAccessLog(
        kind="http",
        cluster="als",
        log_name="l",
        filter_state_keys=("upstream_peer", "downstream_peer"),
        request_headers=(b"x-a", b"x-none"),
        response_headers=(b"server",),
    )
    entry = http_entry(finished(), config)
    peer = Struct()
    assert entry.common_properties.filter_state_objects["upstream_peer"].Unpack(peer)
    assert (peer["NAME"], peer["NAMESPACE"], peer["WORKLOAD_NAME"]) == ("web-1", "shop", "web")
    del entry.common_properties.filter_state_objects["upstream_peer"]
    assert MessageToDict(entry, preserving_proto_field_name=True) == {
        "common_properties": {
            "downstream_remote_address": socket_address("10.0.0.1", 1234),
            "downstream_direct_remote_address": socket_address("10.0.0.1", 1234),
            "downstream_local_address": socket_address("10.0.0.2", 80),
            "upstream_remote_address": socket_address("10.0.0.3", 8080),
            "upstream_local_address": socket_address("10.0.0.2", 5),
            "upstream_cluster": "outbound|80||web",
            "route_name": "r",
            "upstream_request_attempt_count": 3,
            "stream_id": "id-1",
            "start_time": "2023-11-14T22:13:20.500Z",
            "time_to_last_rx_byte": "0.001s",
            "time_to_first_upstream_tx_byte": "0.002s",
            "time_to_first_upstream_rx_byte": "0.200s",
            "time_to_last_downstream_tx_byte": "0.250s",
            "duration": "0.250s",
            "response_flags": {
                "upstream_connection_failure": True,
                "upstream_retry_limit_exceeded": True,
            },
            "tls_properties": {
                "tls_version": "TLSv1_3",
                "tls_sni_hostname": "sni",
                "peer_certificate_properties": {
                    "subject": "CN=a",
                    "subject_alt_name": [{"uri": "spiffe://a"}],
                },
            },
            "downstream_wire_bytes_received": "27",
            "downstream_wire_bytes_sent": "18",
            "access_log_type": "DownstreamEnd",
        },
        "protocol_version": "HTTP11",
        "request": {
            "request_method": "GET",
            "scheme": "http",
            "authority": "web",
            "path": "/a?b",
            "user_agent": "curl",
            "request_id": "id-1",
            "request_headers_bytes": "22",
            "request_body_bytes": "5",
            "request_headers": {"x-a": "1,2"},
        },
        "response": {
            "response_code": 503,
            "response_headers_bytes": "11",
            "response_body_bytes": "7",
            "response_headers": {"server": "envoy"},
            "response_code_details": "via_upstream",
        },
    }


def socket_address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def test_tcp_entry() -> None:
    entry = tcp_entry(finished(), ALS)
    assert entry.connection_properties == data.ConnectionProperties(received_bytes=5, sent_bytes=7)
    assert entry.common_properties.access_log_type == data.TcpConnectionEnd


class Service(als_pb2_grpc.AccessLogServiceServicer):
    """Keeps what comes; breaks the first `breaks` streams after their first message."""

    def __init__(self, breaks: int = 0) -> None:
        self.messages: asyncio.Queue[StreamAccessLogsMessage] = asyncio.Queue()
        self.breaks = breaks

    async def StreamAccessLogs(self, requests, context):
        async for message in requests:
            self.messages.put_nowait(message)
            if self.breaks:
                self.breaks -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        return StreamAccessLogsResponse()

    async def paths(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            message = await asyncio.wait_for(self.messages.get(), 5)
            found += [entry.request.path for entry in message.http_logs.log_entry]
        return found


@asynccontextmanager
async def logs_to(service: Service) -> AsyncIterator[tuple[AccessLogs, StatRegistry]]:
    server = grpc.aio.server()
    als_pb2_grpc.add_AccessLogServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stats = StatRegistry()
    source = GrpcSource(
        cluster_name="als", target=f"ipv4:127.0.0.1:{port}", delta=False, base_interval=0.01
    )
    logs = AccessLogs(NODE, stats, lambda _: source)
    try:
        yield logs, stats
    finally:
        await logs.close()
        await server.stop(None)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 15))


def test_entries_come_in_batches_with_the_node_first() -> None:
    async def scenario() -> None:
        service = Service()
        async with logs_to(service) as (logs, stats):
            take = logs.open(ALS)
            take(finished(b"/1"))
            take(finished(b"/2"))
            message = await asyncio.wait_for(service.messages.get(), 5)
            assert (message.identifier.node.id, message.identifier.log_name) == ("n", "http")
            assert [entry.request.path for entry in message.http_logs.log_entry] == ["/1", "/2"]
            take(finished(b"/3"))
            assert await service.paths(1) == ["/3"]
            await logs.close()
            assert stats.counter("access_logs.grpc_access_log.logs_written").value == 3

    run(scenario)


def test_a_broken_stream_is_opened_again() -> None:
    async def scenario() -> None:
        service = Service(breaks=1)
        async with logs_to(service) as (logs, _):
            take = logs.open(ALS)
            take(finished(b"/1"))
            assert await service.paths(1) == ["/1"]
            found: list[str] = []
            while "/last" not in found:  # what was on its way when the stream broke may be lost
                take(finished(b"/last"))
                try:
                    async with asyncio.timeout(0.3):
                        found += await service.paths(1)
                except TimeoutError:
                    continue

    run(scenario)


def test_close_sends_what_waits() -> None:
    async def scenario() -> None:
        service = Service()
        async with logs_to(service) as (logs, _):
            slow = GrpcAccessLog(
                kind="http", cluster="als", log_name="l", buffer_flush_interval=60.0
            )
            logs.open(slow)(finished(b"/x"))
            await logs.close()
            assert await service.paths(1) == ["/x"]

    run(scenario)


def test_lines_are_gathered_and_files_rotated(tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def scenario() -> None:
        logs = AccessLogs(NODE, StatRegistry(), lambda _: pytest.fail("no service"))
        take = logs.open(FileAccessLog(path=str(path), text_format="%REQ(:PATH)%\n"))
        for index in range(1000):
            take(finished(b"/%d" % index))
        assert not path.exists()
        await logs.close()
        assert path.read_text() == "".join(f"/{index}\n" for index in range(1000))
        path.rename(tmp_path / "log.1")
        take(finished(b"/new"))
        await logs.close()
        assert path.read_text() == "/new\n"

    run(scenario)


def test_a_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        logs = AccessLogs(NODE, StatRegistry(), lambda _: pytest.fail("no service"))
        take = logs.open(FileAccessLog(path=str(tmp_path / "no" / "log"), text_format="x\n"))
        take(finished())
        await logs.close()

    run(scenario)
    assert "cannot be written: No such file or directory" in caplog.text


def test_a_full_pipe_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(
        "meshlab.proxy.telemetry.access_log.STANDARD_STREAMS", {"/dev/stdout": writing}
    )

    async def scenario() -> None:
        logs = AccessLogs(NODE, StatRegistry(), lambda _: pytest.fail("no service"))
        take = logs.open(FileAccessLog(path="/dev/stdout", text_format="x" * 200_000 + "\n"))
        take(finished())
        logs.flush()  # more than the pipe holds: returns all the same
        received = 0
        while received < 200_001:
            received += len(await asyncio.to_thread(os.read, reading, 65536))
        await logs.close()

    run(scenario)
    os.close(reading)
    os.close(writing)

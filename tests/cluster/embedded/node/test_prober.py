"""Probes by HTTP and TCP, on real sockets."""

import asyncio
import socket
from typing import Any

import pytest

from meshlab.cluster.embedded.node.container import Run
from meshlab.cluster.embedded.node.environment import ConfigMissing
from meshlab.cluster.embedded.node.prober import HandlerError, handle, port_number

CONTAINER = {"ports": [{"name": "http", "containerPort": 8080}]}


async def ask(answer: bytes | None, kind: str, **fields: Any) -> bytes:
    """Probe a server that gives this answer, None: none at all; return what it was asked."""
    asked = bytearray()
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(await reader.read(4096))
        if answer is None:
            await reader.read()  # until the prober has enough
        else:
            writer.write(answer)
        writer.close()
        closed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    run = Run.__new__(Run)  # neither kind looks at it
    try:
        await handle(
            {kind: {"port": port, **fields}}, CONTAINER, run, "127.0.0.1", 0.2, "kube-probe"
        )
    finally:
        await closed.wait()
        server.close()
        await server.wait_closed()
    return bytes(asked)


def test_what_an_http_probe_asks() -> None:
    headers = [{"name": "X-Probe", "value": "1"}, {"name": "Host", "value": "shop"}]
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    asked = asyncio.run(ask(answer, "httpGet", path="/ready?x=1", httpHeaders=headers))
    assert asked.startswith(b"GET /ready?x=1 HTTP/1.1\r\nHost: shop\r\nUser-Agent: kube-probe\r\n")
    assert b"X-Probe: 1\r\n" in asked


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(
            b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad",
            "HTTP probe failed with statuscode: 500 bad",
            id="a bad status",
        ),
        pytest.param(b"", "0 bytes read", id="closed without an answer"),
        pytest.param(b"nonsense\r\n\r\n", "malformed HTTP response", id="not HTTP"),
        pytest.param(None, "timed out after 0.2s", id="silence"),
    ],
)  # fmt: skip
def test_a_failed_http_probe_says_why(answer: bytes | None, message: str) -> None:
    with pytest.raises(HandlerError) as caught:
        asyncio.run(ask(answer, "httpGet"))
    assert message in str(caught.value)


def test_a_tcp_probe_only_connects() -> None:
    assert asyncio.run(ask(b"", "tcpSocket")) == b""


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    probe = {"tcpSocket": {"port": port}}
    with pytest.raises(HandlerError, match=f"dial tcp 127.0.0.1:{port}: Connection refused"):
        asyncio.run(handle(probe, CONTAINER, Run.__new__(Run), "127.0.0.1", 1, "kube-probe"))


def test_ports_by_name_and_number() -> None:
    assert [port_number(port, CONTAINER) for port in ("http", 80, "81")] == [8080, 80, 81]
    with pytest.raises(ConfigMissing, match='find port "grpc"'):
        port_number("grpc", CONTAINER)

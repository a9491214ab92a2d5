"""The relay between the host's loopback and a service, on real sockets."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from meshlab.cluster.embedded.network.relay import HostSockets, Relay

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def relayed(handler: Handler | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection through a relay to a server with this handler; None: nobody listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    target = listener.getsockname()
    if handler:
        await asyncio.start_server(handler, sock=listener)
    else:
        listener.close()
    front = socket.create_server(("127.0.0.1", 0))
    await Relay(front, target).start()
    return await asyncio.open_connection(*front.getsockname())


def test_bytes_both_ways_and_half_close() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()  # until the client's half close
        writer.write(data * 2)
        writer.close()

    async def scenario() -> bytes:
        reader, writer = await relayed(echo)
        writer.write(b"x" * 300_000)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    assert asyncio.run(scenario()) == b"x" * 600_000


def test_a_refusing_service_resets_the_client() -> None:
    async def scenario() -> None:
        reader, _ = await relayed(None)
        await reader.read()

    with pytest.raises(ConnectionResetError):
        asyncio.run(scenario())


def test_a_reset_by_the_service_is_passed_on() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def scenario() -> None:
        reader, writer = await relayed(cut)
        writer.write(b"x")
        await reader.read()

    with pytest.raises(ConnectionResetError):
        asyncio.run(scenario())


def test_host_sockets_know_what_is_free() -> None:
    host = HostSockets()
    with host.listen(0) as listener:
        port = listener.getsockname()[1]
        assert not host.is_free(port)
    assert host.is_free(port)
    host.thread.shutdown()

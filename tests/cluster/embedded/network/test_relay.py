"""The relay between the host's loopback and a service, on real sockets.

On uvloop, as in the cluster: it begins to read before a connection can be paused.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from meshlab.cluster.embedded.network.relay import RESET, HostSockets, Relay

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def relayed(
    handler: Handler | None,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect through a relay to a server with this handler; None: nobody listens there."""
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        target = listener.getsockname()
        if handler:
            server = await asyncio.start_server(handler, sock=listener)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
        else:
            listener.close()
        front = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        relay = Relay(front, target)
        await relay.start()
        stack.callback(relay.close)
        reader, writer = await asyncio.open_connection(*front.getsockname())
        yield reader, writer
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_bytes_both_ways_and_half_close() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()  # until the client's half close
        writer.write(data * 2)
        writer.close()
        await writer.wait_closed()

    async def scenario() -> bytes:
        async with relayed(echo) as (reader, writer):
            writer.write(b"x" * 300_000)
            writer.write_eof()
            return await reader.read()

    assert uvloop.run(scenario()) == b"x" * 600_000


def test_a_client_that_speaks_at_once_is_heard() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    async def scenario() -> list[bytes]:
        answers = []
        for _ in range(30):
            async with relayed(echo) as (reader, writer):
                writer.write(b"soon")
                answers.append(await reader.read())
        return answers

    assert uvloop.run(scenario()) == [b"soon"] * 30


def test_a_refusing_service_resets_the_client() -> None:
    async def scenario() -> None:
        async with relayed(None) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()

    uvloop.run(scenario())


def test_a_reset_by_the_service_is_passed_on() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async def scenario() -> None:
        async with relayed(cut) as (reader, writer):
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()

    uvloop.run(scenario())


def test_host_sockets_know_what_is_free() -> None:
    host = HostSockets()
    with host.listen(0) as listener:
        port = listener.getsockname()[1]
        assert not host.is_free(port)
    assert host.is_free(port)
    host.thread.shutdown()

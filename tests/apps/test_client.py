"""The load generator's client against servers that misbehave."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
import uvloop

from meshlab.apps.client import Answer, Client

TRIES = 200


@pytest.fixture
def resetting_port() -> Iterator[int]:
    """Serve a port where every connection is taken and reset at once, as by a relay to nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(TRIES):
                connection, _address = server.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def test_a_connection_reset_at_once_is_a_failed_call(resetting_port: int) -> None:
    client = Client(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "127.0.0.1", resetting_port, timeout=5)

    async def fetch_all() -> list[Answer]:
        return [await client.fetch() for _ in range(TRIES)]

    assert [answer.code for answer in uvloop.run(fetch_all())] == [-1] * TRIES
    assert client.sockets == TRIES

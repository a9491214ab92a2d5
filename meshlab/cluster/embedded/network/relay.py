"""Services on the host's loopback: a listener there, its bytes carried into the cluster.

The one hop in user space, for callers outside the cluster only. A socket stays in the network
namespace it was made in, so listeners are opened by a thread that never left the host's.
"""

import asyncio
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from meshlab.cluster.embedded.task import spawn

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing sends RST."""


class HostSockets:
    """Opens sockets in the network namespace that the process was in when this was made."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="host-sockets")
        self.thread.submit(lambda: None).result()  # the thread is there before anyone moves

    def listen(self, port: int) -> socket.socket:
        """Return a listener on 127.0.0.1; raises OSError when the port is taken."""
        return self.thread.submit(socket.create_server, ("127.0.0.1", port), backlog=512).result()

    def is_free(self, port: int) -> bool:
        """Say whether `listen` would have the port."""
        try:
            self.listen(port).close()
        except OSError:
            return False
        return True


class End(asyncio.Protocol):
    """One side of a relayed connection: what comes in here goes out at `peer`."""

    def __init__(self) -> None:
        self.peer: End | None = None
        self.transport: asyncio.Transport | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports keep the protocol but are not asyncio's classes
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.peer and self.peer.transport and not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return not (self.peer and self.peer.ended)  # the other direction may go on

    def pause_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.peer or not self.peer.transport:
            return
        if exc:
            reset(self.peer.transport)
        else:
            self.peer.transport.close()


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST, so that its client knows at once and does not take it for EOF."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


class Relay:
    """One listener and its connections."""

    def __init__(
        self, listener: socket.socket, target: tuple[str, int], owner: tuple[str, str] = ("", "")
    ) -> None:
        self.listener = listener
        self.target = target
        self.owner = owner
        """Namespace and name of the Service."""
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Client(self), sock=self.listener)

    def close(self) -> None:
        """Take no more connections; those under way go on."""
        if self.server:
            self.server.close()

    def connect(self, client: "Client") -> None:
        spawn(self.open(client), f"relay to {self.target}")

    async def open(self, client: "Client") -> None:
        """Connect to the service; when it refuses, refuse the client too."""
        loop = asyncio.get_running_loop()
        transport = client.transport
        if transport is None:
            return
        try:
            _, backend = await loop.create_connection(End, *self.target)
        except OSError:
            reset(transport)
            return
        if transport.is_closing() and backend.transport:
            backend.transport.abort()
        else:
            client.join(backend)


class Client(End):
    """The side that the host's program is on; it may speak before there is somebody to hear it."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.relay = relay
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.relay.connect(self)

    def data_received(self, data: bytes) -> None:
        if self.peer:
            super().data_received(data)
        elif self.transport:
            # Not paused from the start: uvloop begins to read after connection_made() anyway.
            self.early += data
            self.transport.pause_reading()

    def join(self, backend: End) -> None:
        """Begin to relay, with what has come in meanwhile."""
        backend.peer, self.peer = self, backend
        if backend.transport and self.transport:
            backend.transport.write(self.early)
            if self.ended:
                backend.transport.write_eof()
            self.transport.resume_reading()

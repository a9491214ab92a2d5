"""Serving an ASGI application on an address, with or without TLS from memory."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the process's signals are the wiring's, not one server's


async def serve(app: Any, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
    """Serve until cancelled."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    config.load()
    config.ssl = tls
    await _Server(config).serve(sockets=[listening])


def listen(address: str) -> socket.socket:
    """Open `host:port`, `:port` for every address of this machine."""
    host, _, port = address.rpartition(":")
    listening = socket.create_server((host or "0.0.0.0", int(port)), backlog=1024)  # noqa: S104 - a Service's port
    listening.setblocking(False)
    return listening

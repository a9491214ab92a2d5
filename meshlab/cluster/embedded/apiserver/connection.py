"""Connections that cannot be held open by sending little, nor fill memory by sending much."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

LARGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers."""
HEAD_SECONDS = 10.0
"""How long a request's head may take, from its first byte (or the connection) on."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with limits on the head of a request."""

    _head_bytes = 0
    _in_head = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > LARGEST_HEAD:
            self._too_much()

    def on_message_begin(self) -> None:
        if not self._in_head:
            self._head_bytes = 0
            self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_deadline()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._in_head = True
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._too_much)

    def _cancel_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _too_much(self, *_: Any) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


class RefusableWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which takes an HTTP answer instead of a handshake for no failure."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True

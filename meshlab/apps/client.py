"""One connection of the load generator: an HTTP/1.1 client that acts as fortio's fast client.

It connects when it has to, sends the same bytes again and again, reads the whole answer, and keeps
the connection when the answer was good and may be kept; any other answer closes it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

from meshlab.apps.histogram import Histogram

SOCKET_ERROR = -1
"""fortio's code where no HTTP status came: refused, reset, timed out."""
BODY_BYTES = 32
"""How much of a body is kept: enough for a colour."""
TEAPOT = 418


def is_ok(code: int) -> bool:
    """Return whether fortio counts a code as success."""
    return 200 <= code <= 299 or code == TEAPOT


@dataclass(slots=True)
class Answer:
    """What came back for one request."""

    code: int = SOCKET_ERROR
    size: int = 0
    """Bytes of head and body as they were on the wire."""
    header_size: int = 0
    body: bytes = b""
    instance: str = ""
    error: str = ""


class _Exchange(asyncio.Protocol):
    """A connection on which one answer at a time is awaited."""

    def __init__(self, *, head_only: bool, keep: int) -> None:
        self._head_only = head_only
        self._keep = keep
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.answer = Answer()
        self.headers: list[tuple[bytes, bytes]] = []
        self.reusable = False
        self.closed = False
        self._counted = False
        self._complete = False
        self._piece = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self._complete:
            answer = self.answer
            # Without a length the end of the connection is the end of the body (RFC 9112 §6.3).
            if exc is not None or not answer.code or self._counted:
                answer.error = str(exc) if exc else "connection closed before the whole answer"
                answer.code = SOCKET_ERROR
        self._finish()

    def send(self, request: bytes) -> "asyncio.Future[None]":
        """Write one request; the future is done when its answer is in, or cannot come."""
        self.answer = Answer(code=0)
        self.headers = []
        self._complete = self._counted = self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        if self.closed or self._transport is None:
            self.connection_lost(None)
        else:
            self._transport.write(request)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self.answer.size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._finish()
        except httptools.HttpParserError as error:
            self.answer.code = SOCKET_ERROR
            self.answer.error = f"not an HTTP/1.1 answer: {error}"
            self.close()

    def on_message_begin(self) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        name = name.lower()
        if name == b"x-instance":
            self.answer.instance = value.decode("latin-1")
        elif name in {b"content-length", b"transfer-encoding"}:
            self._counted = True

    def on_headers_complete(self) -> None:
        answer = self.answer
        answer.code = self._parser.get_status_code()
        # The head as fortio counts it: status line, lines, and the empty line.
        line = len(f"HTTP/{self._parser.get_http_version()} {answer.code} ") + self._piece + 2
        answer.header_size = line + sum(len(n) + len(v) + 4 for n, v in self.headers) + 2
        self._piece = 0
        if self._head_only:
            self._end(keep=self._parser.should_keep_alive())

    def on_status(self, status: bytes) -> None:
        self._piece += len(status)

    def on_body(self, body: bytes) -> None:
        room = self._keep - len(self.answer.body)
        if room > 0:
            self.answer.body += body[:room]

    def on_message_complete(self) -> None:
        if self.answer.code >= 200 or self.answer.code == 101:  # 1xx: the real one follows
            self._end(keep=self._parser.should_keep_alive())

    def _end(self, *, keep: bool) -> None:
        self._complete = True
        self.reusable = keep
        self._finish()

    def _finish(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        self.closed = True
        self._complete = True
        self._finish()
        if self._transport is not None:
            self._transport.abort()


class Client:
    """One of fortio's "threads": at most one request at a time on at most one connection.

    Attributes:
        sockets: connections opened so far.
        connect_times: how long each took, in seconds.
        peers: "ip:port" of each connection opened.
    """

    def __init__(
        self,
        request: bytes,
        host: str,
        port: int,
        *,
        timeout: float,
        keep_alive: bool = True,
        reuse_limit: Callable[[], int] = lambda: 0,
        keep_body: int = BODY_BYTES,
    ) -> None:
        self._request = request
        self._host = host
        self._port = port
        self._timeout = timeout
        self._keep_alive = keep_alive
        self._reuse_limit = reuse_limit
        self._limit = reuse_limit()
        self._used = 0
        self._keep_body = keep_body
        self._exchange: _Exchange | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.sockets = 0
        self.connect_times = Histogram(0.001)
        self.peers: list[str] = []

    async def fetch(self) -> Answer:
        """Send the request, return its answer; a failure is one with code -1, never raised."""
        reused = self._exchange is not None
        try:
            exchange = self._exchange or await self._connect()
        except (OSError, TimeoutError) as error:
            return Answer(error=_why(error, "connect"))
        self._exchange = None
        self._used += 1
        try:
            async with asyncio.timeout(self._timeout):
                await exchange.send(self._request)
        except TimeoutError:
            exchange.close()
            return Answer(size=exchange.answer.size, error=f"no answer in {self._timeout:g}s")
        answer = exchange.answer
        if reused and answer.code == SOCKET_ERROR and not answer.size:
            return (
                await self.fetch()
            )  # an idle connection may be closed by the server: once is fair
        self.headers = exchange.headers
        self._keep_or_close(exchange, answer)
        return answer

    async def _connect(self) -> _Exchange:
        self.sockets += 1
        self._used = 0
        began = time.perf_counter_ns()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                transport, exchange = await loop.create_connection(
                    lambda: _Exchange(
                        head_only=self._request.startswith(b"HEAD "), keep=self._keep_body
                    ),
                    self._host,
                    self._port,
                )
        finally:
            self.connect_times.record((time.perf_counter_ns() - began) / 1e9)
        # None where the server has reset the connection by now: there is no other end to name.
        if peer := transport.get_extra_info("peername"):
            self.peers.append(f"{peer[0]}:{peer[1]}")
        return exchange

    def _keep_or_close(self, exchange: _Exchange, answer: Answer) -> None:
        spent = self._limit and self._used >= self._limit
        if (
            self._keep_alive
            and exchange.reusable
            and not exchange.closed
            and is_ok(answer.code)
            and not spent
        ):
            self._exchange = exchange
            return
        if spent:
            self._limit = self._reuse_limit()
        exchange.close()

    def close(self) -> None:
        """Close the idle connection."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None


def _why(error: Exception, verb: str) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"{verb}: timed out"
    return f"{verb}: {error.strerror if isinstance(error, OSError) and error.strerror else error}"

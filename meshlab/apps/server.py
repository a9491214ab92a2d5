"""A small HTTP/1.1 server for the demo services: one function answers each request.

Built to be light (a lab runs a dozen of these): asyncio protocols, no task per request, and no
framework. Chunked or counted bodies, keep-alive, pipelining and a graceful end on SIGTERM.
"""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote

import httptools
import uvloop

DRAIN_SECONDS = 3.0
"""How long requests under way may take to finish once the process is told to end."""


@dataclass(slots=True)
class Request:
    """One request, whole."""

    method: str = ""
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case; of a repeated header the last value."""
    body: bytes = b""
    keep_alive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer; `delay` seconds pass before it is sent."""

    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunked: bool = False
    close: bool = False
    delay: float = 0.0

    def encode(self, *, keep_alive: bool, head_only: bool) -> bytes:
        """Return the message as it goes over the wire (RFC 9112)."""
        lines = [
            f"HTTP/1.1 {self.status} {_reason(self.status)}",
            f"date: {formatdate(usegmt=True)}",
        ]
        if self.body:
            lines.append(f"content-type: {self.content_type}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        chunked = self.chunked and bool(self.body)
        if chunked:
            lines.append("transfer-encoding: chunked")
        elif self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"content-length: {len(self.body)}")
        if not keep_alive:
            lines.append("connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if head_only or not self.body:
            return head
        if chunked:
            return b"%s%x\r\n%s\r\n0\r\n\r\n" % (head, len(self.body), self.body)
        return head + self.body


Handler = Callable[[Request], Response]


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class Connection(asyncio.Protocol):
    """One client's connection: requests are answered one by one, in their order."""

    __slots__ = (
        "_busy",
        "_open",
        "_parser",
        "_request",
        "_transport",
        "_url",
        "_waiting",
        "server",
    )

    def __init__(self, server: "Server") -> None:
        self.server = server
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._open = True
        self._request = Request()
        self._url = b""
        self._transport: asyncio.Transport | None = None

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False
        self.server.forget(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # this server speaks HTTP/1.1 only; the request itself was complete
        except httptools.HttpParserError:
            self._send(Response(status=400), Request(keep_alive=False))

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._request = Request()
        self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._request.headers.get("expect", "").lower() == "100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        request = self._request
        path, _, query = self._url.decode("latin-1").partition("?")
        request.method = self._parser.get_method().decode("ascii")
        request.path = unquote(path)
        request.query = dict(parse_qsl(query, keep_blank_values=True))
        request.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(request)
        if not self._busy:
            self._next()

    # answering

    def _next(self) -> None:
        while self._waiting and self._open and not self._busy:
            request = self._waiting.popleft()
            response = self.server.handler(request)
            if response.delay > 0:
                self._busy = True
                loop = asyncio.get_running_loop()
                loop.call_later(response.delay, self._send_late, response, request)
            else:
                self._send(response, request)

    def _send_late(self, response: Response, request: Request) -> None:
        self._busy = False
        self._send(response, request)
        self._next()

    def _send(self, response: Response, request: Request) -> None:
        if not self._open or self._transport is None:
            return
        keep_alive = request.keep_alive and not response.close and not self.server.draining
        self._transport.write(
            response.encode(keep_alive=keep_alive, head_only=request.method == "HEAD")
        )
        if not keep_alive:
            self._open = False
            self._transport.close()

    def drain(self) -> None:
        """Close now when idle; else the answer under way closes it."""
        if not self._busy and not self._waiting and self._transport is not None:
            self._open = False
            self._transport.close()


class Server:
    """Listeners, their connections and the function that answers."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections: set[Connection] = set()
        self.draining = False
        self._listeners: list[asyncio.Server] = []
        self._idle = asyncio.Event()

    def forget(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
        self.connections.discard(connection)
        if not self.connections:
            self._idle.set()

    async def listen(self, host: str, port: int) -> int:
        """Open one more listener; return its port (chosen by the system when `port` is 0)."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def close(self, seconds: float = DRAIN_SECONDS) -> None:
        """Accept nothing more, let answers under way finish for at most `seconds`."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)


def run(handler: Handler, ports: Sequence[int], *, host: str = "0.0.0.0") -> None:  # noqa: S104 - a pod serves its network
    """Serve until SIGTERM or SIGINT, then drain. Prints one line once it listens."""

    async def main() -> None:
        server = Server(handler)
        bound = [await server.listen(host, port) for port in ports]
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        print(f"listening on {', '.join(map(str, bound))}", flush=True)  # noqa: T201 - the pod's log
        await stop.wait()
        await server.close()

    uvloop.run(main())

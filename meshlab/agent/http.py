"""As much HTTP/1.1 as the agent needs: answer GET and POST on its ports, ask the pod's own ports.

A framework would cost each pod's start a tenth of a second and 10 MB; the requests here are small
and come from kubelets, Prometheus and people with curl.
"""

import asyncio
import contextlib
import http.client
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

LOG = logging.getLogger("meshlab.agent.http")
LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 1 << 20
IDLE_TIMEOUT = 60.0
"""Seconds a connection may stay silent."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    """Without the query."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=UTF-8"


Handler = Callable[[Request], Awaitable[Response]]


async def serve(host: str, port: int, handler: Handler) -> asyncio.Server:
    """Listen and answer every request by `handler`; one after the other on a connection."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            while await _exchange(reader, writer, handler):
                pass
        writer.close()

    return await asyncio.start_server(connection, host, port, limit=LARGEST_HEAD)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
) -> bool:
    """Answer one request; return whether the connection stays."""
    async with asyncio.timeout(IDLE_TIMEOUT):
        head = await reader.readuntil(b"\r\n\r\n")
        request = _parse_head(head)
        length = request.headers.get("content-length", "0") if request else ""
        if request is None or not length.isdigit() or int(length) > LARGEST_BODY:
            await _send(writer, Response(400, b"bad request"), "GET", close=True)
            return False
        body = await reader.readexactly(int(length))
    response = await _answer(handler, request, body)
    close = request.headers.get("connection", "").lower() == "close"
    await _send(writer, response, request.method, close=close)
    return not close


async def _answer(handler: Handler, request: Request, body: bytes) -> Response:
    try:
        return await handler(
            Request(request.method, request.path, request.query, request.headers, body)
        )
    except Exception:
        LOG.exception("%s %s failed", request.method, request.path)
        return Response(500, b"internal error; see the agent's log\n")


def _parse_head(head: bytes) -> Request | None:
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        return None
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if "transfer-encoding" in headers:
        return None  # nobody sends us chunked bodies, and half support would smuggle
    if words[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    path, _, query = words[1].partition("?")
    return Request(words[0], path, query, headers)


async def _send(
    writer: asyncio.StreamWriter, response: Response, method: str, *, close: bool
) -> None:
    head = (
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        f"content-type: {response.content_type}\r\ncontent-length: {len(response.body)}\r\n"
        f"{'connection: close' if close else 'connection: keep-alive'}\r\n\r\n"
    )
    writer.write(head.encode() + (b"" if method == "HEAD" else response.body))
    await writer.drain()


def ask(
    port: int,
    method: str,
    path: str,
    *,
    host: str = "127.0.0.1",
    source: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
) -> Response:
    """Send one request and return the answer; blocks.

    `source` is the address to dial from: 127.0.0.6 passes by the capture rules.

    Raises:
        OSError: no connection, or none in time.
    """
    connection = http.client.HTTPConnection(
        host, port, timeout=timeout, source_address=(source, 0) if source else None
    )
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        kind = answer.getheader("content-type", "")
        return Response(answer.status, answer.read(), kind)
    except http.client.HTTPException as error:
        raise ConnectionError(f"{host}:{port} did not answer in HTTP: {error!r}") from error
    finally:
        connection.close()


async def asked(
    port: int,
    method: str,
    path: str,
    *,
    host: str = "127.0.0.1",
    source: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,  # noqa: ASYNC109 - the socket's own time-out, which also ends the thread
) -> Response:
    """Do as `ask` in a thread, so that the loop goes on."""
    return await asyncio.to_thread(
        ask, port, method, path, host=host, source=source, headers=headers, timeout=timeout
    )

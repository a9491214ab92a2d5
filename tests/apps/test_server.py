import asyncio

import pytest

from meshlab.apps.server import Request, Response, Server


def answer(request: Request) -> Response:
    delay = float(request.query.get("delay", "0"))
    return Response(body=f"{request.method} {request.path} {request.body!r}".encode(), delay=delay)


async def exchange(wire: bytes, *, pieces: int = 1) -> bytes:
    server = Server(answer)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.listen("127.0.0.1", 0))
    size = -(-len(wire) // pieces)
    for start in range(0, len(wire), size):
        writer.write(wire[start : start + size])
        await writer.drain()
    back = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await server.close(0)
    return back


def bodies(wire: bytes, **options: int) -> list[bytes]:
    parts = asyncio.run(exchange(wire, **options)).split(b"HTTP/1.1 ")[1:]
    return [part.partition(b"\r\n\r\n")[2] for part in parts]


@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_pipelined_requests_are_answered_in_order(pieces: int) -> None:
    wire = (
        b"GET /slow?delay=0.05 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert bodies(wire, pieces=pieces) == [b"GET /slow b''", b"POST /body b'abc'", b"GET /last b''"]


def test_what_is_no_http_gets_400() -> None:
    assert asyncio.run(exchange(b"\x16\x03\x01 hello\r\n\r\n")).startswith(
        b"HTTP/1.1 400 Bad Request"
    )


def test_draining_finishes_what_is_under_way() -> None:
    async def main() -> bytes:
        asked = asyncio.Event()

        def late(request: Request) -> Response:
            asked.set()
            return answer(request)

        server = Server(late)
        port = await server.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /?delay=0.1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await writer.drain()
        await asked.wait()
        await server.close()
        writer.close()
        return await reader.read()

    back = asyncio.run(main())
    assert back.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in back


def test_encode_chunked() -> None:
    wire = Response(body=b"blue", chunked=True).encode(keep_alive=True, head_only=False)
    assert wire.endswith(b"transfer-encoding: chunked\r\n\r\n4\r\nblue\r\n0\r\n\r\n")

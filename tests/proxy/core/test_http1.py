from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.errors import ProtocolError
from meshlab.proxy.core.head import Headers, field
from meshlab.proxy.core.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    ChunkedBody,
    MessageReader,
    chunk_size,
    encode_chunk,
    encode_last_chunk,
    parse_request,
    parse_response,
)


def request(*lines: bytes) -> bytes:
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *lines))


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        pytest.param(b"Host: a", (b"host", b"a"), id="name in lower case"),
        pytest.param(b"x:  a b \t", (b"x", b"a b"), id="space around the value dropped"),
        pytest.param(b"x:", (b"x", b""), id="empty"),
        pytest.param(b"x: \xe4", (b"x", b"\xe4"), id="obs-text kept"),
    ],
)
def test_field(line, parsed):
    assert field(line) == parsed
    assert field(line) == parsed  # again, from the lines seen before


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"x : a", id="space before the colon"),
        pytest.param(b" folded", id="folded line"),
        pytest.param(b"\tx: a", id="tab at the start"),
        pytest.param(b": a", id="no name"),
        pytest.param(b"x", id="no colon"),
        pytest.param(b"x: a\rb", id="bare CR"),
        pytest.param(b"x: a\nb", id="bare LF"),
        pytest.param(b"x: a\0b", id="NUL"),
        pytest.param(b"x\xe4: a", id="name that is no token"),
    ],
)
def test_malformed_field(line):
    with pytest.raises(ProtocolError) as caught:
        field(line)
    assert caught.value.status == 400


def test_request_head():
    head = parse_request(b"POST /a?b HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 3\r\nX: 1")
    assert (head.method, head.target, head.minor, head.authority) == (
        b"POST",
        b"/a?b",
        1,
        b"a.test:80",
    )
    assert (head.body, head.keep_alive, head.upgrade, head.expect_continue) == (3, True, b"", False)
    assert list(head.headers) == [
        (b"host", b"a.test:80"),
        (b"content-length", b"3"),
        (b"x", b"1"),
    ]


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        pytest.param((), (0, True, b""), id="nothing"),
        pytest.param((b"Transfer-Encoding: Chunked",), (CHUNKED, True, b""), id="chunked"),
        pytest.param((b"Connection: Close",), (0, False, b""), id="close"),
        pytest.param((b"Connection: a, close",), (0, False, b""), id="close in a list"),
        pytest.param(
            (b"Connection: upgrade", b"Upgrade: WebSocket"), (0, True, b"websocket"), id="upgrade"
        ),
        pytest.param((b"Upgrade: websocket",), (0, True, b""), id="upgrade without connection"),
    ],
)
def test_framing(lines, facts):
    head = parse_request(request(*lines))
    assert (head.body, head.keep_alive, head.upgrade) == facts


@pytest.mark.parametrize(
    ("block", "status"),
    [
        pytest.param(request(b"Host: a"), 400, id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a/b", 400, id="host with a slash"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a b", 400, id="host with a space"),
        pytest.param(request(b"Content-Length: 1", b"Content-Length: 1"), 400, id="two lengths"),
        pytest.param(request(b"Content-Length: 1, 1"), 400, id="list of lengths"),
        pytest.param(request(b"Content-Length: +1"), 400, id="signed length"),
        pytest.param(request(b"Content-Length: 1_0"), 400, id="length with underscore"),
        pytest.param(request(b"Content-Length: " + b"1" * 19), 400, id="length too long"),
        pytest.param(request(b"Content-Length:"), 400, id="empty length"),
        pytest.param(
            request(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400, id="both lengths"
        ),
        pytest.param(request(b"Transfer-Encoding: gzip, chunked"), 501, id="other coding"),
        pytest.param(
            request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 501, id="twice"
        ),
        pytest.param(request(b"Transfer-Encoding: xchunked"), 501, id="not quite chunked"),
        pytest.param(
            b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked", 400, id="chunked in 1.0"
        ),
        pytest.param(b"get / HTTP/1.1\r\nHost: a", 400, id="method in lower case"),
        pytest.param(b"PRI * HTTP/2.0\r\n", 400, id="preface of HTTP/2"),
        pytest.param(b"GET / HTTP/1.2\r\nHost: a", 426, id="HTTP/1.2"),
        pytest.param(b"GET  / HTTP/1.1\r\nHost: a", 400, id="two spaces"),
        pytest.param(b"GET / HTTP/1.1 \r\nHost: a", 400, id="space at the end"),
        pytest.param(b"GET / http/1.1\r\nHost: a", 400, id="version in lower case"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: a", 426, id="HTTP/2.0"),
        pytest.param(b"GET a HTTP/1.1\r\nHost: a", 400, id="target that is no path"),
        pytest.param(b"GET * HTTP/1.1\r\nHost: a", 400, id="* with GET"),
        pytest.param(b"GET ftp://a/ HTTP/1.1\r\nHost: a", 400, id="other scheme"),
        pytest.param(b"GET http:///x HTTP/1.1\r\nHost: a", 400, id="no authority"),
        pytest.param(b"CONNECT a HTTP/1.1\r\nHost: a", 400, id="CONNECT without port"),
        pytest.param(request(*[b"x: 1"] * 100), 431, id="too many headers"),
    ],
)
def test_refused_request(block, status):
    with pytest.raises(ProtocolError) as caught:
        parse_request(block)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("line", "target", "authority"),
    [
        (b"GET http://b.test/x?y HTTP/1.1", b"/x?y", b"b.test"),
        (b"GET http://b.test HTTP/1.1", b"/", b"b.test"),
        (b"GET http://b.test?q HTTP/1.1", b"/?q", b"b.test"),
        (b"OPTIONS * HTTP/1.1", b"*", b"a"),
        (b"CONNECT c:443 HTTP/1.1", b"c:443", b"c:443"),
    ],
)
def test_target(line, target, authority):
    head = parse_request(line + b"\r\nHost: a")
    assert (head.target, head.authority) == (target, authority)


@pytest.mark.parametrize(
    ("method", "block", "facts"),
    [
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5", (200, 5, True)),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", (200, CHUNKED, True)),
        (b"GET", b"HTTP/1.1 200 ", (200, UNTIL_CLOSE, False)),
        (b"GET", b"HTTP/1.1 200", (200, UNTIL_CLOSE, False)),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5", (200, 0, True)),
        (b"GET", b"HTTP/1.1 204 No", (204, 0, True)),
        (b"GET", b"HTTP/1.1 304 No\r\nContent-Length: 5", (304, 0, True)),
        (b"GET", b"HTTP/1.1 100 Go", (100, 0, True)),
        (b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 5", (200, 5, False)),
        (b"GET", b"HTTP/1.0 200 O\r\nContent-Length: 5\r\nConnection: keep-alive", (200, 5, True)),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", (200, 5, False)),
    ],
)
def test_response_head(method, block, facts):
    head = parse_response(block, method)
    assert (head.status, head.body, head.keep_alive) == facts


@pytest.mark.parametrize(
    "block",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/2 200 OK",
        b"200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked",
    ],
)
def test_refused_response(block):
    with pytest.raises(ProtocolError):
        parse_response(block, b"GET")


@pytest.mark.parametrize(
    ("line", "size"),
    [
        pytest.param(b"aF", 175, id="either case"),
        pytest.param(b"4 ;name=value", 4, id="extension dropped"),
        pytest.param(b"000", 0, id="zeros"),
    ],
)
def test_chunk_size(line, size):
    assert chunk_size(line) == size


@pytest.mark.parametrize(
    "line", [b"", b"+4", b"0x4", b"4_0", b" 4", b"4 ", b"g", b"1" * 16, b";a", b"4;a\rb", b"4;\n"]
)
def test_odd_chunk_size(line):
    with pytest.raises(ProtocolError):
        chunk_size(line)


@given(st.lists(st.binary(min_size=1), max_size=5), st.data())
def test_any_split_gives_the_same_body(chunks, data):
    wire = b"".join(map(encode_chunk, chunks)) + encode_last_chunk(None) + b"GET"
    cut = data.draw(st.integers(0, len(wire)))
    body = ChunkedBody()
    assert b"".join(body.feed(wire[:cut]) + body.feed(wire[cut:])) == b"".join(chunks)
    assert (body.complete, body.rest) == (True, b"GET")


def test_trailers():
    body = ChunkedBody()
    assert body.feed(b"1\r\na\r\n" + encode_last_chunk(Headers.of((b"x", b"1")))) == [b"a"]
    assert body.trailers is not None
    assert list(body.trailers) == [(b"x", b"1")]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"1\r\nab\r\n", id="longer than its size"),
        pytest.param(b"1\nab", id="bare LF"),
        pytest.param(b"1\r\nax", id="no line end after the data"),
        pytest.param(b"0\r\nx : 1\r\n\r\n", id="malformed trailer"),
        pytest.param(b"0\r\n" + b"x: 1\r\n" * 200 + b"\r\n", id="too many trailers"),
        pytest.param(b"1" * 5000, id="endless size"),
    ],
)
def test_malformed_chunks(wire):
    with pytest.raises(ProtocolError):
        ChunkedBody().feed(wire)


Events = list[object]


def read_all(wire: bytes, cuts: list[int]) -> Events:
    """Return all that a reader makes of requests in `wire`, cut at `cuts`; ends with an error."""
    reader = MessageReader(max_head=400)
    events: Events = []
    edges = [0, *sorted(cuts), len(wire)]
    body = b""
    in_body = False
    try:
        for start, end in pairwise(edges):
            reader.feed(wire[start:end])
            while True:
                if in_body:
                    body += reader.take_body()
                    if not reader.complete:
                        break
                    events.append((body, list(reader.trailers or ())))
                    in_body = False
                head = reader.next_request()
                if head is None:
                    break
                events.append((head.method, head.target, head.body, list(head.headers)))
                body, in_body = b"", True
    except ProtocolError as error:
        events.append(error.status)
    return events


PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n0\r\nt: 1\r\n\r\n",
        b"\r\n",
    ]
)
BROKEN = st.sampled_from(
    [b"GET / HTTP/1.1\nHost: a\n\n", b"\0", b"x y z\r\n\r\n", b"\r", b"\n", b""]
)


@given(st.lists(PIECES, max_size=4), BROKEN, st.data())
def test_any_split_gives_the_same_requests(pieces, broken, data):
    wire = b"".join(pieces) + broken
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=6))
    whole, split = read_all(wire, []), read_all(wire, cuts)
    assert [event for event in whole if not isinstance(event, int)] == [
        event for event in split if not isinstance(event, int)
    ]
    if whole and isinstance(whole[-1], int):
        assert split[-1] == whole[-1]


@given(st.binary(max_size=600))
def test_any_bytes_give_events_or_an_error(wire):
    read_all(wire, [])
    reader = MessageReader(max_head=400)
    reader.feed(wire)
    try:
        head = reader.next_response(b"GET")
        while head is not None and not reader.complete and reader.take_body():
            pass
    except ProtocolError:
        pass


def test_head_that_is_too_large():
    reader = MessageReader(max_head=50)
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 50)
    with pytest.raises(ProtocolError) as caught:
        reader.next_request()
    assert caught.value.status == 431


def test_body_until_close():
    reader = MessageReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert reader.next_response(b"GET") is not None
    assert (reader.take_body(), reader.complete) == (b"abc", False)
    assert reader.end()
    assert reader.complete


def test_headers():
    headers = Headers.of((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    assert (headers.get(b"a"), headers.joined(b"a"), headers.joined(b"c")) == (b"1", b"1,3", None)
    headers.set(b"a", b"4")
    headers.set(b"b", b"5")
    headers.add(b"c", b"6")
    assert headers.wire() == b"a: 4\r\nb: 5\r\nc: 6\r\n"
    headers.remove(b"b")
    assert list(headers) == [(b"a", b"4"), (b"c", b"6")]

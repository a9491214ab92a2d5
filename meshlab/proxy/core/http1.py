"""HTTP/1 messages on the wire: heads, framing, chunked bodies (RFC 9112), read strictly.

What two servers could read differently is refused and never repaired: both lengths, two lengths,
folded lines, bare CR or LF, odd chunk sizes, more than one Host. That is request smuggling.
"""

import re
from enum import Enum

from meshlab.errors import ProtocolError
from meshlab.proxy.core.head import Headers, fields

CHUNKED = -1
UNTIL_CLOSE = -2

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_PARTIAL_REQUEST = re.compile(rb"%b(?: |\Z)|\r\n?\Z" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*))?")
_HOST = re.compile(
    rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9\-._~]+)?\])(?::[0-9]*)?"
)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FRAMING = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"}
)
METHODS = frozenset(
    b"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE "
    b"MKACTIVITY MKCALENDAR MKCOL MOVE M-SEARCH NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE "
    b"PUT REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""Those that Envoy knows; others are refused as it does."""
_HOST_ONLY = frozenset({b"host"})
_CHUNK_LINE_MAX = 4096

REASONS = {
    100: b"Continue",
    101: b"Switching Protocols",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    203: b"Non-Authoritative Information",
    204: b"No Content",
    205: b"Reset Content",
    206: b"Partial Content",
    300: b"Multiple Choices",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    304: b"Not Modified",
    305: b"Use Proxy",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    407: b"Proxy Authentication Required",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Payload Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    422: b"Unprocessable Entity",
    423: b"Locked",
    424: b"Failed Dependency",
    426: b"Upgrade Required",
    428: b"Precondition Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    507: b"Insufficient Storage",
    508: b"Loop Detected",
    511: b"Network Authentication Required",
}


class RequestHead:
    """A request line and its headers.

    Attributes:
        target: path and query as they go into routing; `*` for OPTIONS, `host:port` for CONNECT.
        minor: HTTP/1.x.
        authority: Host, or the authority of an absolute target; None: neither stands there, which
            whoever takes the head must refuse in HTTP/1.1.
        scheme: of an absolute target; b"" otherwise.
        body: content length, or `CHUNKED`.
        keep_alive: whether the client allows another request on this connection.
        upgrade: what the client wants instead of HTTP, in lower case; b"" for nothing.
        expect_continue: the client waits for 100 before it sends the body.
    """

    __slots__ = (
        "authority",
        "body",
        "expect_continue",
        "headers",
        "keep_alive",
        "method",
        "minor",
        "scheme",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, headers: Headers) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.headers = headers
        self.authority: bytes | None = None
        self.scheme = b""
        self.body = 0
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.expect_continue = False


class ResponseHead:
    """A status line and its headers.

    Attributes:
        body: content length, `CHUNKED` or `UNTIL_CLOSE`.
        keep_alive: whether the server leaves the connection open, as far as the head tells.
    """

    __slots__ = ("body", "headers", "keep_alive", "minor", "reason", "status")

    def __init__(self, status: int, reason: bytes, minor: int, headers: Headers) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.headers = headers
        self.body = 0
        self.keep_alive = minor == 1


def content_length(value: bytes) -> int:
    """Return a Content-Length (RFC 9112 §6.2).

    Raises:
        ProtocolError: not a plain decimal number of at most 18 digits; a list, too.
    """
    # int() would also take "+4", "4_0" and " 4".
    if not 0 < len(value) < 19 or value.strip(b"0123456789"):
        raise ProtocolError(f"content-length {value[:32]!r} is not one decimal number")
    return int(value)


def body_length(headers: Headers, minor: int) -> int | None:
    """Return the length of a body, `CHUNKED`, or None where the head does not tell (RFC 9112 §6.3).

    Raises:
        ProtocolError: both lengths, one of them twice; 501 for codings other than chunked.
    """
    names = headers.names
    if b"transfer-encoding" in names:
        if minor == 0:
            raise ProtocolError(
                "transfer-encoding in HTTP/1.0", detail="http1.transfer_encoding_not_allowed"
            )
        if b"content-length" in names:
            raise ProtocolError(
                "both content-length and transfer-encoding",
                detail="http1.content_length_and_chunked_not_allowed",
            )
        if (headers.joined(b"transfer-encoding") or b"").lower() != b"chunked":
            raise ProtocolError(
                "transfer coding other than chunked",
                status=501,
                detail="http1.invalid_transfer_encoding",
            )
        return CHUNKED
    count = names.count(b"content-length")
    if count == 0:
        return None
    if count > 1:
        raise ProtocolError("more than one content-length")
    return content_length(headers.values[names.index(b"content-length")])


def connection_options(headers: Headers) -> list[bytes]:
    """Return the options of Connection, lower case, without empty ones (RFC 9110 §7.6.1)."""
    value = headers.joined(b"connection")
    if value is None:
        return []
    return [option for part in value.lower().split(b",") if (option := part.strip(b" \t"))]


def parse_request(
    block: bytes, max_headers: int = 100, *, accept_http_10: bool = True
) -> RequestHead:
    """Return the request head in `block`, which ends before the empty line (RFC 9112 §3).

    Raises:
        ProtocolError: with the status to answer.
    """
    lines = block.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise ProtocolError(f"request line {lines[0][:64]!r} is malformed")
    method, target, major, minor_digit = match.groups()
    if method not in METHODS:
        raise ProtocolError(f"method {method[:32]!r} is unknown")
    if major != b"1" or (minor_digit != b"1" and not (accept_http_10 and minor_digit == b"0")):
        raise ProtocolError("only HTTP/1.1 is spoken here", status=426, detail="low_version")
    del lines[0]
    headers = fields(lines, max_headers)
    head = RequestHead(method, target, 0 if minor_digit == b"0" else 1, headers)
    special = _FRAMING.intersection(headers.names)
    if b"host" in special:
        if headers.names.count(b"host") > 1:
            raise ProtocolError("more than one host")
        head.authority = headers.values[headers.names.index(b"host")]
        if _HOST.fullmatch(head.authority) is None:
            raise ProtocolError(
                f"host {head.authority[:64]!r} is malformed", detail="http.invalid_authority"
            )
    if len(special) > 1 or special != _HOST_ONLY:
        _read_framing(head, special)
    if target[0] != 47:  # b"/"
        _read_target(head)
    return head


def _read_framing(head: RequestHead, special: "frozenset[bytes]") -> None:
    headers = head.headers
    if b"content-length" in special or b"transfer-encoding" in special:
        head.body = body_length(headers, head.minor) or 0
    if b"connection" in special:
        options = connection_options(headers)
        if b"close" in options:
            head.keep_alive = False
        elif head.minor == 0 and b"keep-alive" in options:
            head.keep_alive = True
        if b"upgrade" in special and b"upgrade" in options and head.minor == 1:
            head.upgrade = (headers.joined(b"upgrade") or b"").lower()
    if b"expect" in special and head.minor == 1:
        # Expectations that are unknown here are for the server to judge, as with Envoy.
        expected = (headers.joined(b"expect") or b"").lower()
        head.expect_continue = expected == b"100-continue" and head.body != 0


def _read_target(head: RequestHead) -> None:
    """Read a target that is no path (RFC 9112 §3.2): absolute, `host:port`, or `*`."""
    target = head.target
    if head.method == b"CONNECT":
        if head.body:
            raise ProtocolError("CONNECT with a body", detail="http1.body_disallowed")
        if _HOST.fullmatch(target) is None or b":" not in target:
            raise ProtocolError("CONNECT needs host:port", detail="http1.invalid_url")
        head.authority = target
        return
    if target == b"*":
        if head.method != b"OPTIONS":
            raise ProtocolError("only OPTIONS has the target *", detail="http1.invalid_url")
        return
    scheme, mark, rest = target.partition(b"://")
    end = min(
        (place for sign in (b"/", b"?", b"#") if (place := rest.find(sign)) >= 0),
        default=len(rest),
    )
    authority = rest[:end]
    if not mark:
        raise ProtocolError(f"target {target[:64]!r} is no path")
    if scheme.lower() not in (b"http", b"https") or not authority:
        raise ProtocolError(f"target {target[:64]!r} is malformed", detail="http1.invalid_url")
    if _HOST.fullmatch(authority) is None:
        raise ProtocolError(f"target {target[:64]!r} is malformed", detail="http1.invalid_url")
    head.scheme = scheme.lower()
    head.authority = authority
    head.headers.set(b"host", authority)  # RFC 9112 §3.2.2: the target's wins
    head.target = rest[end:] if rest[end : end + 1] == b"/" else b"/" + rest[end:]


def parse_response(block: bytes, method: bytes, max_headers: int = 100) -> ResponseHead:
    """Return the response head in `block`, which ends before the empty line (RFC 9112 §4).

    Args:
        block: the head.
        method: of the request; the answer to HEAD has no body, whatever its head says.
        max_headers: how many field lines are taken.

    Raises:
        ProtocolError: the server does not speak HTTP/1, or frames ambiguously.
    """
    lines = block.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise ProtocolError(f"status line {lines[0][:64]!r} is malformed")
    minor_digit, status_digits, reason = match.groups()
    del lines[0]
    headers = fields(lines, max_headers)
    status = int(status_digits)
    head = ResponseHead(status, reason or b"", 0 if minor_digit == b"0" else 1, headers)
    length = body_length(headers, head.minor)
    if b"connection" in headers.names:
        options = connection_options(headers)
        if b"close" in options:
            head.keep_alive = False
        elif head.minor == 0 and b"keep-alive" in options:
            head.keep_alive = True
    if method == b"HEAD" or status < 200 or status in (204, 304):
        if length == CHUNKED and method != b"HEAD" and (status < 200 or status == 204):
            raise ProtocolError(
                "transfer-encoding where no body may be",
                detail="http1.transfer_encoding_not_allowed",
            )
        head.body = 0
    elif length is None:
        head.body = UNTIL_CLOSE
        head.keep_alive = False
    else:
        head.body = length
    return head


def chunk_size(line: bytes) -> int:
    """Return the bytes that a chunk-size line announces (RFC 9112 §7.1), extensions dropped.

    Raises:
        ProtocolError: not a plain hexadecimal number of at most 15 digits; a bare CR or LF.
    """
    digits, mark, extension = line.partition(b";")
    if mark:
        digits = digits.rstrip(b" \t")
        if b"\r" in extension or b"\n" in extension:
            raise ProtocolError("bare CR or LF in a chunk extension")
    # int() would also take "+4", "0x4" and "4_0". Two servers that read a size
    # differently disagree where the next request starts: that is request smuggling.
    if not 0 < len(digits) < 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise ProtocolError(f"chunk size {line[:32]!r} is not hexadecimal")
    return int(digits, 16)


class Expect(Enum):
    """What a chunked body brings next."""

    SIZE = 1
    DATA = 2
    DATA_END = 3
    TRAILER = 4


class ChunkedBody:
    """Decodes a chunked body (RFC 9112 §7.1) as its bytes come in.

    Attributes:
        complete: the last chunk and its trailers have been read.
        rest: bytes not decoded yet; once complete, those of the next message.
        trailers: fields after the last chunk; None without any.
    """

    __slots__ = (
        "_expect",
        "_left",
        "_lines",
        "_size",
        "complete",
        "max_trailer_bytes",
        "rest",
        "trailers",
    )

    def __init__(self, max_trailer_bytes: int = 60 * 1024) -> None:
        self.complete = False
        self.rest = b""
        self.trailers: Headers | None = None
        self.max_trailer_bytes = max_trailer_bytes
        self._expect = Expect.SIZE
        self._left = 0
        self._lines: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes, return the pieces of body in them.

        Raises:
            ProtocolError: a malformed size, a chunk longer or shorter than announced, trailers
                malformed or too large.
        """
        data = self.rest + data if self.rest else data
        at = 0
        pieces: list[bytes] = []
        while not self.complete:
            if self._expect is Expect.DATA:
                piece = data[at : at + self._left]
                if not piece:
                    break  # the rest of this chunk is still on its way
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._expect = Expect.DATA_END
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > _CHUNK_LINE_MAX + self.max_trailer_bytes * (
                    self._expect is Expect.TRAILER
                ):
                    raise ProtocolError("line in a chunked body is too long")
                if self._expect is Expect.DATA_END and data[at:] not in (b"", b"\r"):
                    raise ProtocolError("chunk is longer than its size")
                if _BARE_LF.search(data, at):
                    raise ProtocolError("bare LF in a chunked body")
                break
            line = data[at:end]
            at = end + 2
            if self._expect is Expect.SIZE:
                if len(line) > _CHUNK_LINE_MAX:
                    raise ProtocolError("line in a chunked body is too long")
                self._left = chunk_size(line)
                self._expect = Expect.DATA if self._left else Expect.TRAILER
            elif self._expect is Expect.DATA_END:
                if line:
                    raise ProtocolError("chunk is longer than its size")
                self._expect = Expect.SIZE
            elif line:
                self._size += len(line)
                if self._size > self.max_trailer_bytes:
                    raise ProtocolError(
                        "trailers are too large", status=431, detail="http1.trailers_too_large"
                    )
                self._lines.append(line)
            else:
                self.complete = True
                if self._lines:
                    self.trailers = fields(self._lines, 100)
        self.rest = data[at:]
        return pieces


class MessageReader:
    """Cuts a byte stream into heads and bodies. Feed it, then take what is there.

    Attributes:
        buffer: bytes not taken yet.
        complete: the message's body has been taken to its end (or there was none).
        trailers: of the message, once complete.
    """

    __slots__ = (
        "_chunked",
        "_left",
        "accept_http_10",
        "buffer",
        "complete",
        "max_head",
        "max_headers",
        "trailers",
    )

    def __init__(
        self, max_head: int = 60 * 1024, max_headers: int = 100, *, accept_http_10: bool = True
    ) -> None:
        self.accept_http_10 = accept_http_10
        self.buffer = b""
        self.complete = True
        self.trailers: Headers | None = None
        self.max_head = max_head
        self.max_headers = max_headers
        self._left = 0
        self._chunked: ChunkedBody | None = None

    def feed(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data

    def take_block(self) -> bytes | None:
        """Return the next head without its empty line, or None while it is not all here.

        Raises:
            ProtocolError: 431 when larger than `max_head`; a bare LF in what is here.
        """
        buffer = self.buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > self.max_head:
                raise ProtocolError(
                    "head is too large", status=431, detail="http1.headers_too_large"
                )
            if _BARE_LF.search(buffer):
                raise ProtocolError("bare LF in a head")
            return None
        if end > self.max_head:
            raise ProtocolError("head is too large", status=431, detail="http1.headers_too_large")
        self.buffer = buffer[end + 4 :]
        return buffer[:end]

    def next_request(self) -> RequestHead | None:
        """Return the next request head, ready to take its body; None while it is not all here."""
        if self.buffer.startswith((b"\r", b"\n")):
            # RFC 9112 §2.2: an empty line or two before a request line is ignored, no more.
            if self.buffer.startswith(b"\r\n"):
                self.buffer = self.buffer[2:]
            elif self.buffer != b"\r":
                raise ProtocolError("bare CR or LF before a request line")
            if self.buffer.startswith(b"\r\n"):
                self.buffer = self.buffer[2:]
        block = self.take_block()
        if block is None:
            if self.buffer and _PARTIAL_REQUEST.match(self.buffer) is None:
                raise ProtocolError("no HTTP")  # TLS, say: told at once, not after a time-out
            return None
        head = parse_request(block, self.max_headers, accept_http_10=self.accept_http_10)
        self.begin_body(head.body)
        return head

    def next_response(self, method: bytes) -> ResponseHead | None:
        """Return the next response head to a request of `method`; None while it is not all here."""
        block = self.take_block()
        if block is None:
            return None
        head = parse_response(block, method, self.max_headers)
        self.begin_body(head.body)
        return head

    def begin_body(self, length: int) -> None:
        self._left = length
        self.trailers = None
        self.complete = length == 0
        self._chunked = ChunkedBody(self.max_head) if length == CHUNKED else None

    def take_body(self) -> bytes:
        """Return the body bytes that are here, decoded; b"" for none (yet)."""
        buffer = self.buffer
        if self.complete or not buffer:
            return b""
        chunked = self._chunked
        if chunked is not None:
            self.buffer = b""
            pieces = chunked.feed(buffer)
            if chunked.complete:
                self.complete = True
                self.trailers = chunked.trailers
                self.buffer = chunked.rest
                chunked.rest = b""
            return b"".join(pieces)
        left = self._left
        if left < 0:  # until the server closes
            self.buffer = b""
            return buffer
        if len(buffer) < left:
            self._left = left - len(buffer)
            self.buffer = b""
            return buffer
        self.complete = True
        self._left = 0
        self.buffer = buffer[left:]
        return buffer[:left]

    def end(self) -> bool:
        """The peer sent its last byte: tell whether the message may end here."""
        if not self.complete and self._left == UNTIL_CLOSE:
            self.complete = True
        return self.complete and not self.buffer


def encode_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last_chunk(trailers: Headers | None) -> bytes:
    if trailers is None:
        return b"0\r\n\r\n"
    return b"0\r\n%b\r\n" % trailers.wire()

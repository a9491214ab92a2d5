"""What a ClientHello says before it is answered: SNI and ALPN (RFC 8446, 6066, 7301)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """The two facts a filter chain is chosen by."""

    server_name: str = ""
    """Lower case."""
    application_protocols: tuple[str, ...] = ()
    """In the client's order."""


class NotTls(Exception):  # noqa: N818 - an answer, not an error
    """The bytes are no ClientHello, and never will be."""


MAX_HELLO = 16 * 1024


def inspect(data: bytes) -> ClientHello | None:
    """Return what the ClientHello at the start of `data` says; None while it is not all here.

    Raises:
        NotTls: this is something else.
    """
    handshake = b""
    at = 0
    while True:
        if data[at : at + 1] not in (b"", b"\x16") or data[at + 1 : at + 2] not in (b"", b"\x03"):
            raise NotTls
        if len(data) < at + 5:
            return None
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if length == 0 or length > MAX_HELLO:
            raise NotTls
        handshake += data[at + 5 : at + 5 + length]
        if handshake[0:1] not in (b"", b"\x01"):
            raise NotTls
        if len(handshake) >= 4:
            size = int.from_bytes(handshake[1:4], "big")
            if size > MAX_HELLO:
                raise NotTls
            if len(handshake) >= 4 + size:
                return read_hello(handshake[4 : 4 + size])
        if len(data) < at + 5 + length:
            return None
        at += 5 + length


class _Reader:
    """Takes vectors off the front of bytes; raises NotTls where they are cut short."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise NotTls
        self.at += count
        return piece

    def vector(self, length_bytes: int) -> bytes:
        return self.take(int.from_bytes(self.take(length_bytes), "big"))

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)


def read_hello(body: bytes) -> ClientHello:
    """Read the body of a ClientHello message.

    Raises:
        NotTls: it is cut short.
    """
    reader = _Reader(body)
    reader.take(34)  # version, random
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    server_name = ""
    protocols: tuple[str, ...] = ()
    extensions = _Reader(reader.vector(2) if not reader.done else b"")
    while not extensions.done:
        kind = int.from_bytes(extensions.take(2), "big")
        value = extensions.vector(2)
        if kind == 0 and value:
            server_name = read_server_name(value)
        elif kind == 16:
            names = _Reader(_Reader(value).vector(2))
            found = []
            while not names.done:
                found.append(names.vector(1).decode("latin-1"))
            protocols = tuple(found)
    return ClientHello(server_name=server_name, application_protocols=protocols)


def read_server_name(value: bytes) -> str:
    entries = _Reader(_Reader(value).vector(2))
    while not entries.done:
        kind = entries.take(1)
        name = entries.vector(2)
        if kind == b"\0":
            return name.decode("latin-1").lower()
    return ""

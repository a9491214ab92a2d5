"""Request and response heads: header lists, and the parser that makes them (RFC 9112).

Bytes stay bytes. Header names are lower case, in two flat lists with their values, in the order
of the wire. A line seen before (most are, on a connection that is kept) costs one look-up.
"""

import re
from collections.abc import Iterator

from meshlab.errors import ProtocolError

_COLON = b": ".join


class Headers:
    """The fields of a message: names in lower case, values, both in order; names may repeat."""

    __slots__ = ("names", "values")

    def __init__(self, names: list[bytes], values: list[bytes]) -> None:
        self.names = names
        self.values = values

    @classmethod
    def of(cls, *pairs: tuple[bytes, bytes]) -> "Headers":
        return cls([name for name, _ in pairs], [value for _, value in pairs])

    def __contains__(self, name: bytes) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(zip(self.names, self.values, strict=True))

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of `name`."""
        names = self.names
        return self.values[names.index(name)] if name in names else None

    def joined(self, name: bytes) -> bytes | None:
        """Return all values of `name`, joined by a comma (RFC 9110 §5.3)."""
        count = self.names.count(name)
        if count == 0:
            return None
        if count == 1:
            return self.values[self.names.index(name)]
        return b",".join([v for n, v in zip(self.names, self.values, strict=True) if n == name])

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of `name`, in order."""
        if name not in self.names:
            return []
        return [v for n, v in zip(self.names, self.values, strict=True) if n == name]

    def add(self, name: bytes, value: bytes) -> None:
        self.names.append(name)
        self.values.append(value)

    def set(self, name: bytes, value: bytes) -> None:
        """Make `value` the only one of `name`, at the place of the first."""
        names = self.names
        if name not in names:
            names.append(name)
            self.values.append(value)
            return
        first = names.index(name)
        self.values[first] = value
        while names.count(name) > 1:
            again = names.index(name, first + 1)
            del names[again]
            del self.values[again]

    def remove(self, name: bytes) -> None:
        names = self.names
        while name in names:
            index = names.index(name)
            del names[index]
            del self.values[index]

    def copy(self) -> "Headers":
        return Headers(self.names.copy(), self.values.copy())

    def wire(self) -> bytes:
        """Return the field lines, each with its line end."""
        if not self.names:
            return b""
        return b"\r\n".join(map(_COLON, zip(self.names, self.values, strict=False))) + b"\r\n"

    def size(self) -> int:
        """Return the bytes of all names and values, as Envoy counts the size of headers."""
        return sum(map(len, self.names)) + sum(map(len, self.values))


_FIELD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[!-~\x80-\xff]|[ \t]+[!-~\x80-\xff])*)[ \t]*"
)
_seen: dict[bytes, tuple[bytes, bytes]] = {}
_SEEN_MAX = 4096
_SEEN_LINE_MAX = 256


def field(line: bytes) -> tuple[bytes, bytes]:
    """Return (name in lower case, value) of a field line without its line end (RFC 9112 §5).

    Raises:
        ProtocolError: whitespace before the colon or at the start (a folded line), no name, a
            character that a name or value may not have, a bare CR or LF among them.
    """
    match = _FIELD.fullmatch(line)
    if match is None:
        detail = "http1.codec_error"
        if b"\0" in line or b"\x7f" in line:
            detail = "http1.invalid_characters"
        raise ProtocolError(f"header line {line[:64]!r} is malformed", detail=detail)
    parsed = match[1].lower(), match[2]
    if len(line) <= _SEEN_LINE_MAX:
        if len(_seen) >= _SEEN_MAX:
            _seen.clear()  # whoever sends new lines for ever costs us parsing, not memory
        _seen[line] = parsed
    return parsed


def fields(lines: list[bytes], limit: int) -> Headers:
    """Return the headers in `lines`.

    Raises:
        ProtocolError: a malformed line; 431 with more than `limit` lines.
    """
    if len(lines) > limit:
        raise ProtocolError("too many headers", status=431, detail="http1.too_many_headers")
    names: list[bytes] = []
    values: list[bytes] = []
    seen = _seen.get
    for line in lines:
        name, value = seen(line) or field(line)
        names.append(name)
        values.append(value)
    return Headers(names, values)

"""HTTP/1, the HTTP/2 preface, or neither: told from a connection's first bytes."""

import re

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [!-~]+ HTTP/1\.([01])\r?")
MAX_LINE = 8192


def inspect(data: bytes) -> str | None:
    """Return `http/1.1`, `http/1.0`, `h2c`, "" for none; None while more bytes are needed."""
    if data.startswith(PREFACE[: len(data)]):
        return "h2c" if len(data) >= len(PREFACE) else None
    line, end, _ = data.partition(b"\n")
    if end:
        match = _REQUEST_LINE.fullmatch(line)
        return "" if match is None else f"http/1.{match[1].decode()}"
    method, space, _ = data.partition(b" ")
    # An unfinished line is HTTP as long as it starts with a method; Envoy looks no further either.
    if _METHOD.fullmatch(method) is None or len(data) > MAX_LINE:
        return ""
    if space and not method.isalpha():
        return ""
    return None

"""Container logs as the CRI writes them: `<RFC 3339, nanoseconds> stdout|stderr F|P <text>`.

`Writer` belongs to the shim and imports next to nothing; `Line` and `read` belong to the node.
P marks a part of a line that was too long or not ended yet, F its last (or only) part.
"""

import os
import time

FILE = "log"
MAX_LINE = 16 * 1024
MAX_FILE = 10 * 1024 * 1024
"""Bytes after which the file becomes `log.1`, replacing the one before, and a new one begins."""


def timestamp(nanoseconds: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC with nine digits."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class Writer:
    """Stamps what a container prints and keeps the file from growing without end."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, FILE)
        self.pending = {"stdout": b"", "stderr": b""}
        self.open()

    def open(self) -> None:
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size

    def feed(self, stream: str, data: bytes, now: int) -> None:
        """Write all whole lines of `data`; `now` is in nanoseconds since 1970."""
        *lines, rest = (self.pending[stream] + data).split(b"\n")
        head = f"{timestamp(now)} {stream} ".encode()
        out = []
        for line in lines:
            out += [head, b"F ", line, b"\n"]
        while len(rest) >= MAX_LINE:
            out += [head, b"P ", rest[:MAX_LINE], b"\n"]
            rest = rest[MAX_LINE:]
        self.pending[stream] = rest
        if out:
            self.write(b"".join(out))

    def finish(self, now: int) -> None:
        """Write what was printed without an end of line."""
        for stream, rest in self.pending.items():
            if rest:
                self.write(f"{timestamp(now)} {stream} F ".encode() + rest + b"\n")

    def write(self, data: bytes) -> None:
        if self.size and self.size + len(data) > MAX_FILE:
            os.close(self.fd)
            os.rename(self.path, self.path + ".1")
            self.open()
        view = memoryview(data)
        while view:
            written = os.write(self.fd, view)
            self.size += written
            view = view[written:]

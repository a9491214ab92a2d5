"""Reads back what log.py wrote: the last lines, those since a time, and new ones as they come."""

import contextlib
import datetime
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from meshlab.cluster.embedded.linux import watch_directory
from meshlab.cluster.embedded.node import shim
from meshlab.cluster.embedded.node.exec import ready
from meshlab.cluster.embedded.node.log import FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What of a log is asked for (`PodLogOptions`)."""

    follow: bool = False
    since: float | None = None
    """Seconds since 1970."""
    tail_lines: int | None = None
    limit_bytes: int | None = None
    timestamps: bool = False


def wish(
    *,
    now: float,
    follow: bool,
    since_seconds: int | None,
    since_time: str | None,
    tail_lines: int | None,
    limit_bytes: int | None,
    timestamps: bool,
) -> Wish:
    since = None if since_seconds is None else now - since_seconds
    if since_time:
        since = datetime.datetime.fromisoformat(since_time).timestamp()
    return Wish(
        follow=follow,
        since=since,
        tail_lines=tail_lines,
        limit_bytes=limit_bytes,
        timestamps=timestamps,
    )


def show(line: bytes, wanted: Wish) -> bytes:
    """Return what is shown of one stored line; b"" when it is too old."""
    stamp, _, rest = line.partition(b" ")
    _, _, rest = rest.partition(b" ")
    tag, _, text = rest.partition(b" ")
    if wanted.since is not None and seconds(stamp) < wanted.since:
        return b""
    if tag == b"P":
        text = text.removesuffix(b"\n")
    return stamp + b" " + text if wanted.timestamps else text


def seconds(stamp: bytes) -> float:
    return datetime.datetime.fromisoformat(stamp.decode()).timestamp()


def stored(directory: Path) -> Iterator[bytes]:
    """Yield the lines of the rotated file."""
    with contextlib.suppress(FileNotFoundError), (directory / f"{FILE}.1").open("rb") as file:
        yield from file


async def read(directory: Path, wanted: Wish) -> AsyncIterator[bytes]:
    """Yield a run's log as it is asked for, until its end or (follow) the container's."""
    left = wanted.limit_bytes
    async for line in lines(directory, wanted):
        shown = show(line, wanted)
        if left is not None:
            shown = shown[:left]
            left -= len(shown)
        if shown:
            yield shown
        if left == 0:
            return


async def lines(directory: Path, wanted: Wish) -> AsyncIterator[bytes]:
    watch = watch_directory(str(directory)) if wanted.follow else -1
    try:
        with (directory / FILE).open("rb") as file:
            for line in first(directory, file, wanted):
                yield line
            if wanted.follow:
                async for line in new_lines(directory, file, watch):
                    yield line
    finally:
        if watch >= 0:
            os.close(watch)


def first(directory: Path, file: BinaryIO, wanted: Wish) -> Iterator[bytes]:
    """Yield what is there already."""
    if wanted.tail_lines is None:
        yield from stored(directory)
        yield from file
    elif wanted.tail_lines:
        last = deque(stored(directory), wanted.tail_lines)
        last.extend(file)
        yield from last
    else:
        file.seek(0, os.SEEK_END)


async def new_lines(directory: Path, file: BinaryIO, watch: int) -> AsyncIterator[bytes]:
    """Yield lines as they are written; goes on in the new file when the log is rotated."""
    rest = b""
    with contextlib.ExitStack() as stack:
        while True:
            over = is_over(directory)
            rotated = not same_file(file, directory / FILE)
            rest += file.read()
            *whole, rest = rest.split(b"\n")
            for line in whole:
                yield line + b"\n"
            if rotated:
                file = stack.enter_context((directory / FILE).open("rb"))
            elif over:
                return
            else:
                await ready(watch)
                with contextlib.suppress(BlockingIOError):
                    os.read(watch, 65536)


def same_file(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return True  # between the two steps of a rotation, or deleted


def is_over(directory: Path) -> bool:
    """Return whether nothing will be written any more: the run has ended, or was removed."""
    return (directory / shim.EXIT).exists() or not directory.exists()

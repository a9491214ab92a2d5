"""Container logs: written by the shim, read back by the node."""

import asyncio
from pathlib import Path

import pytest

from meshlab.cluster.embedded.node import log
from meshlab.cluster.embedded.node.log import MAX_LINE, Writer, timestamp
from meshlab.cluster.embedded.node.log_reader import Wish, read

SECOND = 1_000_000_000


def shown(directory: Path, wanted: Wish) -> str:
    async def collect() -> bytes:
        return b"".join([data async for data in read(directory, wanted)])

    return asyncio.run(collect()).decode()


def test_lines_are_stamped_and_streams_kept_apart(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path))
    writer.feed("stdout", b"one\ntw", 0)
    writer.feed("stderr", b"err\n", SECOND)
    writer.feed("stdout", b"o\nrest", 2 * SECOND + 5)
    writer.finish(3 * SECOND)
    assert (tmp_path / "log").read_text().splitlines() == [
        "1970-01-01T00:00:00.000000000Z stdout F one",
        "1970-01-01T00:00:01.000000000Z stderr F err",
        "1970-01-01T00:00:02.000000005Z stdout F two",
        "1970-01-01T00:00:03.000000000Z stdout F rest",
    ]


def test_a_long_line_is_cut_and_put_together_again(tmp_path: Path) -> None:
    writer = Writer(str(tmp_path))
    line = b"x" * (2 * MAX_LINE + 7)
    writer.feed("stdout", line + b"\n", 0)
    writer.feed("stdout", b"y" * MAX_LINE, 0)
    writer.feed("stdout", b"y\n", 0)
    assert shown(tmp_path, Wish()) == line.decode() + "\n" + "y" * (MAX_LINE + 1) + "\n"


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        pytest.param(Wish(), "0\n1\n2\n3\n", id="all"),
        pytest.param(Wish(tail_lines=2), "2\n3\n", id="the last two"),
        pytest.param(Wish(tail_lines=0), "", id="none"),
        pytest.param(Wish(since=1.5), "2\n3\n", id="since a time"),
        pytest.param(Wish(limit_bytes=3), "0\n1", id="no more than so many bytes"),
        pytest.param(
            Wish(tail_lines=1, timestamps=True), f"{timestamp(3 * SECOND)} 3\n", id="with times"
        ),
    ],
)
def test_what_is_asked_for(tmp_path: Path, wanted: Wish, text: str) -> None:
    writer = Writer(str(tmp_path))
    for number in range(4):
        writer.feed("stdout", b"%d\n" % number, number * SECOND)
    assert shown(tmp_path, wanted) == text


def test_follow_goes_over_a_rotation_to_the_containers_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_FILE", 200)
    writer = Writer(str(tmp_path))
    writer.feed("stdout", b"first\n", 0)

    async def scenario() -> list[bytes]:
        lines = []
        async for data in read(tmp_path, Wish(follow=True)):
            lines.append(data)
            if len(lines) < 8:
                writer.feed("stdout", b"%d\n" % len(lines), 0)
            elif len(lines) == 8:
                (tmp_path / "exit.json").touch()
        return lines

    expected = [b"first\n", *(b"%d\n" % number for number in range(1, 8))]
    assert asyncio.run(scenario()) == expected
    assert (tmp_path / "log.1").exists()
    assert shown(tmp_path, Wish()).endswith("6\n7\n")

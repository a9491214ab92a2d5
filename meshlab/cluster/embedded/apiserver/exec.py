"""`pods/exec` over WebSocket: Kubernetes' channel protocols v5 and v4.

A frame's first byte is its channel: 0 standard input, 1 output, 2 error, 3 the Status at the end,
4 the terminal's new size; v5 adds 255, which closes the channel in its second byte.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import encode
from meshlab.cluster.embedded.apiserver.node_api import ExecSession
from meshlab.cluster.embedded.apiserver.status import bad_request
from meshlab.cluster.embedded.task import spawn

Json = dict[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PIECE = 32 * 1024
"""Bytes of output in one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """What is to be run, and what is connected to it."""

    command: list[str]
    container: str
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def parse_exec(query: Mapping[str, Sequence[str]]) -> ExecRequest:
    """Return what a query asks to run.

    Raises:
        ApiError: 400.
    """

    def on(name: str) -> bool:
        return (query.get(name) or [""])[-1].lower() in {"1", "t", "true"}

    found = ExecRequest(
        command=list(query.get("command") or ()),
        container=(query.get("container") or [""])[-1],
        stdin=on("stdin"),
        stdout=on("stdout"),
        stderr=on("stderr"),
        tty=on("tty"),
    )
    if not found.command:
        raise bad_request("you must specify at least 1 command for exec")
    if not (found.stdin or found.stdout or found.stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return found


def choose_protocol(offered: Sequence[str]) -> str:
    """Return the newest protocol that both sides speak.

    Raises:
        ApiError: 400; there is none.
    """
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    raise bad_request(f"unable to negotiate protocol: client supports {list(offered)!r}")


def exit_status(code: int) -> Json:
    """Return the Status that tells a client how its command ended."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def serve_exec(
    session: ExecSession, asked: ExecRequest, receive: Receive, send: Send
) -> None:
    """Carry a session over an accepted WebSocket until the command ends or the client leaves."""
    reader = spawn(_read(session, asked, receive), "exec input")
    writer = spawn(_write(session, asked, send), "exec output")
    try:
        await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        if not reader.done():
            await writer
    finally:
        for task in (reader, writer):
            task.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)
        await session.terminate()


async def _read(session: ExecSession, asked: ExecRequest, receive: Receive) -> None:
    """Pass on what the client sends; returns when it has left."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message["type"] != "websocket.receive":
            continue
        frame = message.get("bytes") or (message.get("text") or "").encode()
        if not frame:
            continue
        channel, data = frame[0], frame[1:]
        if channel == STDIN and asked.stdin:
            if data:
                await session.write(data)
        elif channel == RESIZE and asked.tty:
            await _resize(session, data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            await session.close_stdin()


async def _resize(session: ExecSession, data: bytes) -> None:
    try:
        size = json.loads(data)
        columns, rows = int(size["Width"]), int(size["Height"])
    except (ValueError, KeyError, TypeError):
        return  # a size nobody can read changes nothing
    await session.resize(columns, rows)


async def _write(session: ExecSession, asked: ExecRequest, send: Send) -> None:
    """Pass on the command's output, then how it ended."""
    wanted = {1: asked.stdout, 2: asked.stderr}
    async for stream, data in session.output():
        if not wanted[stream]:
            continue
        for start in range(0, len(data), PIECE):
            frame = bytes([stream]) + data[start : start + PIECE]
            await send({"type": "websocket.send", "bytes": frame})
    status = encode(exit_status(await session.wait()))
    await send({"type": "websocket.send", "bytes": bytes([ERROR]) + status})
    await send({"type": "websocket.close", "code": 1000})

"""A command inside a running container: `kubectl exec`, exec probes and hooks."""

import array
import asyncio
import contextlib
import fcntl
import json
import os
import socket
import struct
import termios
from collections.abc import AsyncIterator
from typing import Any

from meshlab.cluster.embedded.node import shim
from meshlab.cluster.embedded.node.container import Run
from meshlab.cluster.embedded.task import spawn
from meshlab.errors import ClusterError

CHUNK = 32 * 1024
STDOUT, STDERR = 1, 2


class ExecError(ClusterError):
    """The command could not be started.

    Attributes:
        code: a shell's exit code for it, 126 or 127.
    """

    def __init__(self, what: str, code: int) -> None:
        self.code = code
        super().__init__(what)


class Session:
    """A started command (`apiserver.node_api.ExecSession`)."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.input = -1
        self.outputs: dict[int, int] = {}
        """Stream number → descriptor to read it from."""
        self.terminal = False

    @classmethod
    async def start(
        cls, run: Run, command: list[str], *, stdin: bool = False, tty: bool = False
    ) -> "Session":
        """Start `command` in a container.

        Raises:
            ExecError: there is no such program, or the container is ending.
        """
        try:
            session = cls(await run.connect())
        except OSError as error:
            raise ExecError("container not running", 126) from error
        theirs = [] if tty else session.make_pipes(stdin=stdin)
        try:
            await session.request(command, theirs, tty=tty)
        except BaseException:
            session.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return session

    def make_pipes(self, *, stdin: bool) -> list[int]:
        """Make the three streams; return the command's ends."""
        if stdin:
            theirs, self.input = os.pipe()
            os.set_blocking(self.input, False)
        else:
            theirs = os.open(os.devnull, os.O_RDONLY)
        ends = [theirs]
        for stream in (STDOUT, STDERR):
            self.outputs[stream], writer = os.pipe()
            os.set_blocking(self.outputs[stream], False)
            ends.append(writer)
        return ends

    async def request(self, command: list[str], fds: list[int], *, tty: bool) -> None:
        message: dict[str, Any] = {"exec": command, "tty": tty}
        if tty:
            message["env"] = {"TERM": "xterm"}
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.control.sendmsg([json.dumps(message).encode()], rights)
        data, received = await readable(self.control, shim.receive)
        answer = json.loads(data or b'{"error": "container not running", "code": 126}')
        if "error" in answer:
            raise ExecError(answer["error"], answer["code"])
        if tty:
            self.terminal = True
            self.input = received[0]
            os.set_blocking(self.input, False)
            self.outputs[STDOUT] = self.input

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self.input >= 0:
            try:
                view = view[os.write(self.input, view) :]
            except BlockingIOError:
                await ready(self.input, write=True)
            except (BrokenPipeError, OSError):
                return  # it reads no more; its exit code will say the rest

    async def close_stdin(self) -> None:
        if self.terminal:
            await self.write(b"\x04")
        elif self.input >= 0:
            os.close(self.input)
            self.input = -1

    async def resize(self, columns: int, rows: int) -> None:
        if self.terminal and self.input >= 0:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self.input, termios.TIOCSWINSZ, size)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(maxsize=16)
        copies = [
            spawn(self.copy(stream, fd, queue), "exec output")
            for stream, fd in self.outputs.items()
        ]
        try:
            open_streams = len(copies)
            while open_streams:
                stream, data = await queue.get()
                if data:
                    yield stream, data
                else:
                    open_streams -= 1
        finally:
            for task in copies:
                task.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
            self.close_outputs()

    async def copy(self, stream: int, fd: int, queue: asyncio.Queue[tuple[int, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                await ready(fd)
                continue
            except OSError:  # EIO: nobody has the terminal any more
                data = b""
            await queue.put((stream, data))

    async def wait(self) -> int:
        data, _ = await readable(self.control, shim.receive)
        # The shim gone first: the container was killed, and this command with it.
        return int(json.loads(data)["exit"]) if data else 137

    async def terminate(self) -> None:
        """Hang up: the shim kills the command's process group, and its output ends."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)

    def close_outputs(self) -> None:
        for fd in set(self.outputs.values()) - {self.input}:
            os.close(fd)
        self.outputs = {}

    def close(self) -> None:
        """Let go of everything; the command is killed if it still runs."""
        self.control.close()
        self.close_outputs()
        if self.input >= 0:
            os.close(self.input)
            self.input = -1


class Refused:
    """The session of a command that could not be started: says why, as a runtime does, and ends."""

    def __init__(self, error: ExecError) -> None:
        self.error = error

    async def write(self, data: bytes) -> None:
        """Nobody reads it."""

    async def close_stdin(self) -> None:
        """There is none."""

    async def resize(self, columns: int, rows: int) -> None:
        """There is no terminal."""

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        yield STDERR, f"OCI runtime exec failed: exec failed: {self.error.what}\n".encode()

    async def wait(self) -> int:
        return self.error.code

    async def terminate(self) -> None:
        """It never ran."""


async def ready(fd: int, *, write: bool = False) -> None:
    """Wait until a descriptor can be read, or written."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    )
    add(fd, event.set)
    try:
        await event.wait()
    finally:
        remove(fd)


async def readable(sock: socket.socket, receive: Any) -> Any:
    """Return `receive(sock)` once there is something; the socket does not block."""
    while True:
        try:
            return receive(sock)
        except BlockingIOError:
            await ready(sock.fileno())


async def run_command(run: Run, command: list[str]) -> tuple[int, bytes]:
    """Run a command to its end; return its exit code and the first of what it printed.

    Raises:
        ExecError: it could not be started.
    """
    session = await Session.start(run, command)
    printed = bytearray()
    try:
        async for _, data in session.output():
            printed += data[: CHUNK - len(printed)]
        return await session.wait(), bytes(printed)
    finally:
        session.close()

"""One run of a container: starts a shim, follows it to its end, or finds it again later.

A run has a directory of its own, `pods/<uid>/containers/<name>/<attempt>/`, with the files that
shim.py names. They alone say what happened, so a new supervisor reads them and goes on.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.linux import start_time
from meshlab.cluster.embedded.node import shim
from meshlab.cluster.embedded.node.pod import Terminated
from meshlab.errors import ClusterError


class StartError(ClusterError):
    """A container's program could not be started; `state.terminated` says the same."""


def seqpacket() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


class Spawner:
    """The process that shims are forked from; started again when it is gone."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.process: subprocess.Popen[bytes] | None = None
        self.requests: socket.socket | None = None

    def start(self) -> None:
        self.close()
        self.requests, theirs = seqpacket()
        with theirs:
            self.process = subprocess.Popen(
                # The directory is not read: it tells whose shims these are.
                [sys.executable, "-m", "meshlab.cluster.embedded.node.shim", str(self.state_dir)],
                stdin=theirs.fileno(),
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )

    def close(self) -> None:
        if self.requests and self.process:
            self.requests.close()
            self.process.wait()
        self.requests = self.process = None

    async def spawn(self, directory: Path) -> dict[str, Any]:
        """Start a shim; return its first message: pid, and an error when there was one."""
        ours, theirs = seqpacket()
        with ours:
            with theirs:
                self.request(directory, theirs)
            data = await asyncio.get_running_loop().sock_recv(ours, shim.MESSAGE)
        if not data:
            raise StartError("the shim ended before the container was started")
        answer: dict[str, Any] = json.loads(data)
        return answer

    def request(self, directory: Path, ready: socket.socket) -> None:
        if self.requests is None or (self.process and self.process.poll() is not None):
            self.start()
        assert self.requests is not None  # noqa: S101 - start() has set it
        socket.send_fds(self.requests, [os.fsencode(directory)], [ready.fileno()])


class Run:
    """One running container."""

    def __init__(self, directory: Path, pid: int) -> None:
        self.directory = directory
        self.pid = pid
        self.started = float(read(directory / shim.SHIM).get("started", time.time()))
        self.over = asyncio.Event()
        self.pidfd = -1
        self.watch()

    @classmethod
    async def start(cls, spawner: Spawner, directory: Path, spec: dict[str, Any]) -> "Run":
        """Start a container in its directory, which is there.

        Raises:
            StartError: its program could not be started.
        """
        (directory / shim.SPEC).write_text(json.dumps(spec), "utf-8")
        answer = await spawner.spawn(directory)
        if "error" in answer:
            raise StartError(answer["error"])
        return cls(directory, answer["pid"])

    @classmethod
    def adopt(cls, directory: Path) -> "Run | None":
        """Return the run that still goes on in `directory`, None when it is over."""
        known = read(directory / shim.SHIM)
        pid = known.get("pid", 0)
        if not pid or start_time(pid) != known["start"]:
            return None
        return cls(directory, pid)

    def watch(self) -> None:
        """Learn of the shim's end by a descriptor of the process (pidfd_open(2))."""
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.over.set()
            return
        asyncio.get_running_loop().add_reader(self.pidfd, self.ended)

    def ended(self) -> None:
        self.forget()
        self.over.set()

    def forget(self) -> None:
        """Stop watching; the container goes on."""
        if self.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

    async def wait(self) -> Terminated:
        await self.over.wait()
        return outcome(self.directory) or lost(self.directory)

    async def signal(self, number: int) -> None:
        """Send a signal to the container's program; KILL goes to everything inside."""
        if self.over.is_set():
            return
        try:
            with await self.connect() as sock:
                await asyncio.get_running_loop().sock_sendall(
                    sock, json.dumps({"signal": number}).encode()
                )
        except OSError:  # the shim is ending, or does not answer
            if number == signal.SIGKILL:
                self.kill()

    def kill(self) -> None:
        """End the shim itself, and with PID 1 its whole namespace; leaves no exit status."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    async def connect(self) -> socket.socket:
        """Return a connection to the shim."""
        address, fd = shim.socket_address(str(self.directory))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError:
            sock.close()
            raise
        finally:
            os.close(fd)
        return sock


def read(path: Path) -> dict[str, Any]:
    """Return a JSON file's object, {} when there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found


def outcome(directory: Path) -> Terminated | None:
    """Return how a run ended; None when nothing says so."""
    found = read(directory / shim.EXIT)
    if not found:
        return None
    message = found.get("message", "")
    note = directory / "termination-log"
    if not message and note.exists():
        message = note.read_text("utf-8", "replace")[-4096:]
    return Terminated(
        code=found["code"],
        reason=found["reason"],
        message=message,
        started=found["started"],
        finished=found["finished"],
    )


def lost(directory: Path) -> Terminated:
    """Return the end of a run whose shim was killed and wrote nothing: it is known by now."""
    now = time.time()
    return Terminated(
        code=137,
        reason="ContainerStatusUnknown",
        message="The container could not be located when the pod was terminated",
        started=float(read(directory / shim.SHIM).get("started", now)),
        finished=now,
    )


def kill_shim(known: dict[str, Any]) -> None:
    """End a shim, and with it its container, if it is still the process that `shim.json` names."""
    pid = known.get("pid", 0)
    if pid and start_time(pid) == known["start"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

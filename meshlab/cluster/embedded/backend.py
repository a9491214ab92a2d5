"""Embedded clusters: made, found, stopped and removed from outside."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from meshlab.cluster import kubeconfig
from meshlab.cluster.backend import Status
from meshlab.cluster.embedded.linux import permitted_capabilities
from meshlab.cluster.embedded.supervisor import LOG, STOP_SECONDS, is_alive, read_facts
from meshlab.cluster.phase import Phase, Progress, Step, run
from meshlab.errors import ClusterError

SUPERVISOR = "meshlab.cluster.embedded.supervisor"
PACKAGE = b"meshlab.cluster.embedded."
KUBECONFIG = "kubeconfig"
READY = "ready"
UP_SECONDS = 30.0
SYS_ADMIN = 21
TOOLS = {"ip": "iproute2", "nft": "nftables"}


def home() -> Path:
    """Return where clusters keep their state: `$MESHLAB_HOME`, else the XDG state directory."""
    if path := os.environ.get("MESHLAB_HOME"):
        return Path(path).absolute()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "meshlab"


def state_dir(name: str) -> Path:
    """Return a cluster's directory.

    Raises:
        ClusterError: not a name for a cluster, or the cluster is another user's.
    """
    if not name or not name.replace("-", "").isalnum() or not name.isascii():
        raise ClusterError(
            "not a name for a cluster", found=name, allowed="letters, digits and '-'"
        )
    directory = home() / name
    try:
        next(directory.iterdir(), None)
    except PermissionError as error:
        raise ClusterError(
            "belongs to another user",
            object=f"cluster {name!r} in {directory.parent}",
            fix="Run as that user (sudo), or set MESHLAB_HOME to a directory of your own.",
        ) from error
    except OSError:  # not there yet
        pass
    return directory


class Embedded:
    """The embedded backend (`cluster.backend.Backend`)."""

    def up(self, name: str, progress: Progress) -> Status:
        directory = state_dir(name)
        check_machine()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(directory):
            if not self.is_running(directory):
                kill_processes(main_processes(directory))
                run(self.phases(directory, progress), progress)
        return self.status(name)

    def phases(self, directory: Path, progress: Progress) -> list[Phase]:
        return [
            Phase(
                name="embedded cluster",
                do=lambda: start(directory, progress),
                undo=lambda: kill_processes(main_processes(directory)),
            )
        ]

    def is_running(self, directory: Path) -> bool:
        facts = read_facts(directory)
        return bool(facts.get("ready")) and is_alive(facts.get("watchdog", {}))

    def down(self, name: str, progress: Progress) -> None:
        directory = state_dir(name)
        if not directory.exists():
            return
        with locked(directory):
            end_processes(directory, progress)
            shutil.rmtree(directory)
        with contextlib.suppress(OSError):  # not empty: other clusters live there
            directory.parent.rmdir()

    def stop(self, name: str, progress: Progress) -> None:
        directory = state_dir(name)
        if not directory.exists():
            raise absent(name)
        with locked(directory):
            watchdog = read_facts(directory).get("watchdog") or {}
            if is_alive(watchdog):
                kill_processes([watchdog["pid"]], signal.SIGTERM)
            end_processes(directory, progress)

    def status(self, name: str) -> Status:
        directory = state_dir(name)
        if not directory.exists():
            return Status(name=name, state="absent")
        facts = read_facts(directory)
        config = directory / KUBECONFIG
        shown = {"directory": str(directory)}
        parts = {part: facts.get(part) or {} for part in ("watchdog", "supervisor")}
        shown |= {part: str(process["pid"]) for part, process in parts.items() if process}
        alive = [part for part, process in parts.items() if is_alive(process)]
        if not alive:
            left = processes(directory)
            problems = (f"{len(left)} processes of its pods run without it",) if left else ()
            state = "broken" if left else "stopped"
            return Status(name=name, state=state, kubeconfig=config, problems=problems, facts=shown)
        problems = () if len(alive) == len(parts) else (f"only the {alive[0]} process runs",)
        return Status(
            name=name,
            state="broken" if problems else "running",
            server=kubeconfig.server(config),
            kubeconfig=config,
            problems=problems,
            facts=shown,
        )

    def kubeconfig(self, name: str) -> Path:
        path = state_dir(name) / KUBECONFIG
        if not path.exists():
            raise absent(name)
        return path

    def names(self) -> list[str]:
        places = home().iterdir() if home().exists() else []
        return sorted(path.name for path in places if path.is_dir())


def absent(name: str) -> ClusterError:
    return ClusterError(f"there is no cluster {name!r}", fix=f"Make it: meshlab up --name {name}")


def end_processes(directory: Path, progress: Progress) -> None:
    """End a cluster's processes, those first that would start others again."""
    began = time.monotonic()
    progress(Step(name="processes"))
    kill_processes(main_processes(directory))
    kill_processes(processes(directory))
    progress(Step(name="processes", seconds=time.monotonic() - began, done=True))


def check_machine() -> None:
    """Raise ClusterError when this machine cannot run an embedded cluster."""
    if not permitted_capabilities() >> SYS_ADMIN & 1:
        raise ClusterError(
            "the embedded cluster needs root: it makes network and process namespaces",
            fix="Run it with sudo, or use another cluster backend",
        )
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise ClusterError(f"{tool} is not installed", fix=f"apt-get install {package}")


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one at a time make clusters in this home."""
    fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def start(directory: Path, progress: Progress) -> None:
    """Start the watchdog and wait until the cluster is ready.

    Raises:
        ClusterError: it is not, with the end of its log.
    """
    reader, writer = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-m", SUPERVISOR, str(directory), "--report", str(writer)],
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
            check=True,
        )
    finally:
        os.close(writer)
    try:
        steps = follow(reader, progress)
    finally:
        os.close(reader)
    if READY not in steps:
        raise ClusterError(
            "the cluster did not come up",
            found=last_lines(directory / LOG),
            fix=f"See {directory / LOG}",
        )


def follow(fd: int, progress: Progress) -> list[str]:
    """Pass on what the main process says until it is ready; return all steps."""
    steps: list[str] = []
    deadline = time.monotonic() + UP_SECONDS
    rest = b""
    while READY not in steps:
        readable, _, _ = select.select([fd], [], [], max(deadline - time.monotonic(), 0))
        data = os.read(fd, 4096) if readable else b""
        if not data:
            break  # it ended, or took too long
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            steps.append(json.loads(line)["step"])
            if steps[-1] != READY:
                progress(Step(name=steps[-1]))
    return steps


def last_lines(path: Path, count: int = 15) -> str:
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    return "\n".join(lines[-count:])


def processes(directory: Path) -> list[int]:
    """Return all processes of a cluster: each has its directory among its arguments."""
    mark = b"\0" + os.fsencode(directory) + b"\0"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if PACKAGE in line and mark in line:
                    found.append(int(entry.name))
    return found


def main_processes(directory: Path) -> list[int]:
    """Return watchdog and main process, those that would start others again first."""
    facts = read_facts(directory)
    parts = (facts.get("watchdog") or {}, facts.get("supervisor") or {})
    return [process["pid"] for process in parts if is_alive(process)]


def kill_processes(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Signal processes and wait until they are gone; after a while, kill them."""
    waiting = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            waiting[fd] = pid
            signal.pidfd_send_signal(fd, number)
    deadline = time.monotonic() + STOP_SECONDS
    while waiting:
        ended, _, _ = select.select(list(waiting), [], [], max(deadline - time.monotonic(), 0))
        for fd in ended:
            os.close(fd)
            del waiting[fd]
        if not ended:
            deadline = time.monotonic() + STOP_SECONDS
            for fd in waiting:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)

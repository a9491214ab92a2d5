"""The watchdog: starts the cluster's main process, and starts it again when it is gone.

It imports little and does little, so that it has no reason to end. What must survive the main
process belongs to it: the mount namespace in which the cluster's network namespaces and volumes
are mounted (the machine sees none of these mounts, and they are gone with their last process), and
the host's listener of the API server, where clients wait while the main process is away.

`python -m meshlab.cluster.embedded.supervisor STATE_DIR` puts itself into the background.
"""

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.linux import (
    CLONE_NEWNS,
    MS_REC,
    MS_SLAVE,
    PR_SET_CHILD_SUBREAPER,
    mount,
    prctl,
    setns,
    start_time,
    unshare,
)

FACTS = "cluster.json"
LOG = "supervisor.log"
MAX_LOG = 10 * 1024 * 1024
MAIN = "meshlab.cluster.embedded.process"
HEALTHY_SECONDS = 10.0
"""A main process that lived this long may be started again at once."""
PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before the next start, by failed starts in a row."""
STOP_SECONDS = 5.0


def read_facts(state_dir: Path) -> dict[str, Any]:
    """Return what is written down of a cluster, {} when nothing is."""
    try:
        facts: dict[str, Any] = json.loads((state_dir / FACTS).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return facts


def write_facts(state_dir: Path, **facts: Any) -> None:
    """Add to what is written down of a cluster."""
    path = state_dir / FACTS
    new = path.with_name(FACTS + ".new")
    new.write_text(json.dumps({**read_facts(state_dir), **facts}, indent=2), "utf-8")
    new.replace(path)


def process_facts(pid: int) -> dict[str, int]:
    """Return what names a process for ever."""
    return {"pid": pid, "start": start_time(pid)}


def is_alive(process: dict[str, int]) -> bool:
    return bool(process) and start_time(process["pid"]) == process["start"] != 0


def shims(state_dir: Path) -> list[dict[str, int]]:
    """Return the living shims of a cluster."""
    found = []
    for path in (state_dir / "pods").glob("*/containers/*/*/shim.json"):
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            process = json.loads(path.read_text("utf-8"))
            if is_alive(process):
                found.append(process)
    return found


def enter_mounts(state_dir: Path) -> None:
    """Enter the cluster's mount namespace: that of pods still there, else a new one."""
    for process in shims(state_dir):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(f"/proc/{process['pid']}/ns/mnt", os.O_RDONLY)
            setns(fd, CLONE_NEWNS)
            os.close(fd)
            os.chdir("/")
            return
    unshare(CLONE_NEWNS)
    mount("", "/", "", MS_REC | MS_SLAVE)


def open_listener(state_dir: Path) -> socket.socket:
    """Return the API server's listener on the host's loopback, on the port of last time."""
    wanted = read_facts(state_dir).get("api_port", 0)
    try:
        listener = socket.create_server(("127.0.0.1", wanted), backlog=512)
    except OSError:
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    write_facts(state_dir, api_port=listener.getsockname()[1])
    return listener


class Watchdog:
    """Keeps one main process running."""

    def __init__(self, state_dir: Path, listener: socket.socket, report: int) -> None:
        self.state_dir = state_dir
        self.listener = listener
        self.report = report
        """Descriptor to which the first main process tells how it comes up; -1: none."""
        self.main: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        failures = 0
        while not self.stopping:
            began = time.monotonic()
            self.start()
            self.wait()
            lived = time.monotonic() - began
            failures = 0 if lived > HEALTHY_SECONDS else failures + 1
            if not self.stopping:
                time.sleep(PAUSES[min(failures, len(PAUSES) - 1)])

    def start(self) -> None:
        fds = [self.listener.fileno()]
        command = [sys.executable, "-m", MAIN, str(self.state_dir), "--listener", str(fds[0])]
        if self.report >= 0:
            fds.append(self.report)
            command += ["--report", str(self.report)]
        self.main = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
        write_facts(self.state_dir, supervisor=process_facts(self.main.pid))
        if self.report >= 0:
            os.close(self.report)
            self.report = -1

    def wait(self) -> None:
        """Reap until the main process is over; orphans, such as old shims, come by, too."""
        while self.main:
            pid, status = os.waitpid(-1, 0)
            if pid == self.main.pid:
                self.main.returncode = os.waitstatus_to_exitcode(status)
                sys.stderr.write(f"main process {pid} ended: {self.main.returncode}\n")
                return

    def stop(self) -> None:
        self.stopping = True
        if self.main and self.main.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.main.pid, signal.SIGTERM)


def daemonize(state_dir: Path) -> None:
    """Leave the caller's session, standard streams and family."""
    if os.fork():
        os._exit(0)
    os.setsid()
    log = state_dir / LOG
    if log.exists() and log.stat().st_size > MAX_LOG:
        log.replace(log.with_name(LOG + ".1"))
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, source in ((0, null), (1, fd), (2, fd)):
        os.dup2(source, number)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run an embedded cluster in the background.")
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--report", type=int, default=-1, help="descriptor for progress")
    options = parser.parse_args()
    state_dir: Path = options.state_dir
    daemonize(state_dir)
    lock = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a second watchdog ends here
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    enter_mounts(state_dir)
    write_facts(state_dir, watchdog=process_facts(os.getpid()))
    Watchdog(state_dir, open_listener(state_dir), options.report).run()


if __name__ == "__main__":
    main()

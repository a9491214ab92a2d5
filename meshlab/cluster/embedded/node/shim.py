"""The shim: a small process that a container lives under, as containerd has one.

It is PID 1 of the container's PID namespace, so that its end is the end of everything in the
container, and it stays outside the container's root, so that it can keep files in the state
directory. It forwards signals (a PID 1 without a handler ignores TERM), reaps, stamps log lines,
writes the exit status to a file, and starts more processes inside on request (`exec`). It owns no
state of the supervisor's and survives it.

`python -m meshlab.cluster.embedded.node.shim` is the spawner: started once, with all imports done,
it forks a shim a few milliseconds after it is asked. It must import as little as possible, since
every shim is a copy of it.

Files in a container's directory: `spec.json` (in, see container.py), `shim.json` (pid and start
time), `log`, `exit.json`; `socket` (SOCK_SEQPACKET, JSON messages):

    {"signal": 15}                                → {}
    {"exec": [argv], "tty": false, "env": {…}}    + up to three descriptors (stdin, stdout, stderr)
        → {"started": true} (with a terminal: plus its descriptor) or {"error": "…", "code": 126}
        → {"exit": 0}
    When the asker goes away first, the process group of its command is killed.
"""

import array
import contextlib
import json
import os
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

from meshlab.cluster.embedded.linux import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    MS_PRIVATE,
    MS_REC,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    drop_bounding,
    mount,
    prctl,
    set_capabilities,
    setns,
    start_time,
    unshare,
)
from meshlab.cluster.embedded.node import root
from meshlab.cluster.embedded.node.log import Writer

SPEC, SHIM, EXIT, SOCKET = "spec.json", "shim.json", "exit.json", "socket"
MESSAGE = 256 * 1024
FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
ENTERED = (("mnt", CLONE_NEWNS), ("uts", CLONE_NEWUTS), ("ipc", CLONE_NEWIPC))
"""Namespaces that only the container's own processes are in."""


def send(sock: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    # The asker may be gone; its absence is noticed where its socket is read.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendmsg([json.dumps(message).encode()], rights)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return one message and the descriptors that came with it, b"" at the end."""
    data, fds, _, _ = socket.recv_fds(sock, MESSAGE, 4, socket.MSG_CMSG_CLOEXEC)
    return data, list(fds)


def write_json(directory: str, name: str, value: dict[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    path = os.path.join(directory, name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(path + ".new", path)


def socket_address(directory: str) -> tuple[str, int]:
    """Return an address for the directory's socket and the descriptor it needs, to be closed.

    A Unix address holds 107 bytes and a state directory may well be longer.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{fd}/{SOCKET}", fd


# --- Inside the container ---------------------------------------------------------------------


def drop_privileges(spec: dict[str, Any]) -> None:
    """Become the container's user, with its capabilities and no way to more."""
    drop_bounding(spec["capabilities"])
    os.setgroups(spec["groups"])
    os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    if spec["uid"] == 0:
        set_capabilities(spec["capabilities"])
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def take_streams(streams: list[int], uid: int) -> None:
    """Make descriptors the standard streams, which their user may open again as /dev/stdout."""
    for number, fd in enumerate(streams):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, -1)
        os.dup2(fd, number)


def run_program(argv: list[str], env: dict[str, str], cwd: str) -> None:
    """Become `argv`, found on the PATH of `env`."""
    os.chdir(cwd)
    os.umask(0o022)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execvpe(argv[0], argv, env)


def start_error(error: OSError, argv: list[str]) -> dict[str, Any]:
    """Say why a program did not start, in runc's words, and with a shell's exit code."""
    if isinstance(error, FileNotFoundError) and b"/" not in os.fsencode(argv[0]):
        return {
            "error": f'exec: "{argv[0]}": executable file not found in $PATH', "code": 127
        }  # fmt: skip
    return {"error": f'exec: "{argv[0]}": {error}', "code": 126}


def become_container(
    spec: dict[str, Any], directory: str, streams: list[int], sync: socket.socket
) -> None:
    """Turn this fresh child into the container's program; send the shim its namespaces."""
    os.setsid()
    unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC)
    mount("", "/", "", MS_REC | MS_PRIVATE)
    namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name, _ in ENTERED]
    send(sync, {}, namespaces)
    for fd in namespaces:
        os.close(fd)
    socket.sethostname(spec["hostname"])
    os.umask(0o022)  # mount points must be open to the container's user
    target = os.path.join(directory, "root")
    os.makedirs(target, exist_ok=True)
    root.enter(spec, target)
    take_streams(streams, spec["uid"])
    drop_privileges(spec)
    run_program(spec["argv"], spec["env"], spec["cwd"])


def become_exec(
    spec: dict[str, Any], request: dict[str, Any], streams: list[int], sync: socket.socket
) -> None:
    """Turn this fresh child into a command inside the container."""
    os.setsid()
    if request.get("tty"):
        control, terminal = os.openpty()  # of the container's own /dev/pts
        os.fchown(terminal, spec["uid"], spec["gid"])
        send(sync, {}, [control])
        os.close(control)
        os.login_tty(terminal)
    else:
        take_streams(streams, spec["uid"])
    drop_privileges(spec)
    run_program(request["exec"], {**spec["env"], **request.get("env", {})}, spec["cwd"])


# --- The shim -----------------------------------------------------------------------------------


def fork(action: Callable[[socket.socket], None], argv: list[str]) -> tuple[int, socket.socket]:
    """Run `action` in a child, which must end in another program; return its pid and a socket.

    What `action` sends arrives there; then an error, if its program could not be started; then
    the end, when the program has been started (the socket is closed by exec).
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        action(theirs)
    except OSError as error:
        send(theirs, start_error(error, argv))
    finally:
        os._exit(127)


class Shim:
    """Everything that goes on for one container, in one poll loop."""

    def __init__(self, directory: str, ready: socket.socket) -> None:
        self.directory = directory
        with open(os.path.join(directory, SPEC), encoding="utf-8") as file:
            self.spec: dict[str, Any] = json.load(file)
        self.ready = ready
        self.log = Writer(directory)
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.commands: dict[int, socket.socket] = {}
        """pid of a running exec → who asked for it."""
        self.namespaces: list[int] = []
        self.streams: list[int] = []
        self.app = 0
        self.status: int | None = None

    def run(self) -> None:
        """Start the container's program and look after it to the end."""
        prctl(PR_SET_DUMPABLE, 0)  # not even the container's root may look into the shim
        # /proc is still the machine's, so this is the pid by which the node knows the shim.
        pid = int(os.readlink("/proc/self"))
        write_json(self.directory, SHIM, {"pid": pid, "start": start_time(pid)})
        self.watch_signals()
        self.listen()
        began = time.time()
        error = self.start()
        if error:
            self.end({"code": 128, "reason": "StartError", "message": error["error"]}, began)
            send(self.ready, {"pid": pid, "error": error["error"]})
            return
        write_json(
            self.directory, SHIM, {"pid": pid, "start": start_time(pid), "started": time.time()}
        )
        send(self.ready, {"pid": pid})
        self.ready.close()
        while self.status is None:
            for fd, _ in self.poll.poll():
                if fd in self.handlers:
                    self.handlers[fd]()
        self.finish(began)

    def on(self, fd: int, handler: Callable[[], None]) -> None:
        self.handlers[fd] = handler
        self.poll.register(fd, select.POLLIN)

    def off(self, fd: int) -> None:
        del self.handlers[fd]
        self.poll.unregister(fd)

    def watch_signals(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (*FORWARDED, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.on(reader, lambda: self.take_signals(os.read(reader, 256)))

    def take_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self.reap()
            elif self.app:
                self.kill(self.app, number)

    def listen(self) -> None:
        address, fd = socket_address(self.directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(address)
        listener.listen(64)
        os.close(fd)
        self.on(listener.fileno(), lambda: self.take_request(listener.accept()[0]))

    def start(self) -> dict[str, Any] | None:
        """Start the container's program; return why it could not be."""
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        pipes = {name: os.pipe() for name in ("stdout", "stderr")}
        streams = [null, *(writer for _, writer in pipes.values())]
        network = os.open(self.spec["network"], os.O_RDONLY | os.O_CLOEXEC)
        setns(network, CLONE_NEWNET)
        os.close(network)
        self.app, sync = fork(
            lambda sync: become_container(self.spec, self.directory, streams, sync),
            self.spec["argv"],
        )
        for fd in streams:
            os.close(fd)
        for name, (reader, _) in pipes.items():
            self.streams.append(reader)
            self.on(reader, self.copier(name, reader))
        _, self.namespaces = receive(sync)
        answer, _ = receive(sync)
        sync.close()
        if answer:
            error: dict[str, Any] = json.loads(answer)
            return error
        return None

    def copier(self, stream: str, reader: int) -> Callable[[], None]:
        def copy() -> None:
            data = os.read(reader, 64 * 1024)
            if data:
                self.log.feed(stream, data, time.time_ns())
            else:
                self.off(reader)
                os.close(reader)

        return copy

    def take_request(self, asker: socket.socket) -> None:
        data, streams = receive(asker)
        try:
            request = json.loads(data or b"{}")
            if "exec" in request:
                self.start_exec(asker, request, streams)
                return
            if "signal" in request:
                # -1: whatever was started in the container dies, and PID 1 is exempt.
                number = request["signal"]
                self.kill(-1 if number == signal.SIGKILL else self.app, number)
                send(asker, {})
        finally:
            for fd in streams:
                os.close(fd)
        asker.close()

    def start_exec(self, asker: socket.socket, request: dict[str, Any], streams: list[int]) -> None:
        pid, sync = fork(lambda sync: self.become_exec(request, streams, sync), request["exec"])
        answer, terminal = receive(sync)
        if terminal:
            answer, _ = receive(sync)
        sync.close()
        if answer:
            send(asker, json.loads(answer))
            asker.close()
        else:
            send(asker, {"started": True}, terminal)
            self.commands[pid] = asker
            self.on(asker.fileno(), lambda: self.hang_up(pid, asker))
        for fd in terminal:
            os.close(fd)

    def become_exec(self, request: dict[str, Any], streams: list[int], sync: socket.socket) -> None:
        for fd, (_, kind) in zip(self.namespaces, ENTERED, strict=True):
            setns(fd, kind)
        become_exec(self.spec, request, streams, sync)

    def hang_up(self, pid: int, asker: socket.socket) -> None:
        """Whoever asked for this command is gone, or wants its end."""
        self.off(asker.fileno())
        asker.close()
        if self.commands.pop(pid, None):
            self.kill(-pid, signal.SIGKILL)

    def kill(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = child
                if pid == self.app:
                    self.status = status
                elif asker := self.commands.pop(pid, None):
                    send(asker, {"exit": exit_code(status)})
                    self.off(asker.fileno())
                    asker.close()

    def finish(self, began: float) -> None:
        """The container's program is over: end all others, keep the rest of the log, and say so."""
        self.kill(-1, signal.SIGKILL)
        while self.commands:
            self.reap()
            signal.sigtimedwait([signal.SIGCHLD], 0.01)
        for reader in self.streams:
            while reader in self.handlers:  # the writers are dead: what is there, then the end
                self.handlers[reader]()
        self.end({"code": exit_code(self.status or 0)}, began)

    def end(self, result: dict[str, Any], began: float) -> None:
        self.log.finish(time.time_ns())
        result.setdefault("reason", "Error" if result["code"] else "Completed")
        write_json(self.directory, EXIT, {**result, "started": began, "finished": time.time()})


def exit_code(status: int) -> int:
    """Return the exit code as a shell shows it: 128 + n for death by signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


# --- The spawner --------------------------------------------------------------------------------


def spawn(directory: str, ready: socket.socket) -> None:
    """Fork a shim for `directory`; it tells `ready` its pid, or why its container did not start."""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        os.setsid()
        unshare(CLONE_NEWPID)
        if os.fork() == 0:  # PID 1 of the new namespace
            Shim(directory, ready).run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def main() -> None:
    """Take directories of containers from standard input, a socket, until it is closed."""
    requests = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    while True:
        data, fds = receive(requests)
        if not data:
            return
        with socket.socket(fileno=fds[0]) as ready:
            spawn(data.decode(), ready)


if __name__ == "__main__":
    main()

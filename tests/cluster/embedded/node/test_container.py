"""Containers for real: start, log, exit, signals, exec, adoption, and what they must not do."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from meshlab.cluster.embedded.linux import start_time
from meshlab.cluster.embedded.node.container import Run, Spawner, StartError, outcome
from meshlab.cluster.embedded.node.exec import ExecError, Session, run_command
from meshlab.cluster.embedded.node.log_reader import Wish, read
from meshlab.cluster.embedded.node.pod import Terminated

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


HANDLER = "trap 'exit 5' TERM; echo; while :; do sleep 0.05; done"


def play(scenario: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(20):
            return await scenario

    return uvloop.run(limited())


async def start(spawner: Spawner, directory: Path, spec: Any) -> Run:
    directory.mkdir()  # noqa: ASYNC240 - a test may block
    return await Run.start(spawner, directory, spec)


async def output(spawner: Spawner, directory: Path, spec: Any) -> tuple[Terminated, str]:
    """Return how a container ended and what it printed."""
    run = await start(spawner, directory, spec)
    end = await run.wait()
    lines = (directory / "log").read_text().splitlines()
    return end, "\n".join(line.split(" ", 3)[3] for line in lines)


def test_output_and_exit_code(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    command = ["sh", "-c", "echo $NAME $(hostname) $$$$; echo oops >&2; printf unended; exit 3"]
    end, text = play(output(spawner, tmp_path / "run", make_spec(command)))
    assert (end.code, end.reason) == (3, "Error")
    assert sorted(text.splitlines()) == ["oops", "unended", "value test-pod 2"]
    streams = {line.split(" ")[1] for line in (tmp_path / "run/log").read_text().splitlines()}
    assert streams == {"stdout", "stderr"}


def test_starts_fast(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    async def scenario() -> list[float]:
        times = []
        for number in range(5):
            began = time.monotonic()
            run = await start(spawner, tmp_path / f"run{number}", make_spec(["true"]))
            times.append(time.monotonic() - began)
            await run.wait()
        return times

    assert min(play(scenario())) < 0.15


def test_a_program_that_is_not_there(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    with pytest.raises(StartError, match='exec: "nosuch": executable file not found'):
        play(start(spawner, tmp_path / "run", make_spec(["nosuch"])))
    end = outcome(tmp_path / "run")
    assert end is not None
    assert (end.code, end.reason) == (128, "StartError")


@pytest.mark.parametrize(
    ("script", "number", "code"),
    [
        pytest.param("echo; exec sleep 100", signal.SIGTERM, 143, id="a program without a handler"),
        pytest.param(HANDLER, signal.SIGTERM, 5, id="a handler"),
        pytest.param("trap '' TERM; echo; exec sleep 100", signal.SIGKILL, 137, id="killed"),
    ],
)  # fmt: skip
def test_signals(
    spawner: Spawner, make_spec: Any, tmp_path: Path, script: str, number: int, code: int
) -> None:
    async def scenario() -> Terminated:
        run = await start(spawner, tmp_path / "run", make_spec(["sh", "-c", script]))
        async for _ in read(run.directory, Wish(follow=True)):
            break  # it says that it is up
        await run.signal(number)
        return await run.wait()

    assert play(scenario()).code == code


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_any_user_may_open_its_own_output(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    spec = make_spec(["sh", "-c", "echo opened > /dev/stdout"], securityContext={"runAsUser": 1337})
    end, text = play(output(spawner, tmp_path / "run", spec))
    assert (end.code, text) == (0, "opened")


def test_the_shims_death_is_the_containers(
    spawner: Spawner, make_spec: Any, tmp_path: Path
) -> None:
    async def scenario() -> tuple[int, Terminated]:
        run = await start(spawner, tmp_path / "run", make_spec(["sleep", "100"]))
        inside = children(run.pid)
        run.kill()
        return inside[0], await run.wait()

    child, end = play(scenario())
    assert (end.code, end.reason) == (137, "ContainerStatusUnknown")
    assert time.time() - 30 < end.started <= end.finished <= time.time()
    assert start_time(child) == 0


def test_orphans_are_reaped(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    script = "(sh -c 'sleep 0.05 & exit' &); sleep 0.3; ps -e -o stat= | grep -c Z; exit 0"
    _, text = play(output(spawner, tmp_path / "run", make_spec(["sh", "-c", script])))
    assert text == "0"


def test_adopted_by_pid_and_start_time(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    async def scenario() -> tuple[bool, bool, int]:
        run = await start(spawner, tmp_path / "run", make_spec(["sleep", "100"]))
        again = Run.adopt(run.directory)
        assert again is not None
        known = json.loads((run.directory / "shim.json").read_text())
        other = tmp_path / "run-other"
        other.mkdir()
        (other / "shim.json").write_text(json.dumps({**known, "start": known["start"] - 1}))
        stranger = Run.adopt(other)
        (other / "shim.json").unlink()
        await again.signal(signal.SIGKILL)
        return again.pid == run.pid, stranger is None, (await again.wait()).code

    assert play(scenario()) == (True, True, 137)


def test_users_and_capabilities(
    spawner: Spawner, make_spec: Any, tmp_path: Path, capability_bits: dict[str, int]
) -> None:
    command = ["sh", "-c", "id -u; id -g; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status"]

    async def scenario() -> list[str]:
        contexts: list[dict[str, Any]] = [
            {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}},
            {"runAsUser": 1337, "runAsGroup": 1338},
        ]
        return [
            (await output(
                spawner, tmp_path / f"run{n}", make_spec(command, securityContext=context)
            ))[1]
            for n, context in enumerate(contexts)
        ]  # fmt: skip

    root, user = (text.split() for text in play(scenario()))
    net_admin = f"{capability_bits['NET_ADMIN']:016x}"
    assert root == ["0", "0", "CapEff:", net_admin, "CapBnd:", net_admin, "NoNewPrivs:", "1"]
    assert (user[:2], int(user[3], 16), user[-1]) == (["1337", "1338"], 0, "1")
    assert not int(user[5], 16) & capability_bits["SYS_ADMIN"]


@pytest.mark.parametrize(
    ("script", "works"),
    [
        pytest.param("touch /file /tmp/file /run/file", True, id="its own root may be written"),
        pytest.param("touch /usr/file", False, id="the system may not"),
        pytest.param("ls /root/.ssh || ls /root/.bashrc", False, id="/root is not there"),
        pytest.param("cat /etc/shadow", False, id="nor the machine's accounts"),
        pytest.param("mount -t tmpfs none /mnt", False, id="no mounting"),
        pytest.param("echo 1 > /proc/sys/kernel/panic", False, id="no sysctl"),
        pytest.param("kill -9 1; sleep 0.05", True, id="PID 1 does not mind"),
        pytest.param("ls /proc/1/root/", False, id="PID 1 shows nothing of the machine"),
        pytest.param("python -c 'import meshlab'", True, id="Python and the package are there"),
        pytest.param('test "$(ls /sys/class/net)" = lo', True, id="its own network in /sys"),
    ],
)  # fmt: skip
def test_what_root_in_a_container_can_do(
    spawner: Spawner, make_spec: Any, tmp_path: Path, script: str, *, works: bool
) -> None:
    end, text = play(output(spawner, tmp_path / "run", make_spec(["sh", "-c", script])))
    assert (end.code == 0) is works, text


def test_volumes_cannot_lead_out(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "link").symlink_to(tmp_path / "outside")
    mounts = [
        {"source": str(volume), "target": "/data", "read_only": False},
        {"source": str(volume), "target": "/data/link/deep", "read_only": False},
    ]
    spec = make_spec(["sh", "-c", "ls -d /data/link/deep"], mounts=mounts)
    end, text = play(output(spawner, tmp_path / "run", spec))
    assert (end.code, text) == (0, "/data/link/deep")
    assert not (tmp_path / "outside").exists()


def test_a_read_only_root(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    context = {"readOnlyRootFilesystem": True}
    spec = make_spec(
        ["sh", "-c", "touch /x; touch /dev/shm/x && echo shm"], securityContext=context
    )
    _, text = play(output(spawner, tmp_path / "run", spec))
    assert text.splitlines()[-1] == "shm"
    assert "Read-only file system" in text


def test_exec(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    async def scenario() -> Any:
        run = await start(spawner, tmp_path / "run", make_spec(["sleep", "100"]))
        result = await run_command(run, ["sh", "-c", "echo $NAME; hostname; exit 7"])
        session = await Session.start(run, ["cat"], stdin=True)

        async def feed() -> None:
            await session.write(b"x" * 200_000)
            await session.close_stdin()

        feeding = asyncio.ensure_future(feed())
        echoed = b"".join([data async for _, data in session.output()])
        await feeding
        code = await session.wait()
        session.close()
        with pytest.raises(ExecError) as caught:
            await Session.start(run, ["nosuch"])
        await run.signal(signal.SIGKILL)
        await run.wait()
        return result, len(echoed), code, caught.value.code

    assert play(scenario()) == ((7, b"value\ntest-pod\n"), 200_000, 0, 127)


def test_exec_with_a_terminal(spawner: Spawner, make_spec: Any, tmp_path: Path) -> None:
    async def scenario() -> tuple[bytes, int]:
        run = await start(spawner, tmp_path / "run", make_spec(["sleep", "100"]))
        session = await Session.start(run, ["sh"], stdin=True, tty=True)
        await session.resize(100, 30)
        await session.write(b"stty size; tty; exit 4\n")
        shown = b"".join([data async for _, data in session.output()])
        code = await session.wait()
        session.close()
        await run.signal(signal.SIGKILL)
        await run.wait()
        return shown, code

    shown, code = play(scenario())
    assert b"30 100" in shown
    assert b"/dev/pts/" in shown
    assert code == 4


def test_hanging_up_ends_the_whole_process_group(
    spawner: Spawner, make_spec: Any, tmp_path: Path
) -> None:
    async def scenario() -> tuple[int, bytes]:
        run = await start(spawner, tmp_path / "run", make_spec(["sleep", "100"]))
        session = await Session.start(run, ["sh", "-c", "sleep 55 & sleep 55"])
        await session.terminate()
        async for _ in session.output():
            pass  # it ends because its writers are dead
        code = await session.wait()
        session.close()
        _, left = await run_command(run, ["sh", "-c", "ps -e -o args= | grep -c '^sleep 55'"])
        await run.signal(signal.SIGKILL)
        await run.wait()
        return code, left

    assert play(scenario()) == (137, b"0\n")

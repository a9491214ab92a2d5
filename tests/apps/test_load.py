import asyncio
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from meshlab.apps.bluegreen import BlueGreen, Settings
from meshlab.apps.flag import parse
from meshlab.apps.load import FLAGS, Run, Target, UsageError
from meshlab.apps.server import Handler, Request, Response, Server

LOAD = [sys.executable, "-m", "meshlab.apps.load", "load"]


def flags(line: str = "") -> dict[str, Any]:
    values, rest = parse(line.split(), FLAGS)
    assert not rest
    return values


def loaded(handler: Handler, line: str) -> tuple[Run, str, str]:
    """Return the run, its text and its stream, against a server in the same loop."""
    out, stream = io.StringIO(), io.StringIO()

    async def main() -> Run:
        server = Server(handler)
        port = await server.listen("127.0.0.1", 0)
        run = Run(f"http://127.0.0.1:{port}/api/color", flags(line), out=out, stream=stream)
        if await run.run():
            run.report()
            run.end_stream()
        await server.close()
        return run

    return asyncio.run(main()), out.getvalue(), stream.getvalue()


def buggy(percent: float = 25) -> BlueGreen:
    settings = Settings(color="red", fail_percent=percent)
    return BlueGreen(settings, instance="pod-1", dice=random.Random(3))


def test_exactly_n_calls_and_the_codes() -> None:
    service = buggy()
    run, text, stream = loaded(service.handle, "-c 4 -qps 0 -n 41")
    failed = service.failed
    assert (service.requests, run.result()["RetCodes"]) == (41, {"200": 41 - failed, "502": failed})
    assert f"Code 200 : {41 - failed} ({100 * (41 - failed) / 41:.1f} %)\n" in text
    # A bad answer closes its connection, as fortio does, unless it was a connection's last.
    sockets = run.result()["SocketCount"]
    assert 4 <= sockets <= 4 + failed
    assert f"Sockets used: {sockets} (for perfect keepalive, would be 4)\n" in text
    assert "All done 41 calls (plus 0 warmup)" in text
    *batches, last = [json.loads(line) for line in stream.splitlines()]
    seen = [tuple(request[2:5]) for batch in batches for request in batch["requests"]]
    assert len(seen) == 41
    assert seen.count((200, "red", "pod-1")) == 41 - failed
    assert last["result"]["DurationHistogram"]["Count"] == 41


def test_without_keepalive_each_call_has_its_own_connection() -> None:
    run, _, _ = loaded(buggy(0).handle, "-c 2 -qps 0 -n 10 -keepalive=false")
    assert run.result()["Sockets"] == [5, 5]


def test_connection_reuse_ends_a_connection_after_so_many() -> None:
    run, _, _ = loaded(buggy(0).handle, "-c 1 -qps 0 -n 10 -connection-reuse 2:2")
    assert run.result()["Sockets"] == [5]


def test_the_rate_is_kept() -> None:
    run, _, _ = loaded(buggy(0).handle, "-c 2 -qps 100 -n 30 -t 0 -quiet")
    result = run.result()
    assert result["RequestedQPS"] == "100"
    assert 90 < result["ActualQPS"] < 112  # the first calls of each connection come at once


def test_a_bad_warm_up_aborts_a_timed_run() -> None:
    run, text, _ = loaded(buggy(100).handle, "-c 2 -qps 50 -t 1s")
    assert "Aborting because of error 502 for" in text
    assert "Code 502" not in text
    assert run.threads[0].durations.count == 0


def test_initial_errors_may_be_allowed() -> None:
    run, _, _ = loaded(buggy(100).handle, "-c 2 -qps 100 -t 100ms -allow-initial-errors")
    assert run.result()["RetCodes"] == {"502": 10}


def test_an_answer_that_does_not_come() -> None:
    run, text, stream = loaded(
        lambda _: Response(delay=5), "-c 1 -qps 0 -n 1 -timeout 50ms -loglevel error"
    )
    assert run.result()["RetCodes"] == {"-1": 1}
    assert "Code  -1 : 1 (100.0 %)" in text
    assert json.loads(stream.splitlines()[0])["requests"][0][5] == "no answer in 0.05s"


def test_refused_is_a_code_and_not_an_exception() -> None:
    async def main() -> Run:
        run = Run("http://127.0.0.1:1/", flags("-c 1 -n 2 -qps 0"), out=io.StringIO(), stream=None)
        await run.run()
        return run

    assert asyncio.run(main()).result()["RetCodes"] == {"-1": 2}


def test_an_idle_connection_that_died_is_replaced_once() -> None:
    def answer(request: Request) -> Response:
        return Response(body=b"ok", headers=(("connection", "keep-alive"),), close=True)

    run, _, _ = loaded(answer, "-c 1 -qps 0 -n 3")
    assert (run.result()["RetCodes"], run.result()["SocketCount"]) == ({"200": 3}, 3)


@pytest.mark.parametrize(
    ("line", "dialled", "head"),
    [
        pytest.param(
            "", ("shop.test", 80), b"GET /a?b=1 HTTP/1.1\r\nHost: shop.test\r\n", id="plain"
        ),
        pytest.param(
            "-resolve 127.0.0.1:30080",
            ("127.0.0.1", 30080),
            b"GET /a?b=1 HTTP/1.1\r\nHost: shop.test\r\n",
            id="dial the ingress, keep the host",
        ),
        pytest.param("-resolve 10.0.0.9", ("10.0.0.9", 80), b"GET /a?b=1", id="fortio's resolve"),
        pytest.param(
            "-H host:other", ("shop.test", 80), b"GET /a?b=1 HTTP/1.1\r\nHost: other\r\n", id="host"
        ),
        pytest.param(
            "-payload x", ("shop.test", 80), b"POST /a?b=1", id="a payload makes it a POST"
        ),
        pytest.param("-X PUT", ("shop.test", 80), b"PUT /a?b=1", id="method"),
    ],
)
def test_target(line: str, dialled: tuple[str, int], head: bytes) -> None:
    target = Target.of("http://shop.test/a?b=1", flags(line))
    assert ((target.host, target.port), target.request[: len(head)]) == (dialled, head)


@pytest.mark.parametrize("url", ["https://shop.test/", "ftp://x/", "http:///path"])
def test_target_refuses(url: str) -> None:
    with pytest.raises(UsageError, match="only http:// URLs"):
        Target.of(url, flags())


# The process


@contextmanager
def server_process() -> Iterator[str]:
    command = [sys.executable, "-m", "meshlab.apps.bluegreen"]
    environment = {"color": "blue", "port": "0", "HOSTNAME": "pod-7"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        yield f"http://127.0.0.1:{port}/api/color"
        process.terminate()
        assert process.wait(5) == 0


def test_load_ends_when_its_parent_is_gone() -> None:
    with (
        server_process() as url,
        subprocess.Popen(
            [*LOAD, "-qps", "50", "-t", "0", "-stream", "-lease", "-quiet", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["requests"]
        process.stdin.close()
        closed = time.monotonic()
        process.stdout.read()
        process.wait(5)
        assert time.monotonic() - closed < 2


def test_stop_on_stdin_ends_the_run_with_its_result() -> None:
    with (
        server_process() as url,
        subprocess.Popen(
            [*LOAD, "-qps", "50", "-t", "0", "-stream", "-lease", "-quiet", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("stop\n")
        process.stdin.flush()
        *_, last = process.stdout.read().splitlines()
        assert process.wait(5) == 0
        assert set(json.loads(last)["result"]["RetCodes"]) == {"200"}


def test_json_on_stdout() -> None:
    with server_process() as url:
        done = subprocess.run(
            [*LOAD, "-n", "4", "-qps", "0", "-json", "-", url],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
    assert json.loads(done.stdout)["RetCodes"] == {"200": 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load"], "needs one url"),
        (["load", "-grpc", "x"], "not defined: -grpc"),
        (["nc"], "unknown command 'nc'"),
    ],
)
def test_usage_errors(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "meshlab.apps.load", *arguments],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert (done.returncode, message in done.stderr) == (1, True)

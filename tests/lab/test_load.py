import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from meshlab.lab.load import FAILED, Load, LoadError, Request, Sample, _flags

BLUE = Request(100.0, 0.001, 200, "blue", "pod-1", "")
GREEN = Request(100.1, 0.002, 200, "green", "pod-2", "")
BAD = Request(100.2, 0.003, 502, '{"status":502}', "pod-3", "")
LOST = Request(100.3, 3.0, -1, "", "", "no answer in 3s")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """An app that answers `red` and fails a quarter of the calls, as an ingress would."""
    command = [sys.executable, "-m", "meshlab.apps.bluegreen"]
    environment = {"color": "red", "buggy": "true", "seed": "5", "port": "0", "HOSTNAME": "pod-7"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().split()[-1]}"
        process.terminate()


URL = "http://bluegreen.example.com/api/color"


def test_sample() -> None:
    sample = Sample([BLUE, BLUE, GREEN, BAD, LOST])
    assert sample.counts == {"blue": 2, "green": 1, FAILED: 2}
    assert (sample.codes, sample.failed) == ({200: 3, 502: 1, -1: 1}, 2)
    assert sample.share() == {"blue": 0.4, FAILED: 0.4, "green": 0.2}
    assert sample.share("black") == 0.0
    assert sample.instances == {"pod-1": 2, "pod-2": 1, "pod-3": 1}
    assert sample.percentile(50) == 0.002


def test_check_share() -> None:
    sample = Sample([BLUE] * 60 + [GREEN] * 40)
    assert sample.check_share(blue=0.5, green=0.5)
    judged = sample.check_share(blue=0.9)
    assert not judged
    assert "✗" in repr(judged)
    assert "once in 10,000 runs" in repr(judged)
    assert not Sample([]).check_share(blue=0.0)


@pytest.mark.parametrize(
    ("options", "ends", "flags"),
    [
        pytest.param({}, False, "-qps 50 -c 4 -t 0", id="beside the notebook"),
        pytest.param({"requests": 300}, True, "-qps 0 -c 4 -n 300", id="counted: at full speed"),
        pytest.param({"seconds": 2, "qps": 10}, True, "-qps 10 -c 4 -t 2s", id="timed"),
        pytest.param(
            {"headers": {"Foo": "bar"}, "keepalive": False},
            False,
            "-qps 50 -c 4 -t 0 -H Foo: bar -keepalive=false",
            id="headers",
        ),
    ],
)
def test_flags(options: dict[str, object], ends: bool, flags: str) -> None:
    found, line = _flags(options)
    assert (found, " ".join(line)) == (ends, f"{flags} -allow-initial-errors -quiet")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(LoadError, match="no such option: speed"):
        _flags({"speed": 3})


def test_a_counted_load_waits_for_its_end(address: str) -> None:
    load = Load.outside(URL, ingress=address, requests=200)
    sample = load.sample()
    assert (load.running, len(sample), load.sent) == (False, 200, 200)
    assert load.result is not None
    assert load.result["URL"] == URL
    assert set(sample.counts) == {"red", FAILED}
    assert load.failed == sample.failed
    assert load.command.startswith("meshlab load -qps 0 -c 4 -n 200")


def test_next_counts_only_what_is_sent_later(address: str) -> None:
    with Load.outside(URL, ingress=address, qps=200) as load:
        load.next(5)
        asked = time.time()
        sample = load.next(20)
        assert len(sample) == 20
        assert min(request.sent for request in sample.requests) >= asked
    assert not load.running


def test_a_second_load_replaces_the_first(address: str) -> None:
    first = Load.outside(URL, ingress=address, qps=50)
    second = Load.outside(URL, ingress=address, qps=50)
    assert (first.running, second.running) == (False, True)
    second.stop()


def test_next_says_why_nothing_comes(address: str) -> None:
    load = Load.outside(URL, ingress=address, qps=50)
    load.stop()
    with pytest.raises(LoadError, match=r"only 0 of 10 requests came \(found it has ended\)"):
        load.next(10)


def test_an_interrupt_of_the_cell_does_not_reach_the_load(address: str) -> None:
    """The generator is in a session of its own; the kernel interrupts its own process group."""
    with Load.outside(URL, ingress=address, qps=50) as load:
        assert os.getsid(load._process.pid) != os.getsid(0)


def test_the_load_is_gone_when_its_kernel_is_killed(address: str) -> None:
    """Not even a `kill -9` of the kernel leaves a load behind."""
    code = (
        "from meshlab.lab.load import Load\n"
        f"load = Load.outside({URL!r}, ingress={address!r}, qps=50)\n"
        "load.next(3)\n"
        "print(load._process.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as kernel:
        assert kernel.stdout is not None
        pid = int(kernel.stdout.readline())
        watched = os.pidfd_open(pid)
        os.kill(kernel.pid, signal.SIGKILL)
        killed = time.monotonic()
        ready, _, _ = select.select([watched], [], [], 5)
        os.close(watched)
        assert ready
        assert time.monotonic() - killed < 2

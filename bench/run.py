"""Ours and Envoy on the same bootstrap, side by side: `python bench/run.py [--seconds 5]`.

wrk loads each in turn, several rounds, so that both meet the same machine; only ratios within one
run mean anything. The data plane runs on one core, the load and the upstream on the others.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fixtures.data_plane import DataPlane, free_port, wait_ready

HERE = Path(__file__).parent
BODY = "x" * 65


@dataclass(frozen=True)
class Result:
    rate: float
    """Requests per second."""
    p50: float
    p99: float
    """Milliseconds."""
    errors: int
    memory: float
    """MB resident, after the load."""


@dataclass(frozen=True)
class Case:
    name: str
    connections: int = 32
    path: str = "/"


CASES = (Case("plain HTTP/1.1"), Case("512 connections", connections=512), Case("1 MB", path="/1m"))

UPSTREAM = f"""
import asyncio, uvloop
SMALL = b"HTTP/1.1 200 OK\\r\\ncontent-length: {len(BODY)}\\r\\n\\r\\n{BODY}"
LARGE = b"HTTP/1.1 200 OK\\r\\ncontent-length: 1048576\\r\\n\\r\\n" + b"x" * 1048576

class Answer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""
    def data_received(self, data):
        data = self.rest + data
        *heads, self.rest = data.split(b"\\r\\n\\r\\n")
        for head in heads:
            self.transport.write(LARGE if head.startswith(b"GET /1m") else SMALL)

async def main(port):
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", port)
    await server.serve_forever()

import sys
uvloop.run(main(int(sys.argv[1])))
"""


def pinned(cores: set[int], command: list[str], **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["taskset", "-c", ",".join(map(str, sorted(cores))), *command],
        **options,  # type: ignore[call-overload]
    )


def command(name: str, bootstrap: Path) -> list[str]:
    if name == "ours":
        return [sys.executable, "-m", "meshlab.proxy", "-c", str(bootstrap), "-l", "warn"]
    envoy = Path(sys.executable).with_name("envoy")
    flags = ["--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]
    return [str(envoy), "-c", str(bootstrap), *flags]


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def start(name: str, directory: Path, app: int, core: set[int]) -> DataPlane:
    ports = {"ADMIN": free_port(), "HTTP": free_port()}
    text = (HERE / "proxy_http1.yaml").read_text()
    words = {**ports, "APP": app, "LOG": directory / f"{name}.log"}
    for word, value in words.items():
        text = text.replace(f"${word}", str(value))
    path = directory / f"{name}.yaml"
    path.write_text(text)
    output = directory / f"{name}.out"
    with output.open("wb") as file:
        process = pinned(core, command(name, path), stdout=file, stderr=file)
    plane = DataPlane(name, ports, directory / f"{name}.log", process, output)
    wait_ready(plane)
    return plane


def load(plane: DataPlane, case: Case, seconds: float, cores: set[int]) -> Result:
    url = f"http://127.0.0.1:{plane.ports['HTTP']}{case.path}"
    arguments = ["-t1", f"-c{case.connections}", f"-d{seconds:g}s", "--latency", url]
    wrk = ["taskset", "-c", ",".join(map(str, sorted(cores))), "wrk", *arguments]
    text = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate, text
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", text)))
    return Result(
        rate=float(rate[1]),
        p50=milliseconds(text, "50%"),
        p99=milliseconds(text, "99%"),
        errors=errors,
        memory=resident(plane.process.pid),
    )


def milliseconds(text: str, percentile: str) -> float:
    match = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", text)
    assert match, text
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


def resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def middle(results: list[Result]) -> Result:
    """Return the median of each figure; errors and memory at their worst."""
    return Result(
        rate=statistics.median(result.rate for result in results),
        p50=statistics.median(result.p50 for result in results),
        p99=statistics.median(result.p99 for result in results),
        errors=max(result.errors for result in results),
        memory=max(result.memory for result in results),
    )


def table(rows: list[tuple[str, Result, Result]]) -> str:
    lines = [
        "| case | ours req/s | Envoy req/s | ratio | ours p50/p99 ms | Envoy p50/p99 ms |"
        " memory MB | errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, ours, envoy in rows:
        lines.append(
            f"| {name} | {ours.rate:,.0f} | {envoy.rate:,.0f} | {ours.rate / envoy.rate:.2f} |"
            f" {ours.p50:.2f}/{ours.p99:.2f} | {envoy.p50:.2f}/{envoy.p99:.2f} |"
            f" {ours.memory:.0f} / {envoy.memory:.0f} | {ours.errors} / {envoy.errors} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    cores = sorted(os.sched_getaffinity(0))
    proxy_core, others = {cores[-1]}, set(cores[:-1]) or {cores[0]}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        app = free_port()
        stack.enter_context(ended(pinned(others, [sys.executable, "-c", UPSTREAM, str(app)])))
        planes = [start(name, directory, app, proxy_core) for name in ("ours", "envoy")]
        for plane in planes:
            stack.callback(plane.stop)
        rows = []
        for case in CASES:
            found: dict[str, list[Result]] = {"ours": [], "envoy": []}
            for _ in range(options.rounds):
                for plane in planes:
                    found[plane.name].append(load(plane, case, options.seconds, others))
                    time.sleep(0.5)
            rows.append((case.name, middle(found["ours"]), middle(found["envoy"])))
        print(table(rows))


if __name__ == "__main__":
    main()

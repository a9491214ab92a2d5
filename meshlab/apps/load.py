"""The load generator: fortio's commands `load`, `server` and `curl`, its flags, text and JSON.

Several connections ("threads" in fortio's words) send at a common rate (`-qps`, 0: as fast as they
can) for a time (`-t`) or a number of calls (`-n`). What fortio does not have, the labs need:

- `-stream`: a line of JSON each 100 ms on stdout, with every request of that time;
- `-resolve IP:PORT`: dial that address and keep the URL's Host, to enter by an ingress gateway;
- `-lease`: end when stdin is closed; the line `stop` on stdin ends the run in good order.
"""

import asyncio
import base64
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import uvloop

from meshlab.apps import echo, lease
from meshlab.apps.client import BODY_BYTES, Answer, Client, is_ok
from meshlab.apps.duration import format_duration, parse_duration
from meshlab.apps.flag import Flag, FlagError, boolean, parse, usage
from meshlab.apps.histogram import Histogram
from meshlab.apps.server import run as serve

VERSION = "1.63.7-meshlab"
"""The fortio whose flags and results these are."""
STREAM_SECONDS = 0.1
LEVELS = {
    "debug": 0,
    "verbose": 1,
    "info": 2,
    "warning": 3,
    "warn": 3,
    "error": 4,
    "critical": 5,
    "fatal": 6,
}
LATE_PERCENT = 5
"""From this share of late sends on, fortio warns that the rate was not reached."""
MIB = 1 << 20


class UsageError(Exception):
    """What was asked for cannot be done."""


def _percentiles(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    return int(low), int(high or low)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("a header is written name:value")
    return name.strip(), value.strip()


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise ValueError(f"one of {', '.join(LEVELS)}")
    return text.lower()


def _method(text: str) -> str:
    if not text.isalpha():
        raise ValueError("a method is one word of letters")
    return text


FLAGS = {
    "H": Flag(_header, [], "Additional http header, `name:value`; may be repeated", repeated=True),
    "X": Flag(_method, "", "HTTP method to use instead of GET, or POST with a payload"),
    "a": Flag(boolean, False, "Save the JSON result in a file named after labels and time"),
    "abort-on": Flag(int, 0, "Http code that ends the run, e.g. 503, or -1 for socket errors"),
    "allow-initial-errors": Flag(boolean, False, "Do not end at errors of the warm-up"),
    "c": Flag(int, 4, "Number of connections"),
    "calc-qps": Flag(boolean, False, "Calculate the qps from -n and -t"),
    "connection-reuse": Flag(
        _range, (0, 0), "min:max of the requests a connection is used for; default: no limit"
    ),
    "content-type": Flag(str, "", "Content type of the payload; makes the method POST"),
    "curl": Flag(boolean, False, "Just fetch the content once"),
    "data-dir": Flag(str, ".", "Where -a saves results"),
    "httpbufferkb": Flag(int, 128, "Taken for compatibility; answers of any size are read"),
    "jitter": Flag(boolean, False, "Vary the time between calls by 10 %"),
    "json": Flag(str, "", "Path of the JSON result, or - for stdout"),
    "keepalive": Flag(boolean, True, "Keep connections alive"),
    "labels": Flag(str, "", "Text for the result; default: URL and host name"),
    "lease": Flag(boolean, False, "(ours) End when stdin is closed; `stop` on stdin ends the run"),
    "log-errors": Flag(boolean, True, "Log http codes other than 2xx and 418 as they occur"),
    "logger-json": Flag(boolean, True, "Taken for compatibility; logs are JSON"),
    "loglevel": Flag(_level, "info", "Debug, Verbose, Info, Warning, Error, Critical or Fatal"),
    "n": Flag(int, 0, "Run for exactly this number of calls instead of a duration"),
    "nocatchup": Flag(boolean, False, "Skip calls that would be late instead of catching up"),
    "offset": Flag(parse_duration, 0.0, "Offset of the histogram data"),
    "p": Flag(_percentiles, (50.0, 75.0, 90.0, 99.0, 99.9), "Percentiles to calculate"),
    "payload": Flag(str, "", "Body to send; makes the method POST"),
    "payload-file": Flag(str, "", "File to send as the body; makes the method POST"),
    "qps": Flag(float, 8.0, "Queries per second; 0: as fast as possible"),
    "quiet": Flag(boolean, False, "Log errors only and print less"),
    "r": Flag(float, 0.001, "Resolution of the histogram's lowest buckets in seconds"),
    "resolve": Flag(str, "", "Dial this IP (ours: or IP:PORT) instead of the URL's host"),
    "runid": Flag(int, 0, "Number that is added to the JSON result"),
    "seed": Flag(int, None, "(ours) Seed of jitter and connection reuse"),
    "sequential-warmup": Flag(boolean, False, "Taken for compatibility; the warm-up is parallel"),
    "stdclient": Flag(boolean, False, "Taken for compatibility; there is one client"),
    "stream": Flag(boolean, False, "(ours) Every request as JSON lines on stdout, each 100 ms"),
    "t": Flag(parse_duration, 5.0, "How long to run, or 0 to run until interrupted"),
    "timeout": Flag(parse_duration, 3.0, "Time limit of connecting, and of each answer"),
    "uniform": Flag(boolean, False, "Spread the calls of the connections evenly"),
    "user": Flag(str, "", "user:password of basic authentication"),
}
SERVER_FLAGS = {
    "http-port": Flag(str, "8080", "Port of the http echo server"),
    "grpc-port": Flag(str, "disabled", "Not served"),
    "redirect-port": Flag(str, "disabled", "Not served"),
    "tcp-port": Flag(str, "disabled", "Not served"),
    "udp-port": Flag(str, "disabled", "Not served"),
    "loglevel": FLAGS["loglevel"],
    "quiet": FLAGS["quiet"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes: the address that is dialled, and the bytes that are sent there."""

    url: str
    host: str
    port: int
    request: bytes

    @classmethod
    def of(cls, url: str, flags: dict[str, Any]) -> "Target":
        """Build the request once, from the URL and the flags.

        Raises:
            UsageError: not an http URL.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"{url}: only http:// URLs with a host are supported")
        body = Path(flags["payload-file"]).read_bytes() if flags["payload-file"] else b""
        body = body or flags["payload"].encode()
        method = flags["X"] or ("POST" if body or flags["content-type"] else "GET")
        headers = _request_headers(parts.netloc.rpartition("@")[2], flags, len(body))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        if any("\r" in line or "\n" in line for line in lines):
            raise UsageError("a line break in the URL or in a header")
        host, port = _dialled(parts.hostname, parts.port or 80, flags["resolve"])
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        return cls(url=parts.geturl(), host=host, port=port, request=request)


def _request_headers(host: str, flags: dict[str, Any], size: int) -> list[tuple[str, str]]:
    given = list(flags["H"])
    named = {name.lower() for name, _ in given}
    override = [value for name, value in given if name.lower() == "host"]
    headers = [("Host", override[-1] if override else host)]
    if not flags["keepalive"]:
        headers.append(("Connection", "close"))
    if flags["content-type"]:
        headers.append(("Content-Type", flags["content-type"]))
    if "user-agent" not in named:
        headers.append(("User-Agent", f"fortio.org/fortio-{VERSION}"))
    if flags["user"]:
        secret = base64.b64encode(flags["user"].encode()).decode()
        headers.append(("Authorization", f"Basic {secret}"))
    if size:
        headers.append(("Content-Length", str(size)))
    return headers + [(name, value) for name, value in given if name.lower() != "host"]


def _dialled(host: str, port: int, resolve: str) -> tuple[str, int]:
    if not resolve:
        return host, port
    address, colon, number = resolve.rpartition(":")
    if colon and number.isdigit() and ":" not in address.strip("[]").replace("::", ""):
        return address.strip("[]"), int(number)
    return resolve.strip("[]"), port


@dataclass(slots=True)
class Thread:
    """What one connection did."""

    client: Client
    durations: Histogram
    errors: Histogram
    sleeps: Histogram
    sizes: Histogram
    header_sizes: Histogram
    codes: Counter[int] = field(default_factory=Counter)


class Run:
    """One run of `fortio load`, from its flags to its result."""

    def __init__(
        self, url: str, flags: dict[str, Any], *, out: TextIO, stream: TextIO | None
    ) -> None:
        self.flags = flags
        self.target = Target.of(url, flags)
        self.out = out
        self.stream = stream
        self.level = LEVELS["error" if flags["quiet"] else flags["loglevel"]]
        self.exactly: int = max(flags["n"], 0)
        self.duration: float = max(flags["t"], 0.0)
        self.qps: float = flags["qps"]
        if flags["calc-qps"]:
            if not self.exactly or not self.duration:
                raise UsageError("can't use -calc-qps without also specifying -n and -t")
            self.qps = self.exactly / self.duration
        self.connections: int = flags["c"]
        if self.connections < 1:
            raise UsageError("-c: at least one connection")
        self.dice = random.Random(flags["seed"])
        self.threads: list[Thread] = []
        self.stopped = asyncio.Event()
        self.started_at = datetime.now(UTC)
        self._elapsed = 0.0
        self._sleepers: set[asyncio.Future[None]] = set()
        self._pending: list[tuple[float, float, int, str, str, str]] = []

    # the run

    def stop(self) -> None:
        """End after the calls that are under way."""
        self.stopped.set()
        for sleeper in self._sleepers:
            _wake(sleeper)

    async def run(self) -> bool:
        """Run; return False when the warm-up failed and nothing was measured."""
        self._say(self._headline())
        self._log("info", "Starting http test", url=self.target.url, threads=self.connections)
        each, left_over, starting = self._plan()
        self.threads = [self._thread() for _ in range(self.connections)]
        if not self.exactly and not await self._warm_up():
            return False
        if starting:
            self._say(starting)
        self.started_at = datetime.now(UTC)
        began = time.perf_counter()
        streaming = asyncio.ensure_future(self._stream()) if self.stream else None
        await asyncio.gather(
            *(
                self._work(number, thread, each + (left_over if number == 0 else 0), began)
                for number, thread in enumerate(self.threads)
            )
        )
        self._elapsed = time.perf_counter() - began
        if streaming is not None:
            streaming.cancel()
            self._write_stream()
        for thread in self.threads:
            thread.client.close()
        self._log(
            "info", "Run ended", run=self.flags["runid"], calls=self._merged("durations").count
        )
        return True

    def _thread(self) -> Thread:
        flags = self.flags
        low, high = flags["connection-reuse"]
        client = Client(
            self.target.request,
            self.target.host,
            self.target.port,
            timeout=flags["timeout"],
            keep_alive=flags["keepalive"],
            reuse_limit=lambda: self.dice.randint(low, high),
        )
        return Thread(
            client,
            durations=Histogram(flags["r"], flags["offset"]),
            errors=Histogram(flags["r"], flags["offset"]),
            sleeps=Histogram(0.001, -0.001),
            sizes=Histogram(100),
            header_sizes=Histogram(5),
        )

    def _plan(self) -> tuple[int, int, str]:
        """Return calls per connection, what is left over, and what fortio says about it."""
        rate = f"{self.qps:g} qps" if self.qps > 0 else "max qps"
        if not self.exactly and not self.duration:
            return (
                0,
                0,
                f"Starting at {rate} with {self.connections} thread(s) [gomax 1] until interrupted",
            )
        total = self.exactly or int(self.qps * self.duration)
        if self.exactly:
            self.connections = min(self.connections, self.exactly)
        if self.qps > 0 and self.exactly != 1:
            if total < 2:
                self._log("warn", "Increasing the number of calls to 2, with 1 thread")
                total, self.connections = 2, 1
            if 2 * self.connections > total:
                self._log("warn", f"Lowering number of threads to {total // 2}: {total} calls")
                self.connections = total // 2
        each = total // self.connections if self.exactly or self.qps > 0 else 0
        left_over = total - each * self.connections if self.exactly else 0
        starting = f"Starting at {rate} with {self.connections} thread(s) [gomax 1] "
        done = each * self.connections
        if self.qps <= 0:
            how = f"for {self._requested()}"
            starting += how + (f" ({each} per thread + {left_over})" if self.exactly else "")
        elif self.exactly:
            starting += f": exactly {total}, {each} calls each (total {done} + {left_over})"
        else:
            starting += f"for {self._requested()} : {each} calls each (total {done})"
        return each, left_over, starting if self.level <= LEVELS["warning"] else ""

    def _requested(self) -> str:
        if self.exactly:
            return f"exactly {self.exactly} calls"
        return format_duration(self.duration) if self.duration else "until stop"

    async def _warm_up(self) -> bool:
        answers = await asyncio.gather(*(thread.client.fetch() for thread in self.threads))
        bad = next((answer for answer in answers if not is_ok(answer.code)), None)
        if bad is None or self.flags["allow-initial-errors"]:
            return True
        reason = f" {bad.error}" if bad.error else ""
        self._say(
            f"Aborting because of error {bad.code} for {self.target.url} ({bad.size} bytes){reason}"
        )
        return False

    async def _work(self, number: int, thread: Thread, calls: int, began: float) -> None:
        """Send one connection's share of the calls."""
        rate = self.qps / self.connections
        if rate > 0 and self.flags["uniform"]:
            shift = number / self.connections / rate
            began += shift
            await self._sleep(shift)
        done = 0
        while not self.stopped.is_set():
            now = time.perf_counter()
            over = not self.exactly and self.duration > 0 and now > began + self.duration
            # fortio: with a rate, the second and the last call come even if late.
            if over and (rate <= 0 or (done >= 2 and done != calls - 1)):
                break
            await self._call(number, thread)
            done += 1
            if calls and done >= calls:
                break
            if rate > 0:
                done = await self._pace(thread, done, calls, rate, began)
                if calls and done >= calls:
                    break

    async def _call(self, number: int, thread: Thread) -> None:
        sent, began = time.time(), time.perf_counter_ns()
        answer = await thread.client.fetch()
        seconds = (time.perf_counter_ns() - began) / 1e9
        good = is_ok(answer.code)
        thread.codes[answer.code] += 1
        thread.durations.record(seconds)
        thread.sizes.record(answer.size)
        thread.header_sizes.record(answer.header_size if good else 0)  # fortio reads no bad head
        if not good:
            thread.errors.record(seconds)
            self._report(number, answer)
        if self.stream:
            body = answer.body[:BODY_BYTES].decode("utf-8", "replace")
            self._pending.append(
                (
                    round(sent, 6),
                    round(seconds, 6),
                    answer.code,
                    body,
                    answer.instance,
                    answer.error,
                )
            )
        if self.flags["abort-on"] and answer.code == self.flags["abort-on"]:
            self._log("info", "Aborted run because of http code", code=answer.code)
            self.stop()

    async def _pace(self, thread: Thread, done: int, calls: int, rate: float, began: float) -> int:
        """Wait until the next call is due; return its number, higher where calls were skipped."""
        while True:
            # fortio stretches a timed run so that its last call falls on its end.
            stretch = done / (calls - 1) if self.duration and calls > 1 else 0
            wait = began + (done + stretch) / rate - time.perf_counter()
            if wait >= 0 or not self.flags["nocatchup"]:
                break
            done += 1
            if calls and done >= calls:
                return done
        if self.flags["jitter"] and wait > 0:
            wait *= 1 + self.dice.uniform(-0.1, 0.1)
        thread.sleeps.record(wait)
        await self._sleep(wait)
        return done

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return  # late already: send at once
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        self._sleepers.add(sleeper)
        timer = loop.call_later(seconds, _wake, sleeper)
        try:
            if not self.stopped.is_set():
                await sleeper
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)

    # what is told while it runs

    async def _stream(self) -> None:
        while True:
            await asyncio.sleep(STREAM_SECONDS)
            self._write_stream()

    def _write_stream(self) -> None:
        requests, self._pending = self._pending, []
        self._emit({"now": round(time.time(), 6), "requests": requests})

    def _emit(self, line: dict[str, Any]) -> None:
        if self.stream is None:
            return
        try:
            print(json.dumps(line, separators=(",", ":")), file=self.stream, flush=True)
        except BrokenPipeError:
            self.stream = None  # nobody reads any more
            self.stop()

    def _report(self, number: int, answer: Answer) -> None:
        facts = {"thread": number, "run": self.flags["runid"]}
        if answer.error:
            self._log("err", answer.error, **facts)
        elif self.flags["log-errors"]:
            status = f"HTTP/1.1 {answer.code}"
            self._log("warn", "Non ok http code", code=answer.code, status=status, **facts)

    def _log(self, level: str, message: str, **facts: object) -> None:
        weight = {"info": 2, "warn": 3, "err": 4}[level]
        if weight >= self.level:
            self._say(
                json.dumps(
                    {"ts": round(time.time(), 6), "level": level, "msg": message, **facts},
                    separators=(",", ":"),
                )
            )

    def _say(self, line: str) -> None:
        print(line, file=self.out, flush=True)

    def _headline(self) -> str:
        if self.exactly:
            extent = f"for {self.exactly} calls"
        else:
            extent = (
                f"for {format_duration(self.duration)}" if self.duration else "until interrupted"
            )
        cores = os.cpu_count() or 1
        return (
            f"Fortio {VERSION} running at {max(self.qps, 0):g} queries per second, "
            f"{cores}->1 procs, {extent}: {self.target.url}"
        )

    # the result

    def _merged(self, name: str) -> Histogram:
        parts: list[Histogram] = [getattr(thread, name) for thread in self.threads]
        whole = Histogram(parts[0].resolution, parts[0].offset)
        for part in parts:
            whole.merge(part)
        return whole

    def report(self) -> None:
        """Print fortio's text."""
        durations, errors = self._merged("durations"), self._merged("errors")
        wordy = self.level <= LEVELS["warning"]
        percentiles = self.flags["p"]
        if wordy:
            took = format_duration(self._elapsed)
            self._say(f"Ended after {took} : {durations.count} calls. qps={self._rate():.5g}")
            if self.qps > 0:
                self._report_sleeps()
            for line in durations.table("Aggregated Function Time", percentiles):
                self._say(line)
            for line in errors.table("Error cases", percentiles):
                self._say(line)
        else:
            self._say(durations.summary("Aggregated Function Time"))
            for line in durations.targets(percentiles):
                self._say(line)
            self._say(errors.summary("Error cases"))
        self._report_sockets(wordy=wordy)
        for code, count in sorted(self._codes().items()):
            self._say(f"Code {code:3d} : {count} ({100 * count / max(durations.count, 1):.1f} %)")
        if wordy:
            self._say(self._merged("header_sizes").summary("Response Header Sizes"))
            self._say(self._merged("sizes").summary("Response Body/Total Sizes"))
        warm_up = 0 if self.exactly else self.flags["c"]
        self._say(
            f"All done {durations.count} calls (plus {warm_up} warmup) "
            f"{1000 * durations.average:.3f} ms avg, {self._rate():.1f} qps"
        )

    def _report_sleeps(self) -> None:
        sleeps = self._merged("sleeps")
        if sleeps.behind_percent > LATE_PERCENT:
            for line in sleeps.table("Aggregated Sleep Time", [50]):
                self._say(line)
            self._say(f"WARNING {sleeps.behind_percent:.2f}% of sleep were falling behind")
        else:
            self._say(sleeps.summary("Sleep times"))

    def _report_sockets(self, *, wordy: bool) -> None:
        self._say("# Socket and IP used for each connection:")
        for number, thread in enumerate(self.threads):
            client = thread.client
            peers = (
                ", ".join(dict.fromkeys(client.peers)) or f"{self.target.host}:{self.target.port}"
            )
            timing = client.connect_times.summary(", connection timing")
            self._say(f"[{number}] {client.sockets:3d} socket used, resolved to {peers}{timing}")
        if wordy:
            for line in self._connect_times().table(
                "Connection time histogram (s)", self.flags["p"]
            ):
                self._say(line)
        used = sum(thread.client.sockets for thread in self.threads)
        self._say(f"Sockets used: {used} (for perfect keepalive, would be {len(self.threads)})")
        uniform, jitter = self.flags["uniform"], self.flags["jitter"]
        catch_up = not self.flags["nocatchup"]
        self._say(
            f"Uniform: {uniform}, Jitter: {jitter}, Catchup allowed: {catch_up}".replace(
                "True", "true"
            ).replace("False", "false")
        )
        self._say("IP addresses distribution:")
        for peer, count in self._peers().most_common():
            self._say(f"{peer}: {count}")

    def _connect_times(self) -> Histogram:
        whole = Histogram(0.001)
        for thread in self.threads:
            whole.merge(thread.client.connect_times)
        return whole

    def _codes(self) -> Counter[int]:
        return sum((thread.codes for thread in self.threads), Counter())

    def _peers(self) -> Counter[str]:
        return Counter(peer for thread in self.threads for peer in thread.client.peers)

    def _rate(self) -> float:
        return self._merged("durations").count / self._elapsed if self._elapsed else 0.0

    def _labels(self) -> str:
        given: str = self.flags["labels"]
        short = self.target.url.removeprefix("http://")
        return given or f"{short} , {socket.gethostname().partition('.')[0]}"

    def _identity(self) -> str:
        """Return the name of the saved result: time and labels, at most 96 characters."""
        letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in self._labels())
        while "__" in letters:
            letters = letters.replace("__", "_")
        run = f"_{self.flags['runid']}" if self.flags["runid"] else ""
        return f"{self.started_at:%Y-%m-%d-%H%M%S}{run}_{letters}"[:96]

    def result(self) -> dict[str, Any]:
        """Return fortio's JSON (`HTTPRunnerResults`), field by field."""
        flags = self.flags
        durations = self._merged("durations")
        requested = self._requested()
        if self.exactly and durations.count != self.exactly:
            requested += f", interrupted after {durations.count}"
        return {
            "RunType": "HTTP",
            "Labels": self._labels(),
            "StartTime": self.started_at.isoformat().replace("+00:00", "Z"),
            "RequestedQPS": f"{self.qps:.9g}" if self.qps > 0 else "max",
            "RequestedDuration": requested,
            "ActualQPS": self._rate(),
            "ActualDuration": round(self._elapsed * 1e9),
            "NumThreads": len(self.threads),
            "Version": VERSION,
            "DurationHistogram": durations.as_json(flags["p"]),
            "ErrorsDurationHistogram": self._merged("errors").as_json(flags["p"]),
            "Exactly": self.exactly,
            "Jitter": flags["jitter"],
            "Uniform": flags["uniform"],
            "NoCatchUp": flags["nocatchup"],
            "RunID": flags["runid"],
            "AccessLoggerInfo": "",
            "ID": self._identity(),
            "RetCodes": {str(code): count for code, count in sorted(self._codes().items())},
            "IPCountMap": dict(self._peers()),
            **self._options(),
            "Sizes": self._merged("sizes").as_json(),
            "HeaderSizes": self._merged("header_sizes").as_json(),
            "Sockets": [thread.client.sockets for thread in self.threads],
            "SocketCount": sum(thread.client.sockets for thread in self.threads),
            "ConnectionStats": self._connect_times().as_json(flags["p"]),
            "AbortOn": flags["abort-on"],
        }

    def _options(self) -> dict[str, Any]:
        """Return fortio's `HTTPOptions`; what we do not have is at its zero."""
        flags = self.flags
        return {
            "Insecure": False,
            "MTLS": False,
            "CACert": "",
            "Cert": "",
            "Key": "",
            "UnixDomainSocket": "",
            "URL": self.target.url,
            "NumConnections": 1,
            "Compression": False,
            "DisableFastClient": False,
            "HTTP10": False,
            "H2": False,
            "DisableKeepAlive": not flags["keepalive"],
            "AllowHalfClose": False,
            "FollowRedirects": False,
            "Resolve": flags["resolve"],
            "HTTPReqTimeOut": round(flags["timeout"] * 1e9),
            "UserCredentials": "",
            "ContentType": flags["content-type"],
            "Payload": "",
            "MethodOverride": flags["X"],
            "LogErrors": flags["log-errors"],
            "SequentialWarmup": False,
            "ConnReuseRange": list(flags["connection-reuse"]),
            "NoResolveEachConn": False,
            "Offset": round(flags["offset"] * 1e9),
            "Resolution": flags["r"],
        }

    def save(self) -> None:
        """Write the JSON where `-json` and `-a` say."""
        name = self.flags["json"]
        if not name and not self.flags["a"]:
            return
        text = json.dumps(self.result(), indent=2) + "\n"
        if name == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
            name = "stdout"
        else:
            name = name or str(Path(self.flags["data-dir"]) / f"{self._identity()}.json")
            Path(name).write_text(text)
        self._say(f"Successfully wrote {len(text)} bytes of Json data to {name}")

    def end_stream(self) -> None:
        """Write the last line of the stream: the whole result."""
        self._emit({"result": self.result()})


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)


async def _load(run: Run) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, run.stop)
    if run.flags["lease"]:
        lease.watch(lambda: loop.call_soon_threadsafe(run.stop))
    if not await run.run():
        return 1
    run.report()
    run.save()
    run.end_stream()
    return 0


async def _curl(url: str, flags: dict[str, Any]) -> int:
    target = Target.of(url, flags)
    client = Client(
        target.request, target.host, target.port, timeout=flags["timeout"], keep_body=16 * MIB
    )
    answer = await client.fetch()
    client.close()
    if answer.error:
        sys.stderr.write(answer.error + "\n")
        return 1
    if not flags["quiet"]:
        reason = f"HTTP/1.1 {answer.code}"
        lines = [
            f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in client.headers
        ]
        sys.stderr.write("\n".join([reason, *lines, "", ""]))
    sys.stdout.buffer.write(answer.body)
    sys.stdout.flush()
    return 0 if is_ok(answer.code) else 1


def _serve(arguments: Sequence[str]) -> int:
    flags, _ = parse(arguments, SERVER_FLAGS)
    port = flags["http-port"].rpartition(":")[2]
    serve(echo.handle, [int(port)])
    return 0


def _help() -> str:
    return (
        f"Φορτίο {VERSION} usage:\n\tfortio command [flags] target\n"
        "where command is one of: load (load testing), server (http echo), curl (single URL)\n"
        "example: fortio load -c 4 -qps 0 -n 20 http://buggygreen/api/color\nflags:\n"
        f"{usage(FLAGS)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of fortio's commands; return the exit status."""
    command, *rest = arguments if arguments is not None else sys.argv[1:] or ["help"]
    try:
        match command:
            case "server":
                return _serve(rest)
            case "load" | "curl":
                flags, urls = parse(rest, FLAGS)
                if len(urls) != 1:
                    raise UsageError(f"fortio {command} needs one url, after the flags; got {urls}")
                if command == "curl" or flags["curl"]:
                    return uvloop.run(_curl(urls[0], flags))
                stream = sys.stdout if flags["stream"] else None
                return uvloop.run(_start(urls[0], flags, stream))
            case "version":
                sys.stdout.write(VERSION + "\n")
                return 0
            case "help" | "-help" | "--help" | "-h":
                sys.stdout.write(_help() + "\n")
                return 0
            case _:
                raise UsageError(f"unknown command {command!r}; there are load, server and curl")
    except (UsageError, FlagError) as error:
        sys.stderr.write(f"{_help()}\nError: {error}" + "\n")
        return 1
    except BrokenPipeError:
        return 1


async def _start(url: str, flags: dict[str, Any], stream: TextIO | None) -> int:
    return await _load(Run(url, flags, out=sys.stderr, stream=stream))


if __name__ == "__main__":
    sys.exit(main())

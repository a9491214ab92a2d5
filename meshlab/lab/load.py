"""Load that runs beside the notebook: a process of its own, whose every request is known here.

The generator (`meshlab.apps.load`, fortio's flags) is a child in a new session, so that a cell's
interrupt does not end it, and under a lease, so that it is gone two seconds after its kernel. From
outside it dials the ingress gateway; from inside it runs in a pod, by `kubectl exec`.
"""

import atexit
import contextlib
import contextvars
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from meshlab.errors import MeshlabError
from meshlab.lab.share import ALPHA, Verdict, judge
from meshlab.observe.table import Table

KEPT = 200_000
"""Requests that are kept, the latest: a quarter of an hour at 200 a second."""
POLL_SECONDS = 0.1
STOP_SECONDS = 5.0
"""How long the generator may take to finish the requests under way."""
FAILED = "failed"
"""The name under which answers other than 2xx are counted."""


class Request(NamedTuple):
    """One request as the generator saw it."""

    sent: float
    """Unix time in seconds."""
    seconds: float
    status: int
    """-1: no answer came."""
    body: str
    """Its first 32 bytes, without the space around."""
    instance: str
    """The `x-instance` header: which pod answered."""
    error: str

    @property
    def good(self) -> bool:
        return 200 <= self.status <= 299

    @property
    def name(self) -> str:
        """What the request counts as: the body of a good answer, else `failed`."""
        return self.body if self.good else FAILED


class LoadError(MeshlabError):
    """The generator could not start, or ended with an error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some requests of a load, to be counted and judged. Shows itself as a table."""

    requests: Sequence[Request]
    note: str = ""

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def counts(self) -> Counter[str]:
        """How many requests got which answer: by body, `failed` for the others."""
        return Counter(request.name for request in self.requests)

    @property
    def codes(self) -> Counter[int]:
        return Counter(request.status for request in self.requests)

    @property
    def instances(self) -> Counter[str]:
        """How many requests each pod answered."""
        return Counter(request.instance for request in self.requests if request.instance)

    @property
    def failed(self) -> int:
        return self.counts[FAILED]

    def share(self, name: str | None = None) -> Any:
        """Return each answer's share (0 to 1), or that of one."""
        total = len(self.requests) or 1
        shares = {answer: count / total for answer, count in self.counts.most_common()}
        return shares if name is None else shares.get(name, 0.0)

    def judge(self, *, alpha: float = ALPHA, **expected: float) -> list[Verdict]:
        """Return a verdict for each answer that is named, against its exact binomial band."""
        counts = self.counts
        return [
            judge(name, counts[name], len(self.requests), share, alpha=alpha)
            for name, share in expected.items()
        ]

    def check_share(self, *, alpha: float = ALPHA, **expected: float) -> "Judged":
        """Compare shares with what they should be: `check_share(blue=0.2)`. Shows the band."""
        return Judged(self.judge(alpha=alpha, **expected), len(self.requests))

    def percentile(self, percent: float) -> float:
        """Return the seconds within which that part of the requests was answered."""
        times = sorted(request.seconds for request in self.requests)
        if not times:
            return 0.0
        return times[min(int(len(times) * percent / 100), len(times) - 1)]

    def table(self) -> Table:
        total = len(self.requests)
        rows = [[name, count, f"{count / total:.1%}"] for name, count in self.counts.most_common()]
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        times = f"p50 {self.percentile(50) * 1000:.1f} ms, p99 {self.percentile(99) * 1000:.1f} ms"
        notes = [f"{total} requests; status {codes or 'none'}; {times}", self.note]
        return Table(["answer", "requests", "share"], rows, note="\n".join(filter(None, notes)))

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        table = self.table()
        return {"text/plain": table.text(), "text/html": table.html()}


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts on shares. True when all of them passed."""

    verdicts: Sequence[Verdict]
    requests: int

    @property
    def passed(self) -> bool:
        return self.requests > 0 and all(verdict.passed for verdict in self.verdicts)

    def __bool__(self) -> bool:
        return self.passed

    def table(self) -> Table:
        rows = [
            [
                "✓" if verdict.passed else "✗",
                verdict.name,
                f"{verdict.count} of {verdict.of}",
                f"{verdict.share:.1%}",
                f"{verdict.expected:.1%}",
                f"{verdict.low} to {verdict.high}",
            ]
            for verdict in self.verdicts
        ]
        alpha = self.verdicts[0].alpha if self.verdicts else ALPHA
        return Table(
            ["", "answer", "counted", "share", "expected", "exact band"],
            rows,
            note=f"a correct split leaves the band once in {1 / alpha:,.0f} runs",
        )

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        table = self.table()
        return {"text/plain": table.text(), "text/html": table.html()}


class Load:
    """A running generator and what it has seen. Make it with `outside` or `inside`."""

    def __init__(self, command: Sequence[str], *, url: str, shown: str, key: str) -> None:
        """Start `command`, which streams NDJSON on stdout and keeps the lease on stdin.

        A load with the same `key` that still runs is replaced, so that a cell can be run twice;
        one that ends by itself has none ("").
        """
        self.url = url
        self.command = shown
        """The line that does the same from a terminal."""
        self.result: dict[str, Any] | None = None
        """fortio's JSON, once the load has ended."""
        self.sent = 0
        """All requests so far, those no longer kept included."""
        self.failed = 0
        self.on_end: list[Callable[[], None]] = []
        """Called once: by the cell that stops the load, or when it ends by itself."""
        self._changed = threading.Condition()
        self._requests: deque[Request] = deque(maxlen=KEPT)
        self._ended = False
        self._told_to_stop = False
        self._errors = b""
        _replace(key, self)
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        # From an empty context: ipykernel pins the output of a thread that inherits a cell's.
        empty = contextvars.Context()
        self._readers = [
            threading.Thread(
                target=empty.copy().run, args=(read,), name=f"load {read.__name__}", daemon=True
            )
            for read in (self._read, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()

    @classmethod
    def outside(cls, url: str, *, ingress: str, **options: Any) -> "Load":
        """Send requests through the ingress gateway at `ingress`, with the URL's own Host."""
        wait, flags = _flags(options)
        place = urlsplit(ingress)
        flags += ["-resolve", f"{place.hostname}:{place.port or 80}"]
        command = [
            sys.executable,
            "-m",
            "meshlab.apps.load",
            "load",
            "-stream",
            "-lease",
            *flags,
            url,
        ]
        shown = shlex.join(["meshlab", "load", *flags, url])
        load = cls(command, url=url, shown=shown, key="" if wait else f"outside {url}")
        return load._run(options) if wait else load

    @classmethod
    def inside(
        cls,
        url: str,
        *,
        kubeconfig: Path,
        namespace: str,
        pod: str,
        container: str | None = None,
        **options: Any,
    ) -> "Load":
        """Send requests from inside a pod that has fortio: through that pod's sidecar, if any."""
        wait, flags = _flags(options)
        where = ["-n", namespace, pod, *(["-c", container] if container else [])]
        command = [
            _kubectl(), "--kubeconfig", str(kubeconfig), "exec", "-i", *where,
            "--", "fortio", "load", "-stream", "-lease", *flags, url,
        ]  # fmt: skip
        shown = shlex.join(["kubectl", "exec", *where, "--", "fortio", "load", *flags, url])
        load = cls(command, url=url, shown=shown, key="" if wait else f"{namespace}/{pod} {url}")
        return load._run(options) if wait else load

    # what was seen

    @property
    def running(self) -> bool:
        return not self._ended

    def sample(self, *, since: float = 0.0, until: float = float("inf")) -> Sample:
        """Return the requests that were sent in that time (unix seconds)."""
        with self._changed:
            return Sample([r for r in self._requests if since <= r.sent < until], self.command)

    def latest(self, since: float) -> list[Request]:
        """Return the requests sent from `since` on, oldest first; looks from the new end."""
        found = []
        with self._changed:
            for request in reversed(self._requests):
                # They are kept in the order of their ends: all before this one ended earlier.
                if request.sent + request.seconds < since:
                    break
                if request.sent >= since:
                    found.append(request)
        found.reverse()
        return found

    def next(self, n: int, *, timeout: float = 60.0) -> Sample:
        """Wait for the next n requests and return them.

        Only requests sent from now on count. `mesh.apply` returns when every proxy has acknowledged
        the change, so what is counted after it was sent after the acknowledgement.

        Raises:
            LoadError: the load ended, or the time is over, before there were n.
        """
        since = time.time()
        deadline = time.monotonic() + timeout
        found: list[Request] = []
        with self._changed:
            while True:
                found = self.latest(since)
                if len(found) >= n:
                    break
                if self._ended or time.monotonic() > deadline:
                    raise LoadError(
                        f"only {len(found)} of {n} requests came",
                        object=f"load on {self.url}",
                        found=self._problem() or ("it has ended" if self._ended else "it is slow"),
                        fix="Start it again: run the cell that starts it.",
                    )
                self._changed.wait(POLL_SECONDS)  # short, so that an interrupt gets through
        found.sort(key=lambda request: request.sent)
        return Sample(found[:n])

    def share(self, name: str | None = None) -> Any:
        """Return each answer's share over all requests that are kept, or that of one."""
        return self.sample().share(name)

    def check_share(self, *, alpha: float = ALPHA, **expected: float) -> Judged:
        """Judge the shares of all requests that are kept; see `Sample.check_share`."""
        return self.sample().check_share(alpha=alpha, **expected)

    # its end

    def stop(self) -> Sample:
        """End after the requests under way; return everything that is kept."""
        self._told_to_stop = True
        if not self._ended:
            with contextlib.suppress(OSError):
                self._tell(b"stop\n")
            with self._changed:
                self._changed.wait_for(lambda: self._ended, STOP_SECONDS)
        if not self._ended:
            self._kill()
        self._tell_end()
        return self.sample()

    def wait(self, timeout: float | None = None) -> Sample:
        """Wait until it ends by itself; an interrupt stops it and returns what came."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with self._changed:
                while not self._ended and (deadline is None or time.monotonic() < deadline):
                    self._changed.wait(POLL_SECONDS)
        except KeyboardInterrupt:
            return self.stop()
        return self.sample()

    def _tell_end(self) -> None:
        """Tell who wants to know, once each."""
        while self.on_end:
            self.on_end.pop()()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, options: Mapping[str, Any]) -> "Load":
        self.wait()
        if self.result is None and not self._requests:
            raise LoadError(
                "the load generator ended without a result",
                object=f"load on {self.url}",
                found=self._problem(),
                fix=f"See what it says in a terminal: {self.command}",
            )
        return self

    def _tell(self, line: bytes) -> None:
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            stdin.write(line)
            stdin.flush()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(1)

    def _problem(self) -> str:
        """Return the last thing a generator that failed said."""
        if self.result is not None:
            return ""
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    # reading

    def _read(self) -> None:
        stdout = self._process.stdout
        try:
            for line in stdout or ():
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            self._errors += f"\nthe stream is broken: {error}".encode()
            self._process.kill()
        finally:
            self._process.wait()
            self._close(stdout, self._process.stdin)
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            # A cell that stops the load tells it itself: what a thread shows may be lost.
            if not self._told_to_stop:
                self._tell_end()

    def _take(self, line: dict[str, Any]) -> None:
        with self._changed:
            if "result" in line:
                self.result = line["result"]
            for fields in line.get("requests", ()):
                sent, seconds, status, body, instance, error = fields
                request = Request(sent, seconds, status, body.strip(), instance, error)
                self._requests.append(request)
                self.sent += 1
                self.failed += not request.good
            self._changed.notify_all()

    def _read_errors(self) -> None:
        stderr = self._process.stderr
        for line in stderr or ():
            self._errors = (self._errors + line)[-8192:]
        self._close(stderr)

    @staticmethod
    def _close(*pipes: IO[bytes] | None) -> None:
        for pipe in pipes:
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    # showing

    def table(self) -> Table:
        state = "running" if self.running else "ended"
        recent = self.latest(time.time() - 1)
        rate = f"{len(recent)}/s" if self.running else "-"
        return Table(
            ["load", "state", "requests", "failed", "rate"],
            [[self.url, state, self.sent, self.failed, rate]],
            note=f"$ {self.command}",
        )

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        table = self.table()
        return {"text/plain": table.text(), "text/html": table.html()}


_RUNNING: dict[str, Load] = {}


def _replace(key: str, load: Load) -> None:
    if not key:
        return
    before = _RUNNING.get(key)
    _RUNNING[key] = load
    if before is not None and before.running:
        before.stop()


def stop_all() -> int:
    """Stop every load of this process; return how many were running."""
    running = [load for load in _RUNNING.values() if load.running]
    for load in running:
        load.stop()
    _RUNNING.clear()
    return len(running)


atexit.register(stop_all)


def _flags(options: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Return whether the run ends by itself, and fortio's flags for our words."""
    known = {
        "qps", "connections", "requests", "seconds", "headers", "keepalive", "timeout", "seed",
        "method", "payload",
    }  # fmt: skip
    unknown = sorted(set(options) - known)
    if unknown:
        raise LoadError(f"no such option: {', '.join(unknown)}", allowed=", ".join(sorted(known)))
    requests, seconds = options.get("requests"), options.get("seconds")
    ends = bool(requests or seconds)
    # A counted run goes as fast as it can; one beside the notebook at a steady 50 a second.
    qps = options.get("qps", 0 if requests and not seconds else 50)
    flags = ["-qps", f"{qps:g}", "-c", str(options.get("connections", 4))]
    if requests:
        flags += ["-n", str(requests)]
    if not requests or seconds:
        flags += ["-t", f"{seconds:g}s" if seconds else "0"]
    for name, value in (options.get("headers") or {}).items():
        flags += ["-H", f"{name}: {value}"]
    if not options.get("keepalive", True):
        flags.append("-keepalive=false")
    if options.get("seed") is not None:
        flags += ["-seed", str(options["seed"])]
    for name, flag in (("method", "-X"), ("payload", "-payload")):
        if options.get(name):
            flags += [flag, str(options[name])]
    if options.get("timeout"):
        flags += ["-timeout", f"{options['timeout']:g}s"]
    return ends, [*flags, "-allow-initial-errors", "-quiet"]


def _kubectl() -> str:
    """Return kubectl: `make setup` puts it beside this Python where the PATH has none."""
    beside = Path(sys.executable).with_name("kubectl")
    places: Iterable[Path] = [beside, *(Path(p) / "kubectl" for p in os.get_exec_path())]
    for place in places:
        if os.access(place, os.X_OK):
            return str(place)
    raise LoadError("kubectl is not installed", fix="Run make setup.")

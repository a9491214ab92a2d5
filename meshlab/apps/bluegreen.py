"""The workshop's demo service: `GET /api/color` answers with a colour, or fails on purpose.

Keeps the contract of the images `xpiritbv/bluegreen:{blue,green,buggy}`: settings come from the
environment variables `color`, `buggy` and `buggy-status`. Ours on top of it:

- the header `x-instance` says which pod answered, `x-request-count` how many it has answered;
- `seed` makes the failures repeatable, `delay` (seconds) makes every answer late, `port` moves it;
- `/misbehave?percent=100&status=503&delay=0` and `/behave` change it while it runs;
- `/counter` tells how many requests came and how many of them failed.
"""

import json
import os
import random
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from meshlab.apps.server import Request, Response, run

BUGGY_PERCENT = 25
"""The original throws 1..100 and fails on multiples of four."""
BUGGY_STATUS = 502
PROBLEM_TYPES = {
    500: "https://tools.ietf.org/html/rfc7231#section-6.6.1",
    502: "https://tools.ietf.org/html/rfc7231#section-6.6.3",
    503: "https://tools.ietf.org/html/rfc7231#section-6.6.4",
    504: "https://tools.ietf.org/html/rfc7231#section-6.6.5",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an instance answers. `/misbehave` replaces it, `/behave` restores a healthy one."""

    color: str = "undefined"
    buggy: bool = False
    """As started: what `/health` reports. Misbehaviour that is switched on later does not show
    there, so that Kubernetes keeps the pod and the mesh has to deal with it."""
    fail_percent: float = 0.0
    status: int = BUGGY_STATUS
    delay: float = 0.0
    """Seconds before each answer."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the image's contract; a `buggy-status` that is no HTTP status means 502."""
        buggy = environment.get("buggy", "").lower() == "true"
        return cls(
            color=environment.get("color", "undefined"),
            buggy=buggy,
            fail_percent=BUGGY_PERCENT if buggy else 0,
            status=_status(environment.get("buggy-status", ""), BUGGY_STATUS),
            delay=_seconds(environment.get("delay", "")),
        )


class BlueGreen:
    """One instance: its settings, its dice and its counters."""

    def __init__(self, settings: Settings, *, instance: str, dice: random.Random) -> None:
        self.settings = settings
        self.instance = instance
        self.dice = dice
        self.requests = 0
        self.failed = 0

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        match request.path:
            case "/api/color":
                return self._color(request)
            case "/health":
                return self._health()
            case "/counter":
                return self._json({"requests": self.requests, "failed": self.failed})
            case "/misbehave":
                self.settings = self._misbehaving(request.query)
                return self._json(self._state())
            case "/behave":
                self.settings = replace(self.settings, fail_percent=0, delay=0)
                return self._json(self._state())
            case _:
                return Response(status=404, headers=self._headers())

    def _color(self, request: Request) -> Response:
        if request.method != "GET":
            return Response(status=405, headers=(("allow", "GET"), *self._headers()))
        self.requests += 1
        # One draw per request, failing or not, and no other: the n-th answer depends on the seed.
        if self.dice.random() * 100 < self.settings.fail_percent:
            self.failed += 1
            return self._problem()
        quoted = _wants_only_json(request.headers.get("accept", ""))
        return Response(
            content_type=f"{'application/json' if quoted else 'text/plain'}; charset=utf-8",
            headers=self._headers(),
            body=(json.dumps(self.settings.color) if quoted else self.settings.color).encode(),
            chunked=True,
            delay=self.settings.delay,
        )

    def _problem(self) -> Response:
        status = self.settings.status
        problem = {
            "type": PROBLEM_TYPES.get(status, "about:blank"),
            "title": HTTPStatus(status).phrase,
            "status": status,
            "traceId": f"|{uuid.uuid4().hex[:24]}.",
        }
        return Response(
            status=status,
            content_type="application/problem+json; charset=utf-8",
            headers=self._headers(),
            body=json.dumps(problem, separators=(",", ":")).encode(),
            chunked=True,
            delay=self.settings.delay,
        )

    def _health(self) -> Response:
        if self.settings.buggy:
            return Response(status=503, headers=self._headers(), body=b"Unhealthy")
        return Response(headers=self._headers(), body=b"Healthy")

    def _misbehaving(self, query: Mapping[str, str]) -> Settings:
        percent = _number(query.get("percent", ""), 100.0)
        return replace(
            self.settings,
            fail_percent=min(max(percent, 0.0), 100.0),
            status=_status(query.get("status", ""), HTTPStatus.SERVICE_UNAVAILABLE),
            delay=_seconds(query.get("delay", "")),
        )

    def _state(self) -> dict[str, object]:
        now = self.settings
        return {
            "instance": self.instance,
            "failPercent": now.fail_percent,
            "status": now.status,
            "delay": now.delay,
        }

    def _json(self, value: Mapping[str, object]) -> Response:
        body = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        return Response(content_type="application/json", headers=self._headers(), body=body)

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return (("x-instance", self.instance), ("x-request-count", str(self.requests)))


def _wants_only_json(accept: str) -> bool:
    # ASP.NET quotes the text for a client that takes JSON and nothing else.
    kinds = [part.partition(";")[0].strip() for part in accept.split(",") if part.strip()]
    return bool(kinds) and all(kind in {"application/json", "text/json"} for kind in kinds)


def _number(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default


def _seconds(text: str) -> float:
    return max(_number(text, 0.0), 0.0)


def _status(text: str, default: int) -> int:
    try:
        return int(HTTPStatus(int(text)))
    except ValueError:
        return int(default)


def main() -> None:
    """Serve on port 8080 (or `port`) until told to end."""
    environment = os.environ
    app = BlueGreen(
        Settings.from_environment(environment),
        instance=environment.get("HOSTNAME") or socket.gethostname(),
        dice=random.Random(environment.get("seed")),
    )
    run(app.handle, [int(environment.get("port", "8080"))])


if __name__ == "__main__":
    main()

"""fortio's echo server gives back what it gets.

`status`, `delay`, `size`, `close` and `header` in the query change that.
"""

import random

from meshlab.apps.duration import parse_duration
from meshlab.apps.server import Request, Response

MAX_DELAY = 1.5
"""`-max-echo-delay`: longer delays are cut to this, in seconds."""
MAX_SIZE = 256 * 1024


def handle(request: Request) -> Response:
    """Answer as fortio's echo handler does; `/fortio/…` and `/debug` are not served."""
    query = request.query
    headers = tuple(
        (name.strip(), value.strip())
        for name, colon, value in [query.get("header", "").partition(":")]
        if colon
    )
    size = query.get("size", "")
    body = b"x" * min(int(size), MAX_SIZE) if size.isdigit() else request.body
    return Response(
        status=_pick(query.get("status", "200")),
        content_type=request.headers.get("content-type", "text/plain; charset=utf-8"),
        headers=headers,
        body=body,
        close=query.get("close", "false") == "true",
        delay=min(_delay(query.get("delay", "")), MAX_DELAY),
    )


def _pick(spec: str) -> int:
    """Return the status of `503` or one drawn from `503:20,404:10` (percent; the rest is 200)."""
    draw = random.random() * 100
    for part in spec.split(","):
        status, _, percent = part.partition(":")
        if not status.isdigit() or not 200 <= int(status) <= 599:
            return 400
        if (draw := draw - float(percent or 100)) < 0:
            return int(status)
    return 200


def _delay(spec: str) -> float:
    try:
        return parse_duration(spec) if spec else 0.0
    except ValueError:
        return 0.0

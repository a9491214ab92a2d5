"""How long a request and each of its tries may take (Envoy's timeouts and their headers)."""

from meshlab.proxy.core.head import Headers


def milliseconds(value: bytes | None) -> float | None:
    """Return a header's whole milliseconds as seconds; None when it is none."""
    return int(value) / 1000 if value and len(value) < 16 and value.isdigit() else None


def timeouts(route: float, per_try: float, headers: Headers) -> tuple[float, float]:
    """Return (whole request, one try) in seconds, 0 for none; the request's headers come first."""
    names = headers.names
    if b"x-envoy-upstream-rq-timeout-ms" in names:
        asked = milliseconds(headers.get(b"x-envoy-upstream-rq-timeout-ms"))
        route = route if asked is None else asked
    if b"x-envoy-upstream-rq-per-try-timeout-ms" in names:
        asked = milliseconds(headers.get(b"x-envoy-upstream-rq-per-try-timeout-ms"))
        per_try = per_try if asked is None else asked
    if route and per_try >= route:
        per_try = 0.0
    return route, per_try

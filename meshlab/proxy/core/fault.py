"""Injected delays and aborts (Envoy `HTTPFault`)."""

from dataclasses import dataclass

from meshlab.proxy.core.matcher import ALWAYS, Fraction, HeaderMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The HTTP filter `envoy.filters.http.fault`, or what a route puts in its place."""

    delay: float | None = None
    """`fixed_delay` in seconds."""
    delay_share: Fraction = ALWAYS
    abort_status: int | None = None
    """`http_status` 200–599."""
    abort_grpc_status: int | None = None
    abort_share: Fraction = ALWAYS
    upstream_cluster: str = ""
    """Only requests for this cluster; "": all."""
    headers: tuple[HeaderMatch, ...] = ()
    """Only requests with these headers."""
    max_active_faults: int | None = None
    """None: no limit."""

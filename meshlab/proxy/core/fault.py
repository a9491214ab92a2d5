"""Injected delays and aborts (Envoy `HTTPFault`)."""

from dataclasses import dataclass

from meshlab.proxy.core.http1 import RequestHead
from meshlab.proxy.core.matcher import ALWAYS, Fraction, HeaderMatch
from meshlab.proxy.core.request_match import compile_headers


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


class CompiledFault:
    """A fault with its conditions compiled.

    Attributes:
        active: faults being injected now (the shell counts them).
    """

    __slots__ = ("_headers", "active", "config")

    def __init__(self, config: Fault) -> None:
        self.config = config
        self._headers = compile_headers(config.headers, field="fault.headers")
        self.active = 0

    def concerns(self, head: RequestHead, cluster: str) -> bool:
        config = self.config
        if config.upstream_cluster and config.upstream_cluster != cluster:
            return False
        if config.max_active_faults is not None and self.active >= config.max_active_faults:
            return False
        return self._headers is None or self._headers(head)

    def delay(self, draw: float) -> float:
        """Return the seconds to wait; 0.0 for none."""
        delay = self.config.delay
        return delay if delay and self.config.delay_share.hit(draw) else 0.0

    def abort(self, draw: float) -> int:
        """Return the status to answer with; 0 for none."""
        config = self.config
        if not config.abort_share.hit(draw):
            return 0
        if config.abort_grpc_status is not None:
            return 200
        return config.abort_status or 0

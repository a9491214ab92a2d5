"""Limits on what goes to one cluster at a time (Envoy `CircuitBreakers`)."""

from dataclasses import dataclass

from meshlab.proxy.core.stat import Gauge, StatRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The limits of one priority (`cluster.v3.CircuitBreakers.Thresholds`), Envoy's defaults."""

    max_connections: int = 1024
    max_pending_requests: int = 1024
    max_requests: int = 1024
    max_retries: int = 3
    retry_budget_percent: float | None = None
    """`retry_budget.budget_percent`: retries by requests under way, instead of `max_retries`."""
    min_retry_concurrency: int = 3
    """`retry_budget.min_retry_concurrency`."""
    track_remaining: bool = False


DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakers:
    """`cluster.v3.CircuitBreakers`."""

    default: Thresholds = DEFAULT_THRESHOLDS
    high: Thresholds = DEFAULT_THRESHOLDS
    per_host_max_connections: int | None = None
    """`per_host_thresholds[0].max_connections`."""


DEFAULT_BREAKERS = CircuitBreakers()


class Breaker:
    """How much of one limit is in use; open, it refuses (Envoy's word for the state, too)."""

    __slots__ = ("limit", "open_gauge", "remaining_gauge", "used")

    def __init__(self, limit: int, open_gauge: Gauge, remaining_gauge: Gauge | None = None) -> None:
        self.limit = limit
        self.used = 0
        self.open_gauge = open_gauge
        self.remaining_gauge = remaining_gauge
        self._show()

    @property
    def open(self) -> bool:
        return self.used >= self.limit

    def take(self) -> None:
        """Count one more; whoever must not exceed the limit asks `open` first."""
        self.used += 1
        if self.used >= self.limit or self.remaining_gauge is not None:
            self._show()

    def give(self) -> None:
        self.used -= 1
        if self.used + 1 >= self.limit or self.remaining_gauge is not None:
            self._show()

    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self._show()

    def _show(self) -> None:
        self.open_gauge.value = 1 if self.used >= self.limit else 0
        if self.remaining_gauge is not None:
            self.remaining_gauge.value = max(self.limit - self.used, 0)


class Breakers:
    """The four breakers of one priority of a cluster."""

    __slots__ = ("_budget", "_minimum", "connections", "pending", "requests", "retries")

    def __init__(self, thresholds: Thresholds, registry: StatRegistry, prefix: str) -> None:
        self.connections = _breaker("cx", thresholds.max_connections, registry, prefix, thresholds)
        self.pending = _breaker(
            "rq_pending", thresholds.max_pending_requests, registry, prefix, thresholds
        )
        self.requests = _breaker("rq", thresholds.max_requests, registry, prefix, thresholds)
        self.retries = _breaker("rq_retry", thresholds.max_retries, registry, prefix, thresholds)
        self._budget = thresholds.retry_budget_percent
        self._minimum = thresholds.min_retry_concurrency

    def configure(self, thresholds: Thresholds) -> None:
        """Put new limits in force; what is in use stays counted."""
        self.connections.set_limit(thresholds.max_connections)
        self.pending.set_limit(thresholds.max_pending_requests)
        self.requests.set_limit(thresholds.max_requests)
        self.retries.set_limit(thresholds.max_retries)
        self._budget = thresholds.retry_budget_percent
        self._minimum = thresholds.min_retry_concurrency

    def may_retry(self) -> bool:
        if self._budget is None:
            return not self.retries.open
        active = self.requests.used + self.pending.used
        return self.retries.used < max(self._budget / 100 * active, self._minimum)


def _breaker(
    name: str, limit: int, registry: StatRegistry, prefix: str, thresholds: Thresholds
) -> Breaker:
    remaining = (
        registry.gauge(f"{prefix}remaining_{name.replace('rq_retry', 'retries')}")
        if thresholds.track_remaining
        else None
    )
    return Breaker(limit, registry.gauge(f"{prefix}{name}_open"), remaining)

"""Limits on what goes to one cluster at a time (Envoy `CircuitBreakers`)."""

from dataclasses import dataclass


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

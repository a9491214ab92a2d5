"""When a request is sent again, where, and after how long (Envoy `RetryPolicy`)."""

from dataclasses import dataclass

from meshlab.proxy.core.matcher import HeaderMatch

CONDITIONS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
"""All of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When and how often a request is sent again (`route.v3.RetryPolicy`)."""

    retry_on: frozenset[str] = frozenset()
    """A subset of `CONDITIONS`."""
    num_retries: int = 1
    """Tries after the first."""
    per_try_timeout: float = 0.0
    """Seconds; 0: the route's timeout."""
    per_try_idle_timeout: float = 0.0
    """Seconds; 0: none."""
    retriable_status_codes: frozenset[int] = frozenset()
    retriable_headers: tuple[HeaderMatch, ...] = ()
    """Of the response."""
    retriable_request_headers: tuple[HeaderMatch, ...] = ()
    """Of the request; none: every request may be retried."""
    previous_hosts: bool = False
    """The host predicate `envoy.retry_host_predicates.previous_hosts`: not where it failed."""
    host_selection_attempts: int = 1
    """`host_selection_retry_max_attempts`: picks before a rejected host is taken after all."""
    base_interval: float = 0.025
    """Seconds."""
    max_interval: float = 0.25
    """Seconds; Envoy's default is ten base intervals."""

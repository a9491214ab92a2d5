"""When a request is sent again, where, and after how long (Envoy `RetryPolicy`)."""

from dataclasses import dataclass, replace
from enum import Enum

from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import RequestHead
from meshlab.proxy.core.matcher import HeaderMatch, compile_header
from meshlab.proxy.core.request_match import compile_headers

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

    def backoff(self, retry: int, draw: float) -> float:
        """Return the seconds before retry 1, 2, …; `draw` from [0, 1) spreads the clients out."""
        return draw * min(self.base_interval * ((1 << min(retry, 30)) - 1), self.max_interval)


class Reset(Enum):
    """Why a try ended without a response; the values are Envoy's words in logs and bodies."""

    CONNECT_FAILURE = "remote connection failure"
    LOCAL_CONNECT_FAILURE = "local connection failure"
    CONNECT_TIMEOUT = "connection timeout"
    TERMINATION = "connection termination"
    OVERFLOW = "overflow"
    PROTOCOL_ERROR = "protocol error"
    REMOTE_RESET = "remote reset"
    PER_TRY_TIMEOUT = "per try timeout"


CONNECT_FAILURES = frozenset(
    {Reset.CONNECT_FAILURE, Reset.LOCAL_CONNECT_FAILURE, Reset.CONNECT_TIMEOUT}
)
GATEWAY_ERRORS = frozenset({502, 503, 504})
GRPC_CONDITIONS = {
    b"1": "cancelled",
    b"4": "deadline-exceeded",
    b"8": "resource-exhausted",
    b"13": "internal",
    b"14": "unavailable",
}


class Retry:
    """A retry policy with its matchers compiled: decides, and neither waits nor counts."""

    __slots__ = ("_on", "_request", "_response", "policy")

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self._on = policy.retry_on
        self._request = compile_headers(
            policy.retriable_request_headers, field="retry_policy.retriable_request_headers"
        )
        self._response = [
            (
                match.name,
                compile_header(match, field=f"retry_policy.retriable_headers[{place}]"),
            )
            for place, match in enumerate(policy.retriable_headers)
        ]

    def concerns(self, head: RequestHead) -> bool:
        """Tell whether the request may be retried at all (`retriable_request_headers`, any)."""
        return self._request is None or self._request(head)

    def after_reset(self, reset: Reset, *, request_sent: bool) -> bool:
        """Tell whether a try that ended without a response is worth another one."""
        if reset is Reset.OVERFLOW:
            return False
        on = self._on
        if reset in CONNECT_FAILURES and "connect-failure" in on:
            return True
        if "reset" in on or "5xx" in on or "gateway-error" in on:
            return True
        return "reset-before-request" in on and not request_sent

    def after_response(self, status: int, headers: Headers) -> bool:
        """Tell whether a response, known by its head, is worth another try."""
        on = self._on
        if status < 400 and not ("retriable-headers" in on or b"grpc-status" in headers.names):
            return status in self.policy.retriable_status_codes and "retriable-status-codes" in on
        if b"x-envoy-overloaded" in headers.names:
            return False
        if b"x-envoy-ratelimited" in headers.names:
            return "envoy-ratelimited" in on
        if status >= 500 and "5xx" in on:
            return True
        if status in GATEWAY_ERRORS and "gateway-error" in on:
            return True
        if status == 409 and "retriable-4xx" in on:
            return True
        if "retriable-status-codes" in on and status in self.policy.retriable_status_codes:
            return True
        if "retriable-headers" in on and any(
            test(headers.all(name)) for name, test in self._response
        ):
            return True
        return GRPC_CONDITIONS.get(headers.get(b"grpc-status") or b"", "-") in on


def with_request_headers(policy: RetryPolicy | None, headers: Headers) -> RetryPolicy | None:
    """Return the policy after what the request itself asks for (`x-envoy-retry-on` and so on)."""
    asked = frozenset(
        condition
        for name in (b"x-envoy-retry-on", b"x-envoy-retry-grpc-on")
        for part in (headers.get(name) or b"").decode("latin-1").split(",")
        if (condition := part.strip()) in CONDITIONS
    )
    codes = frozenset(
        int(part)
        for part in (headers.get(b"x-envoy-retriable-status-codes") or b"").split(b",")
        if part.strip().isdigit()
    )
    most = headers.get(b"x-envoy-max-retries") or b""
    if not asked and not codes and not most.isdigit():
        return policy
    base = policy or RetryPolicy()
    return replace(
        base,
        retry_on=base.retry_on | asked,
        retriable_status_codes=base.retriable_status_codes | codes,
        num_retries=int(most) if most.isdigit() else base.num_retries,
    )

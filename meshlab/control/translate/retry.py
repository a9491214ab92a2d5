"""VirtualService `retries` → Envoy's retry policy."""

from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2

from meshlab.api.istio.virtual_service import HTTPRetry
from meshlab.control.translate.protobuf import duration, pack, uint32

DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""Failures where the server cannot have done anything; no status code is listed by default."""
DEFAULT = HTTPRetry(attempts=2)

_Policy = route_components_pb2.RetryPolicy


def retry_policy(retries: HTTPRetry | None) -> Any | None:
    """Return the policy of a route; None: no retries, asked for by `attempts: 0`."""
    retries = DEFAULT if retries is None else retries
    if retries.attempts <= 0:
        return None
    conditions, codes = parse_retry_on(retries.retry_on or DEFAULT_RETRY_ON)
    made = _Policy(
        retry_on=",".join(conditions),
        num_retries=uint32(retries.attempts),
        retriable_status_codes=codes,
    )
    if retries.retry_ignore_previous_hosts is not False:
        made.retry_host_predicate.append(_previous_hosts())
        made.host_selection_retry_max_attempts = 5
    if retries.per_try_timeout is not None:
        made.per_try_timeout.CopyFrom(duration(retries.per_try_timeout))
    if retries.backoff is not None:
        made.retry_back_off.base_interval.CopyFrom(duration(retries.backoff))
    return made


def parse_retry_on(text: str) -> tuple[list[str], list[int]]:
    """Split conditions from status codes; codes bring the condition that makes them count."""
    conditions, codes = [], []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part.isdigit():
            codes.append(int(part))
        else:
            conditions.append(part)
    if codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")
    return conditions, codes


def inbound_policy() -> Any:
    """Return the policy towards the app: only when the request cannot have reached it.

    It closes the race in which the app ends an idle connection just as it is used again.
    """
    return _Policy(retry_on="reset-before-request", num_retries=uint32(2))


def _previous_hosts() -> Any:
    return _Policy.RetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=pack(previous_hosts_pb2.PreviousHostsPredicate()),
    )

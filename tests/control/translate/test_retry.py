"""VirtualService `retries` → Envoy's retry policy."""

from typing import Any

import pytest
from fixtures.xds import parsed, plain

from meshlab.api.istio.virtual_service import HTTPRetry
from meshlab.control.translate.retry import parse_retry_on, retry_policy

PREVIOUS_HOSTS = r"""
retry_host_predicate:
- name: envoy.retry_host_predicates.previous_hosts
  typed_config:
    "@type": "type.googleapis.com/\
      envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
host_selection_retry_max_attempts: "5"
"""
DEFAULT_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"


@pytest.mark.parametrize(
    ("retries", "policy"),
    [
        pytest.param(None, {"retry_on": DEFAULT_ON, "num_retries": 2}, id="default"),
        pytest.param(
            HTTPRetry(attempts=40, per_try_timeout=1.0, retry_on="gateway-error"),
            {"retry_on": "gateway-error", "num_retries": 40, "per_try_timeout": "1s"},
            id="the talk's",
        ),
        pytest.param(
            HTTPRetry(attempts=1, retry_on="503, reset", backoff=0.01),
            {
                "retry_on": "reset,retriable-status-codes",
                "num_retries": 1,
                "retriable_status_codes": [503],
                "retry_back_off": {"base_interval": "0.010s"},
            },
            id="status codes bring their condition",
        ),
    ],
)
def test_retry_policy(retries: HTTPRetry | None, policy: dict[str, Any]) -> None:
    assert plain(retry_policy(retries)) == policy | parsed(PREVIOUS_HOSTS)


def test_previous_hosts_may_be_retried() -> None:
    made = retry_policy(HTTPRetry(attempts=3, retry_ignore_previous_hosts=False))
    assert plain(made) == {"retry_on": DEFAULT_ON, "num_retries": 3}


def test_no_attempts_is_no_policy() -> None:
    assert retry_policy(HTTPRetry()) is None


def test_parse_retry_on() -> None:
    assert parse_retry_on("5xx,,retriable-status-codes,409 , 418") == (
        ["5xx", "retriable-status-codes"],
        [409, 418],
    )

import pytest

from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import parse_request
from meshlab.proxy.core.matcher import HeaderMatch, StringMatch
from meshlab.proxy.core.retry import Reset, Retry, RetryPolicy, with_request_headers


def retry(*conditions, **settings):
    return Retry(RetryPolicy(retry_on=frozenset(conditions), **settings))


@pytest.mark.parametrize(
    ("conditions", "status", "again"),
    [
        ("5xx", 500, True),
        ("5xx", 503, True),
        ("5xx", 404, False),
        ("gateway-error", 502, True),
        ("gateway-error", 503, True),
        ("gateway-error", 504, True),
        ("gateway-error", 500, False),
        ("retriable-4xx", 409, True),
        ("retriable-4xx", 404, False),
        ("connect-failure", 503, False),
        ("reset", 503, False),
        ("retriable-status-codes", 418, True),
        ("retriable-status-codes", 204, True),
        ("retriable-status-codes", 500, False),
        ("5xx", 418, False),
    ],
)
def test_after_response(conditions, status, again):
    policy = retry(conditions, retriable_status_codes=frozenset({418, 204}))
    assert policy.after_response(status, Headers([], [])) is again


@pytest.mark.parametrize(
    ("condition", "headers", "again"),
    [
        ("5xx", {b"x-envoy-overloaded": b"true"}, False),
        ("5xx", {b"x-envoy-ratelimited": b"true"}, False),
        ("envoy-ratelimited", {b"x-envoy-ratelimited": b"true"}, True),
        ("retriable-headers", {b"x-again": b"yes"}, True),
        ("retriable-headers", {b"x-again": b"no"}, False),
        ("5xx", {b"x-again": b"no"}, True),
        ("unavailable", {b"grpc-status": b"14"}, True),
        ("cancelled", {b"grpc-status": b"14"}, False),
    ],
)
def test_headers_of_the_response(condition, headers, again):
    matches = (HeaderMatch(name=b"x-again", value=StringMatch(kind="exact", value=b"yes")),)
    policy = retry(condition, retriable_headers=matches)
    assert policy.after_response(503, Headers.of(*headers.items())) is again


@pytest.mark.parametrize(
    ("condition", "reset", "sent", "again"),
    [
        ("connect-failure", Reset.CONNECT_FAILURE, False, True),
        ("connect-failure", Reset.CONNECT_TIMEOUT, False, True),
        ("connect-failure", Reset.TERMINATION, True, False),
        ("reset", Reset.TERMINATION, True, True),
        ("reset", Reset.CONNECT_FAILURE, False, True),
        ("5xx", Reset.TERMINATION, True, True),
        ("5xx", Reset.PER_TRY_TIMEOUT, True, True),
        ("gateway-error", Reset.TERMINATION, True, True),
        ("retriable-4xx", Reset.TERMINATION, True, False),
        ("reset-before-request", Reset.TERMINATION, False, True),
        ("reset-before-request", Reset.TERMINATION, True, False),
        ("5xx", Reset.OVERFLOW, False, False),
        ("connect-failure", Reset.OVERFLOW, False, False),
    ],
)
def test_after_reset(condition, reset, sent, again):
    assert retry(condition).after_reset(reset, request_sent=sent) is again


@pytest.mark.parametrize(
    ("number", "draw", "seconds"),
    [(1, 1.0, 0.025), (2, 1.0, 0.075), (3, 0.5, 0.0875), (9, 1.0, 0.25), (2, 0.0, 0.0)],
)
def test_backoff(number, draw, seconds):
    assert RetryPolicy().backoff(number, draw) == pytest.approx(seconds)


def test_only_requests_with_the_header():
    policy = retry("5xx", retriable_request_headers=(HeaderMatch(name=b"x-safe"),))
    assert policy.concerns(parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nx-safe: 1"))
    assert not policy.concerns(parse_request(b"GET / HTTP/1.1\r\nHost: a"))


def test_what_the_request_asks_for():
    asked = with_request_headers(
        RetryPolicy(retry_on=frozenset({"reset"})),
        Headers.of((b"x-envoy-retry-on", b"5xx, nonsense"), (b"x-envoy-max-retries", b"7")),
    )
    assert asked == RetryPolicy(retry_on=frozenset({"reset", "5xx"}), num_retries=7)
    assert with_request_headers(None, Headers([], [])) is None

import pytest

from meshlab.proxy.core.circuit_breaker import Breakers, Thresholds
from meshlab.proxy.core.stat import StatRegistry


def test_open_at_the_limit():
    registry = StatRegistry()
    breakers = Breakers(Thresholds(max_connections=2, track_remaining=True), registry, "p.")
    seen = []
    for step in ("take", "take", "give"):
        getattr(breakers.connections, step)()
        seen.append(
            (
                breakers.connections.open,
                registry.gauge("p.cx_open").value,
                registry.gauge("p.remaining_cx").value,
            )
        )
    assert seen == [(False, 0, 1), (True, 1, 0), (False, 0, 1)]


def test_new_limits_keep_the_count():
    breakers = Breakers(Thresholds(), StatRegistry(), "p.")
    breakers.requests.take()
    breakers.configure(Thresholds(max_requests=1))
    assert breakers.requests.open


@pytest.mark.parametrize(
    ("active", "retries", "allowed"),
    [(0, 2, True), (0, 3, False), (100, 19, True), (100, 20, False)],
)
def test_retry_budget(active, retries, allowed):
    thresholds = Thresholds(retry_budget_percent=20.0, min_retry_concurrency=3)
    breakers = Breakers(thresholds, StatRegistry(), "p.")
    for _ in range(active):
        breakers.requests.take()
    for _ in range(retries):
        breakers.retries.take()
    assert breakers.may_retry() is allowed

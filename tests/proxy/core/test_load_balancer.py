import random
from collections import Counter

import pytest

from meshlab.proxy.core.cluster import Cluster, Endpoint, Locality, LocalityEndpoints
from meshlab.proxy.core.listener import Address
from meshlab.proxy.core.load_balancer.base import priority_loads
from meshlab.proxy.core.load_balancer.policy import balancer


def group(*names, weights=None, health=None, **settings):
    return LocalityEndpoints(
        endpoints=tuple(
            Endpoint(
                address=Address(name),
                weight=(weights or {}).get(name, 1),
                health=(health or {}).get(name, "unknown"),
            )
            for name in names
        ),
        **settings,
    )


def picks(groups, count=1000, busy=None, seed=1, **settings):
    """Return how often each host was chosen."""
    dice = random.Random(seed).random
    chooser = balancer(Cluster(name="c", **settings))
    chooser.set_hosts(groups, 140, dice)
    for host in chooser.hosts:
        host.stats.rq_active = (busy or {}).get(host.endpoint.address.host, 0)
    found = (chooser.choose(dice) for _ in range(count))
    return Counter(host.endpoint.address.host if host else None for host in found)


def test_round_robin():
    assert picks([group("a", "b", "c")], 9) == {"a": 3, "b": 3, "c": 3}


def test_round_robin_with_weights():
    assert picks([group("a", "b", weights={"a": 3})], 400) == {"a": 300, "b": 100}


def test_random():
    found = picks([group("a", "b")], 1000, lb_policy="random")
    assert 450 < found["a"] < 550


def test_least_request_prefers_the_idle():
    found = picks([group("a", "b", "c")], 900, lb_policy="least_request", busy={"a": 5})
    assert found["a"] == pytest.approx(100, abs=40)  # both draws fell on it: one in nine


def test_least_request_with_weights_and_load():
    found = picks(
        [group("a", "b", weights={"a": 2})], 400, lb_policy="least_request", busy={"a": 3}
    )
    assert found["b"] == pytest.approx(400 * 2 / 3, abs=10)


SICK = {"a": "unhealthy"}


@pytest.mark.parametrize(
    ("names", "health", "panic", "hosts"),
    [
        pytest.param("ab", SICK, 50.0, {"b"}, id="half healthy is no panic"),
        pytest.param("abc", {"a": "unhealthy", "b": "draining"}, 50.0, set("abc"), id="panic"),
        pytest.param("abc", {"a": "unhealthy", "b": "timeout"}, 0.0, {"c"}, id="never panic"),
        pytest.param("a", SICK, 0.0, {None}, id="nobody left"),
        pytest.param("", {}, 50.0, {None}, id="no hosts"),
    ],
)
def test_health_and_panic(names, health, panic, hosts):
    found = picks([group(*names, health=health)], 50, healthy_panic_percent=panic)
    assert set(found) == hosts


def test_lower_priority_takes_over():
    sick = dict.fromkeys("abcd", "unhealthy")
    near = group("a", "b", "c", "d", "e", health=sick)  # 20 % healthy, so 28 % of the load
    far = group("x", priority=1)
    found = picks([near, far], 2000, healthy_panic_percent=0.0)
    assert set(found) == {"e", "x"}
    assert found["e"] == pytest.approx(560, abs=80)


@pytest.mark.parametrize(
    ("shares", "loads"),
    [([100, 100], [100, 0]), ([72, 100], [100, 0]), ([50, 100], [70, 30]), ([0, 100], [0, 100])],
)
def test_priority_loads(shares, loads):
    assert priority_loads(shares, 140) == pytest.approx(loads, abs=1)


def test_locality_weights():
    groups = [
        group("a", locality=Locality("r", "1"), weight=1),
        group("b", locality=Locality("r", "2"), weight=3),
    ]
    found = picks(groups, 1000, locality_weighted=True)
    assert found["b"] == pytest.approx(750, abs=50)


def test_hosts_stay_when_the_assignment_changes():
    dice = random.Random(1).random
    chooser = balancer(Cluster(name="c"))
    added, removed = chooser.set_hosts([group("a", "b")], 140, dice)
    assert ([str(h.endpoint.address.host) for h in added], removed) == (["a", "b"], [])
    before = {host.endpoint.address.host: host for host in chooser.hosts}
    added, removed = chooser.set_hosts([group("b", "c")], 140, dice)
    assert [host.endpoint.address.host for host in added] == ["c"]
    assert removed == [before["a"]]
    assert chooser.hosts[0] is before["b"]

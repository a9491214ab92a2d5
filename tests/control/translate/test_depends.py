"""What `touched` leaves out really stays the same."""

from dataclasses import replace
from typing import Any

import pytest
from fixtures.world import EVERYTHING, router, sidecar, world

from meshlab.control.snapshot import World
from meshlab.control.translate.depends import touched
from meshlab.control.translate.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, resources


def data(snapshot: World) -> dict[str, Any]:
    proxies = [sidecar(snapshot, "reviews"), router(snapshot, "istio-ingressgateway")]
    made: dict[str, Any] = {}
    for proxy in proxies:
        for type_url, by_name in resources(snapshot, proxy).items():
            made.setdefault(type_url, []).append({n: each.data for n, each in by_name.items()})
    return made


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("VirtualService", {ROUTE}),
        ("DestinationRule", {CLUSTER, ENDPOINT}),
        ("Gateway", {LISTENER, ROUTE}),
        ("PeerAuthentication", {CLUSTER, ENDPOINT, LISTENER}),
        ("Endpoint", {CLUSTER, ENDPOINT, LISTENER}),
        ("Workload", {CLUSTER, LISTENER}),
        ("Namespace", set()),
    ],
)
def test_touched(kind: str, types: set[str]) -> None:
    assert touched([kind]) == types
    before = world(EVERYTHING, DISABLED, sidecars=True)
    after = without(before, kind)
    one, other = data(before), data(after)
    differing = {type_url for type_url in one if one[type_url] != other[type_url]}
    assert differing <= types
    assert bool(differing) == bool(types)


DISABLED = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: DISABLE}}
"""


def without(snapshot: World, kind: str) -> World:
    """Return the world after everything of a kind is gone; its proxies stay."""
    if kind == "Endpoint":
        return replace(snapshot, endpoints={})
    if kind == "Workload":
        bare = {ip: replace(pod, container_ports={}) for ip, pod in snapshot.workloads.items()}
        return replace(snapshot, workloads=bare)
    if kind == "Namespace":
        return replace(snapshot, namespaces={"new": {}})
    return replace(snapshot, configs={**snapshot.configs, kind: ()})


def test_unknown_kinds_touch_everything() -> None:
    assert touched(["Unheard"]) == {CLUSTER, ENDPOINT, LISTENER, ROUTE}
    assert touched([]) == frozenset()

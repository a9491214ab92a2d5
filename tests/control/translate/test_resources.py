"""Whole configurations: manifests in, every xDS resource out.

The expected resources stand in `expected/`, read and agreed with when they were written. After a
wanted change, run with MESHLAB_WRITE_EXPECTED=1 and read the diff. Access logs are off there, to
keep them readable; test_access_log has them.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.world import router, sidecar, world
from fixtures.xds import plain

from meshlab.control.snapshot import Mesh, Proxy, World
from meshlab.control.translate.resources import ENDPOINT, TYPES, resources

EXPECTED = Path(__file__).with_name("expected")
WORKSHOP = Path(__file__).parents[3] / "labs" / "manifests" / "workshop"
QUIET = Mesh(access_log_file="", access_log_service=False)
OURS = ("istio.stats", "istio.alpn", "istio.metadata_exchange", "envoy.filters.http.fault")

GATEWAY = """
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80}]}
---
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  template:
    metadata: {labels: {istio: ingressgateway}}
    spec: {containers: [{name: istio-proxy}]}
"""


def of(snapshot: World, proxy: Proxy) -> dict[str, dict[str, Any]]:
    """Return short type → name → resource."""
    return {
        type_url.rpartition(".")[2]: {name: plain(each.message) for name, each in made.items()}
        for type_url, made in resources(snapshot, proxy).items()
    }


def compare(name: str, made: dict[str, Any]) -> None:
    path = EXPECTED / f"{name}.yaml"
    if os.environ.get("MESHLAB_WRITE_EXPECTED"):
        path.write_text(yaml.safe_dump(made, sort_keys=False, width=100))
    assert made == yaml.safe_load(path.read_text())


def test_talk_gateway() -> None:
    snapshot = world(
        GATEWAY,
        WORKSHOP / "lab09" / "01-green.yaml",
        WORKSHOP / "lab09" / "02-blue.yaml",
        WORKSHOP / "lab10" / "02-TrafficShift.yaml",
        sidecars=True,
        mesh=QUIET,
    )
    proxy = router(snapshot, "istio-ingressgateway", extensions=OURS)
    compare("talk_gateway", of(snapshot, proxy))


def test_talk_sidecar() -> None:
    snapshot = world(WORKSHOP / "lab09" / "02-blue.yaml", sidecars=True, mesh=QUIET)
    compare("talk_sidecar", of(snapshot, sidecar(snapshot, "blue", extensions=OURS)))


def test_canary_by_subset_and_header() -> None:
    snapshot = world(
        GATEWAY,
        WORKSHOP / "lab09" / "01-green.yaml",
        WORKSHOP / "lab09" / "02-blue.yaml",
        WORKSHOP / "lab10" / "04-Canary.yaml",
        sidecars=True,
        mesh=QUIET,
    )
    made = of(snapshot, router(snapshot, "istio-ingressgateway"))
    compare("canary_routes", made["RouteConfiguration"])
    behind = {
        name: [
            each["endpoint"]["address"]["socket_address"]["address"]
            for group in assignment.get("endpoints", ())
            for each in group["lb_endpoints"]
        ]
        for name, assignment in made["ClusterLoadAssignment"].items()
        if "bluegreen.bluegreen" in name
    }
    green, blue = ([f"10.244.0.{n}" for n in range(start, start + 3)] for start in (11, 14))
    assert behind == {
        "outbound|80||bluegreen.bluegreen.svc.cluster.local": green + blue,
        "outbound|80|v1|bluegreen.bluegreen.svc.cluster.local": green,
        "outbound|80|v2|bluegreen.bluegreen.svc.cluster.local": blue,
    }


def test_circuit_breaker_of_a_client_without_a_sidecar() -> None:
    snapshot = world(WORKSHOP / "lab11" / "01-CircuitBreaker.yaml", sidecars=True, mesh=QUIET)
    made = of(snapshot, sidecar(snapshot, "blue", extensions=OURS))
    name = "outbound|80||blue.blue.svc.cluster.local"
    compare(
        "circuit_breaker",
        {each: made["Cluster"][each] for each in ("inbound|8080||", name)},
    )


@pytest.mark.parametrize("steps", [["02-NoRetry"], ["02-NoRetry", "04-Retry"]], ids="-".join)
def test_retry(steps: list[str]) -> None:
    manifests = [WORKSHOP / "lab11" / f"{step}.yaml" for step in steps]
    snapshot = world(*manifests, sidecars=True, mesh=QUIET)
    made = of(snapshot, sidecar(snapshot, "green", extensions=OURS))
    compare(f"routes_{steps[-1]}", made["RouteConfiguration"])


def test_without_a_gateway_there_is_no_listener() -> None:
    snapshot = world(GATEWAY)
    made = resources(snapshot, router(snapshot, "istio-ingressgateway"))
    assert {type_url: list(by_name) for type_url, by_name in made.items()} == {
        TYPES[0]: [
            "outbound|80||istio-ingressgateway.istio-system.svc.cluster.local",
            "BlackHoleCluster",
        ],
        TYPES[1]: ["outbound|80||istio-ingressgateway.istio-system.svc.cluster.local"],
        TYPES[2]: [],
        TYPES[3]: [],
    }


def test_only_the_asked_types() -> None:
    snapshot = world(GATEWAY)
    proxy = router(snapshot, "istio-ingressgateway")
    assert list(resources(snapshot, proxy, types=[ENDPOINT])) == [ENDPOINT]

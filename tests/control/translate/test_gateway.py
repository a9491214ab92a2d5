"""Listeners and routes of a gateway: merging, hosts, namespaces, ports."""

from typing import Any

import pytest
from fixtures.world import router, world
from fixtures.xds import plain

from meshlab.control.translate.resources import LISTENER, ROUTE, resources

POD = """
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 80}, {name: high, port: 81, targetPort: 8081}]
---
kind: Deployment
metadata: {name: gw, namespace: istio-system}
spec:
  template:
    metadata: {labels: {istio: ingressgateway}}
    spec: {containers: [{name: istio-proxy}]}
"""
SELECTOR = "selector: {istio: ingressgateway}"


def gateway(
    name: str, hosts: str, *, namespace: str = "shop", port: int = 80, extra: str = SELECTOR
) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {extra}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: {hosts}}}]
"""


def virtual_service(
    name: str, hosts: str, *, namespace: str = "shop", gateways: str = "[front]", rules: str = ""
) -> str:
    rules = rules or f"[{{route: [{{destination: {{host: {name}}}}}]}}]"
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{hosts: {hosts}, gateways: {gateways}, http: {rules}}}
"""


def made(*manifests: str) -> dict[str, Any]:
    """Return RouteConfiguration → virtual host → the clusters of its routes."""
    snapshot = world(POD, *manifests)
    return {
        name: {
            host["name"]: [r["route"]["cluster"].split("|")[-1] for r in host.get("routes", ())]
            for host in plain(each.message)["virtual_hosts"]
        }
        for name, each in resources(snapshot, router(snapshot, "gw"))[ROUTE].items()
    }


A, B = "a.shop.svc.cluster.local", "b.shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("manifests", "routes"),
    [
        pytest.param([], {}, id="no Gateway"),
        pytest.param(
            [gateway("front", "['*']")],
            {"http.80": {"blackhole:80": []}},
            id="no VirtualService: 404",
        ),
        pytest.param(
            [gateway("front", "['*']", extra="selector: {istio: other}")], {}, id="another gateway"
        ),
        pytest.param(
            [gateway("front", "[x.test]"), virtual_service("a", "[x.test, y.test]")],
            {"http.80": {"x.test:80": [A]}},
            id="only hosts that the Gateway has",
        ),
        pytest.param(
            [gateway("front", "['*.test']"), virtual_service("a", "['*']")],
            {"http.80": {"*.test:80": [A]}},
            id="narrowed to the Gateway's",
        ),
        pytest.param(
            [
                gateway("front", "['*']"),
                virtual_service("a", "[x.test]", rules="[{route: [{destination: {host: a}}]}]"),
                virtual_service(
                    "b",
                    "[x.test]",
                    rules="[{match: [{uri: {prefix: /b}}], route: [{destination: {host: b}}]}]",
                ),
            ],
            {"http.80": {"x.test:80": [B, A]}},
            id="several merge, what takes everything last",
        ),
        pytest.param(
            [
                gateway("front", "[./x.test]"),
                virtual_service("a", "[x.test]", namespace="other", gateways="[shop/front]"),
            ],
            {"http.80": {"blackhole:80": []}},
            id="hosts for the own namespace",
        ),
        pytest.param(
            [
                gateway("front", "[other/x.test]"),
                virtual_service("a", "[x.test]", namespace="other", gateways="[shop/front]"),
            ],
            {"http.80": {"x.test:80": ["a.other.svc.cluster.local"]}},
            id="hosts for a namespace",
        ),
        pytest.param(
            [gateway("front", "['*']"), virtual_service("a", "[x.test]", namespace="other")],
            {"http.80": {"blackhole:80": []}},
            id="a bare gateway name is of the own namespace",
        ),
        pytest.param(
            [
                gateway("front", "['*']"),
                gateway("second", "['*']"),
                virtual_service("a", "[x.test]"),
                virtual_service("b", "[y.test]", gateways="[second]"),
            ],
            {"http.80": {"x.test:80": [A], "y.test:80": [B]}},
            id="servers of several Gateways share a port",
        ),
        pytest.param(
            [
                gateway("front", "['*']", port=81),
                virtual_service(
                    "a",
                    "[x.test]",
                    rules="[{match: [{port: 81}], route: [{destination: {host: a}}]}]",
                ),
            ],
            {"http.8081": {"x.test:81": [A]}},
            id="the pod's port behind the Service's",
        ),
    ],
)
def test_routes(manifests: list[str], routes: dict[str, Any]) -> None:
    assert made(*manifests) == routes


def test_listeners_by_port() -> None:
    snapshot = world(POD, gateway("front", "['*']"), gateway("second", "['*']", port=81))
    listeners = resources(snapshot, router(snapshot, "gw"))[LISTENER]
    assert {
        name: plain(each.message)["address"]["socket_address"] for name, each in listeners.items()
    } == {
        "0.0.0.0_80": {"address": "0.0.0.0", "port_value": 80},
        "0.0.0.0_8081": {"address": "0.0.0.0", "port_value": 8081},
    }

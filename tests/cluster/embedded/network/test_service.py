"""Services as nftables transactions."""

from dataclasses import replace
from typing import Any

import pytest

from meshlab.cluster.embedded.network.service import (
    ServicePort,
    ready_endpoints,
    service_ports,
    transaction,
)

WEB = ServicePort(
    namespace="shop",
    service="my-web",
    name="http",
    protocol="tcp",
    address="10.96.0.7",
    port=80,
    node_port=30080,
    endpoints=(("10.244.0.2", 8080), ("10.244.0.3", 8080)),
)
CHAIN = "service/shop/my_web/http/tcp"


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def piece(*endpoints: dict[str, Any], port: int = 8080, name: str = "http") -> dict[str, Any]:
    return {"endpoints": list(endpoints), "ports": [{"name": name, "port": port}]}


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]
    return {
        "metadata": {"namespace": "shop", "name": "my-web"},
        "spec": {"clusterIP": "10.96.0.7", "ports": ports, **spec},
    }


def test_a_service_and_its_slices_become_a_port() -> None:
    pieces = [piece(endpoint("10.244.0.3", ready=True), endpoint("10.244.0.2", ready=True))]
    assert service_ports(service(), pieces) == [WEB]


@pytest.mark.parametrize("address", ["None", "", "10.96.0.1", "10.96.0.10"])
def test_headless_and_our_own_need_no_translation(address: str) -> None:
    assert service_ports(service(clusterIP=address), []) == []


@pytest.mark.parametrize(
    ("endpoints", "addresses"),
    [
        pytest.param(
            [endpoint("a", ready=True), endpoint("b", ready=False, serving=True)],
            ["a"],
            id="only ready ones",
        ),
        pytest.param(
            [
                endpoint("a", ready=False, serving=True, terminating=True),
                endpoint("b", ready=False),
            ],
            ["a"],
            id="none ready: those that still serve",
        ),
    ],
)
def test_ready_endpoints(endpoints: list[dict[str, Any]], addresses: list[str]) -> None:
    assert [e["addresses"][0] for _, e in ready_endpoints([piece(*endpoints)])] == addresses


def test_a_new_service() -> None:
    assert transaction({}, {CHAIN: WEB}).splitlines() == [
        f"add chain ip meshlab {CHAIN}",
        f"add rule ip meshlab {CHAIN} meta l4proto tcp dnat ip to numgen random mod 2 map "
        "{ 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }",
        f"add element ip meshlab services {{ 10.96.0.7 . tcp . 80 : goto {CHAIN} }}",
        f"add element ip meshlab node_ports {{ tcp . 30080 : goto {CHAIN} }}",
        "add element ip meshlab own_service { 10.244.0.2 . 10.244.0.2, 10.244.0.3 . 10.244.0.3 }",
    ]


def test_a_lost_endpoint_changes_one_chain_only() -> None:
    other = replace(WEB, service="other", address="10.96.0.8", node_port=None)
    one = replace(WEB, endpoints=WEB.endpoints[:1])
    old, new = {CHAIN: WEB, other.chain: other}, {CHAIN: one, other.chain: other}
    assert transaction(old, new).splitlines() == [
        f"flush chain ip meshlab {CHAIN}",
        f"add rule ip meshlab {CHAIN} meta l4proto tcp dnat to 10.244.0.2:8080",
    ]


def test_a_service_without_endpoints_leaves() -> None:
    assert transaction({CHAIN: replace(WEB, endpoints=WEB.endpoints[:1])}, {}).splitlines() == [
        "delete element ip meshlab services { 10.96.0.7 . tcp . 80 }",
        "delete element ip meshlab node_ports { tcp . 30080 }",
        f"flush chain ip meshlab {CHAIN}",
        f"delete chain ip meshlab {CHAIN}",
        "delete element ip meshlab own_service { 10.244.0.2 . 10.244.0.2 }",
    ]


def test_nothing_changed_is_no_transaction() -> None:
    assert transaction({CHAIN: WEB}, {CHAIN: replace(WEB)}) == ""

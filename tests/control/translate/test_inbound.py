"""Which inbound ports a workload has, and what takes connections to them."""

from dataclasses import replace
from typing import Any

from fixtures.world import sidecar, world
from fixtures.xds import plain

from meshlab.control.translate.cache import Cache
from meshlab.control.translate.inbound import inbound_ports
from meshlab.control.translate.resources import CLUSTER, LISTENER, resources

WORLD = """
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp-db, port: 90, targetPort: db}
  - {name: http-gone, port: 91, targetPort: nobody}
---
kind: Service
metadata: {name: again, namespace: shop}
spec: {selector: {app: web}, ports: [{name: tcp, port: 1, targetPort: 8080}, {port: 9000}]}
---
kind: Service
metadata: {name: web, namespace: other}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 7000}]}
---
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, ports: [{name: db, containerPort: 5432}]}]}
"""
PORT_LEVEL = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: STRICT}
  portLevelMtls: {5432: {mode: DISABLE}, 6000: {mode: DISABLE}}
"""


def test_ports() -> None:
    snapshot = world(WORLD, PORT_LEVEL)
    made = inbound_ports(snapshot, sidecar(snapshot, "web"))
    assert [(p.number, p.service.name, p.port.number, p.mode, p.protocol.value) for p in made] == [
        (5432, "web", 90, "DISABLE", "tcp"),
        # Two services name it; names break the tie of age.
        (8080, "again", 1, "STRICT", "tcp"),
        (9000, "again", 9000, "STRICT", "auto"),
    ]


def test_chains_and_clusters() -> None:
    snapshot = world(WORLD, PORT_LEVEL)
    made = resources(snapshot, sidecar(snapshot, "web"))
    listener = plain(made[LISTENER]["virtualInbound"].message)
    assert [chain_summary(chain) for chain in listener["filter_chains"]] == [
        ("virtualInbound-blackhole", 15006, "", False),
        ("virtualInbound-catchall-http", None, "tls", True),
        ("virtualInbound", None, "tls", True),
        # No service declares 6000, but the policy names it.
        ("virtualInbound-catchall-http", 6000, "raw_buffer", False),
        ("virtualInbound", 6000, "", False),
        ("0.0.0.0_5432", 5432, "", False),
        ("0.0.0.0_8080", 8080, "tls", True),
        ("0.0.0.0_9000", 9000, "tls", True),
        ("0.0.0.0_9000", 9000, "tls", True),
    ]
    assert [name for name in made[CLUSTER] if name.lower().startswith("inbound")] == [
        "InboundPassthroughCluster",
        "inbound|5432||",
        "inbound|8080||",
        "inbound|9000||",
    ]


def chain_summary(chain: dict[str, Any]) -> tuple[str, int | None, str, bool]:
    match = chain.get("filter_chain_match", {})
    return (
        chain["name"],
        match.get("destination_port"),
        match.get("transport_protocol", ""),
        "transport_socket" in chain,
    )


def test_inspectors_are_off_where_a_server_may_speak_first() -> None:
    snapshot = world(WORLD, PORT_LEVEL)
    listener = plain(
        resources(snapshot, sidecar(snapshot, "web"))[LISTENER]["virtualInbound"].message
    )
    filters = {
        each["name"].split(".")[-1]: each.get("filter_disabled")
        for each in listener["listener_filters"]
    }

    def at(port: int) -> dict[str, Any]:
        return {"destination_port_range": {"start": port, "end": port + 1}}

    assert filters == {
        "original_dst": None,
        "tls_inspector": at(5432),
        "http_inspector": {"or_match": {"rules": [at(5432), at(8080)]}},
    }


def test_pods_of_one_deployment_share_the_listener() -> None:
    snapshot = world(WORLD.replace("spec:\n  template", "spec:\n  replicas: 2\n  template"))
    cache = Cache()
    first = sidecar(snapshot, "web")
    other = next(pod for pod in snapshot.workloads.values() if pod.ip != first.ip)
    second = replace(first, ip=other.ip, name=other.name, id="other")
    one = resources(snapshot, first, cache=cache)
    two = resources(snapshot, second, cache=cache)
    assert one[LISTENER]["virtualInbound"] is two[LISTENER]["virtualInbound"]
    assert one[CLUSTER]["inbound|8080||"] is two[CLUSTER]["inbound|8080||"]

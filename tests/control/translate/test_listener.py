"""Outbound listeners of a sidecar: names, what they route or where they connect."""

from typing import Any

from fixtures.world import sidecar, world
from fixtures.xds import plain

from meshlab.control.snapshot import Mesh
from meshlab.control.translate.resources import LISTENER, resources

SERVICES = """
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports:
  - {name: http, port: 80}
  - {name: grpc, port: 90}
  - {name: udp, port: 53, protocol: UDP}
---
kind: Service
metadata: {name: db, namespace: shop}
spec: {ports: [{name: mysql, port: 3306}, {name: x, port: 9000}]}
---
kind: Service
metadata: {name: pods, namespace: shop}
spec: {clusterIP: None, selector: {app: me}, ports: [{name: tcp, port: 7000, targetPort: 7001}]}
---
kind: Deployment
metadata: {name: me, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: me}}
    spec: {containers: [{name: app}]}
"""


def summary(listener: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Return the route, the cluster of everything else, and the inspectors."""
    route = ""
    for chain in listener.get("filter_chains", ()):
        config = chain["filters"][-1]["typed_config"]
        route = config.get("rds", {}).get("route_config_name", "")
    default = listener["default_filter_chain"]["filters"][-1]["typed_config"]["cluster"]
    inspectors = [each["name"].split(".")[-1] for each in listener.get("listener_filters", ())]
    return route, default, inspectors


def made(*extensions: str, mesh: Mesh | None = None) -> dict[str, Any]:
    snapshot = world(SERVICES, mesh=mesh)
    proxy = sidecar(snapshot, "me", extensions=extensions)
    listeners = resources(snapshot, proxy)[LISTENER]
    return {name: plain(each.message) for name, each in listeners.items()}


BOTH = ["tls_inspector", "http_inspector"]


def test_outbound() -> None:
    listeners = made()
    assert next(iter(listeners)) == "virtualOutbound"
    assert list(listeners)[-1] == "virtualInbound"
    assert {name: summary(each) for name, each in list(listeners.items())[1:-1]} == {
        "0.0.0.0_80": ("80", "PassthroughCluster", BOTH),
        "10.96.0.10_90": ("", "outbound|90||web.shop.svc.cluster.local", []),
        "10.96.0.11_3306": ("", "outbound|3306||db.shop.svc.cluster.local", []),
        "10.96.0.11_9000": (
            "db.shop.svc.cluster.local:9000",
            "outbound|9000||db.shop.svc.cluster.local",
            BOTH,
        ),
        # Its own address, 10.244.0.10, is left out.
        "10.244.0.11_7001": ("", "outbound|7000||pods.shop.svc.cluster.local", []),
    }
    assert {each["bind_to_port"] for each in list(listeners.values())[1:-1]} == {False}


def test_grpc_is_http_for_who_has_http2() -> None:
    assert summary(made("envoy.http2")["0.0.0.0_90"]) == ("90", "PassthroughCluster", BOTH)


def test_registry_only() -> None:
    listeners = made(mesh=Mesh(outbound_traffic_policy="REGISTRY_ONLY"))
    assert summary(listeners["0.0.0.0_80"])[1] == "BlackHoleCluster"
    chains = {each["name"]: each for each in listeners["virtualOutbound"]["filter_chains"]}
    last = chains["virtualOutbound-catchall-tcp"]["filters"][-1]
    assert last["typed_config"]["cluster"] == "BlackHoleCluster"


def test_virtual_outbound() -> None:
    quiet = Mesh(access_log_file="", access_log_service=False)
    tcp = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

    def to(cluster: str) -> list[dict[str, Any]]:
        config = {"@type": tcp, "stat_prefix": cluster, "cluster": cluster}
        return [{"name": "envoy.filters.network.tcp_proxy", "typed_config": config}]

    assert made(mesh=quiet)["virtualOutbound"] == {
        "name": "virtualOutbound",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15001}},
        "use_original_dst": True,
        "traffic_direction": "OUTBOUND",
        "filter_chains": [
            {
                "name": "virtualOutbound-blackhole",
                "filter_chain_match": {"destination_port": 15001},
                "filters": to("BlackHoleCluster"),
            },
            {"name": "virtualOutbound-catchall-tcp", "filters": to("PassthroughCluster")},
        ],
    }

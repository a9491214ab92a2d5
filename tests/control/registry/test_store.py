"""From Kubernetes objects to the world, changed only where they changed."""

from typing import Any

import pytest

from meshlab.control.registry.api import Resource
from meshlab.control.registry.store import (
    CONFIG_KINDS,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    SLICES,
    Store,
)
from meshlab.control.snapshot import Endpoint, Mesh, Service, ServicePort, Workload

Json = dict[str, Any]
VIRTUAL_SERVICES = next(kinds[0] for kinds in CONFIG_KINDS if kinds[0].kind == "VirtualService")


class Feed:
    """A store with ever newer versions of objects."""

    def __init__(self) -> None:
        self.woken = 0
        self.version = 0
        self.store = Store(Mesh(), self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def put(self, resource: Resource, obj: Json) -> Json:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.store.change(resource, "MODIFIED", obj)
        return obj

    def delete(self, resource: Resource, obj: Json) -> None:
        self.store.change(resource, "DELETED", obj)


def service(name: str = "web", **spec: Any) -> Json:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    whole = {"clusterIP": "10.96.0.5", "selector": {"app": name}, "ports": ports, **spec}
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": whole}


def pod(name: str = "web-1", ip: str = "10.244.0.7", **labels: str) -> Json:
    owner = {"kind": "ReplicaSet", "name": "web-5d4f8", "controller": True, "apiVersion": "apps/v1"}
    meta = {
        "name": name,
        "namespace": "shop",
        "labels": {"app": "web", "pod-template-hash": "5d4f8", **labels},
        "ownerReferences": [owner],
    }
    spec = {"nodeName": "n1", "serviceAccountName": "web", "containers": [{"name": "c"}]}
    return {"metadata": meta, "spec": spec, "status": {"phase": "Running", "podIP": ip}}


def endpoint_slice(*pods: str, ready: bool | None = True) -> Json:
    labels = {"kubernetes.io/service-name": "web"}
    entries = [
        {
            "addresses": [f"10.244.0.{6 + int(name[-1])}"],
            "conditions": {} if ready is None else {"ready": ready},
            "targetRef": {"kind": "Pod", "name": name, "namespace": "shop"},
            "nodeName": "n1",
        }
        for name in pods
    ]
    return {
        "metadata": {"name": "web-x", "namespace": "shop", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": entries,
    }


def test_a_service_with_an_endpoint() -> None:
    feed = Feed()
    feed.put(NODES, {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/region": "r"}}})
    feed.put(PODS, pod(**{"security.istio.io/tlsMode": "istio"}))
    feed.put(SLICES, endpoint_slice("web-1"))
    feed.put(SERVICES, service())
    world = feed.store.take().world
    labels = {"app": "web", "pod-template-hash": "5d4f8", "security.istio.io/tlsMode": "istio"}
    assert world.services == (
        Service(
            name="web",
            namespace="shop",
            fqdn="web.shop.svc.cluster.local",
            ports=(ServicePort(name="http", number=80, target_port=8080),),
            cluster_ip="10.96.0.5",
            selector={"app": "web"},
        ),
    )
    assert world.endpoints == {
        "web.shop.svc.cluster.local": (
            Endpoint(
                address="10.244.0.7",
                ports={"http": 8080},
                labels=labels,
                pod="web-1",
                namespace="shop",
                workload="web",
                service_account="web",
                node="n1",
                locality="r",
                tls_mode="istio",
            ),
        )
    }
    assert world.workloads == {
        "10.244.0.7": Workload(
            name="web-1",
            namespace="shop",
            ip="10.244.0.7",
            labels=labels,
            service_account="web",
            workload="web",
            node="n1",
            locality="r",
            tls_mode="istio",
        )
    }


@pytest.mark.parametrize("order", [("pod", "slice"), ("slice", "pod")])
def test_pod_and_slice_join_in_any_order(order: tuple[str, str]) -> None:
    feed = Feed()
    feed.put(SERVICES, service())
    for what in order:
        feed.store.take()
        if what == "pod":
            feed.put(PODS, pod(version="v1"))
        else:
            feed.put(SLICES, endpoint_slice("web-1"))
    (found,) = feed.store.take().world.endpoints["web.shop.svc.cluster.local"]
    assert found.labels["version"] == "v1"


def test_a_label_changed_on_a_pod_reaches_its_endpoint() -> None:
    feed = Feed()
    feed.put(SERVICES, service())
    feed.put(SLICES, endpoint_slice("web-1"))
    feed.put(PODS, pod(version="v1"))
    feed.store.take()
    feed.put(PODS, pod(version="v2"))
    change = feed.store.take()
    (found,) = change.world.endpoints["web.shop.svc.cluster.local"]
    assert found.labels["version"] == "v2"
    assert change.kinds == {"Endpoint", "Workload"}


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        pytest.param(True, True, id="ready"),
        pytest.param(False, False, id="kept, and marked"),
        pytest.param(None, True, id="unset means ready"),
    ],
)
def test_readiness(*, ready: bool | None, expected: bool) -> None:
    feed = Feed()
    feed.put(SERVICES, service())
    feed.put(SLICES, endpoint_slice("web-1", ready=ready))
    (found,) = feed.store.take().world.endpoints["web.shop.svc.cluster.local"]
    assert found.ready is expected


def test_what_did_not_change_stays_the_same_object() -> None:
    feed = Feed()
    feed.put(SERVICES, service("web"))
    feed.put(SERVICES, service("other"))
    feed.put(SLICES, endpoint_slice("web-1"))
    before = feed.store.take().world
    feed.put(SERVICES, service("third"))
    after = feed.store.take().world
    assert after.services[0] is before.services[0]
    host = "web.shop.svc.cluster.local"
    assert after.endpoints[host] is before.endpoints[host]
    assert after.workloads is before.workloads


def test_a_status_that_says_nothing_new_wakes_nobody() -> None:
    feed = Feed()
    feed.put(PODS, pod())
    woken = feed.woken
    feed.put(PODS, pod())
    assert feed.woken == woken


def test_an_external_name_is_no_destination() -> None:
    feed = Feed()
    feed.put(SERVICES, service(type="ExternalName", externalName="example.org"))
    assert feed.store.take().world.services == ()


@pytest.mark.parametrize(
    ("phase", "host_network"),
    [("Succeeded", False), ("Failed", False), ("Running", True)],
)
def test_pods_that_are_no_workload(phase: str, *, host_network: bool) -> None:
    feed = Feed()
    given = pod()
    given["status"]["phase"] = phase
    given["spec"]["hostNetwork"] = host_network
    feed.put(PODS, given)
    assert feed.store.take().world.workloads == {}


def test_a_relist_deletes_what_is_gone() -> None:
    feed = Feed()
    kept, gone = feed.put(SERVICES, service("kept")), feed.put(SERVICES, service("gone"))
    feed.store.replace(SERVICES, [kept])
    assert [s.name for s in feed.store.take().world.services] == ["kept"]
    assert feed.store.processed("services", ("shop", "gone"), "deleted") is not None
    assert gone["metadata"]["name"] == "gone"


def virtual_service(**spec: Any) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"hosts": ["web"], **spec},
    }


def test_an_object_that_cannot_be_read_is_left_out_and_named() -> None:
    feed = Feed()
    feed.put(VIRTUAL_SERVICES, virtual_service())
    assert len(feed.store.take().world.of_kind("VirtualService")) == 1
    feed.put(VIRTUAL_SERVICES, virtual_service(hosts=7))
    assert feed.store.take().world.of_kind("VirtualService") == ()
    ((place, error),) = feed.store.refused.items()
    assert place == ("virtualservices.networking.istio.io", ("shop", "web"))
    assert "spec.hosts" in str(error)


def test_processed_knows_versions_and_deletions() -> None:
    feed = Feed()
    name, key = "virtualservices.networking.istio.io", ("shop", "web")
    assert feed.store.processed(name, key, "1") is None
    obj = feed.put(VIRTUAL_SERVICES, virtual_service())
    at = feed.store.processed(name, key, "1")
    assert at == feed.store.generation
    assert feed.store.processed(name, key, "2") is None
    assert feed.store.processed(name, key, "deleted") is None
    feed.delete(VIRTUAL_SERVICES, obj)
    assert feed.store.processed(name, key, "deleted") == feed.store.generation


def test_namespace_labels() -> None:
    feed = Feed()
    feed.put(NAMESPACES, {"metadata": {"name": "shop", "labels": {"a": "b"}}})
    assert feed.store.take().world.namespaces == {"shop": {"a": "b"}}


def test_mesh_config_that_cannot_be_read_keeps_the_last_good_one() -> None:
    feed = Feed()
    feed.store.set_mesh({"data": {"mesh": "trustDomain: example.org\naccessLogFile: ''\n"}})
    good = feed.store.take().world.mesh
    assert (good.trust_domain, good.access_log_file) == ("example.org", "")
    feed.store.set_mesh({"data": {"mesh": "outboundTrafficPolicy: {mode: SOMETIMES}"}})
    assert feed.store.take().world.mesh == good

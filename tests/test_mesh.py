"""The Python API, against the real API server; what needs proxies is in tests/e2e."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import meshlab as ml
from meshlab.api import schema
from meshlab.errors import ClusterError, ConfigError
from meshlab.kube import Kube

Object = dict[str, Any]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: busybox}]}
"""


@pytest.fixture
def mesh(kube: Kube, kubeconfig: Path) -> ml.Mesh:
    return ml.Mesh(kube, "test", kubeconfig)


@pytest.fixture
def space(mesh: ml.Mesh, request: pytest.FixtureRequest) -> Iterator[ml.Namespace]:
    name = request.node.name.partition("[")[0].replace("_", "-")[:60].rstrip("-")
    yield mesh.namespace(name)
    mesh.kube.delete("namespaces", name)


@pytest.fixture
def crds(kube: Kube) -> None:
    for crd in schema.crds():
        kube.apply(crd)


def test_public_names_are_there() -> None:
    assert {getattr(ml, name).__name__ for name in ml.__all__} == set(ml.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ml.nonsense


def test_injection_is_a_label_that_stays_as_it_is_unless_told(mesh: ml.Mesh) -> None:
    def label() -> Any:
        found = mesh.kube.get("namespaces", "labelled") or {}
        return found["metadata"]["labels"].get("istio-injection")

    seen, commands = [], []
    for inject in (True, None, False):
        commands.append(mesh.namespace("labelled", inject=inject).commands)
        seen.append(label())
    mesh.kube.delete("namespaces", "labelled")
    assert seen == ["enabled", "enabled", "disabled"]
    say = "kubectl label namespace labelled istio-injection={} --overwrite"
    assert commands == [
        ["kubectl create namespace labelled", say.format("enabled")],
        [],
        [say.format("disabled")],
    ]


def test_apply_shows_what_changed(space: ml.Namespace) -> None:
    first = space.apply(DEPLOYMENT)
    assert first.text() == f"deployment.apps/web created\n$ kubectl -n {space.name} apply -f -"
    again = space.apply(DEPLOYMENT)
    assert [(c.verb, c.diff) for c in again.changes] == [("unchanged", [])]
    [change] = space.apply(DEPLOYMENT.replace("replicas: 2", "replicas: 1")).changes
    assert change.verb == "configured"
    assert [line for line in change.diff if line[0] in "+-"] == ["-  replicas: 2", "+  replicas: 1"]


def test_a_path_stands_in_the_command(space: ml.Namespace, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(DEPLOYMENT)
    command = f"kubectl -n {space.name} apply -f {tmp_path / 'web.yaml'}"
    assert space.apply(tmp_path / "web.yaml").command == command
    assert space.apply(str(tmp_path / "web.yaml")).command == command


def test_wait_pods_and_scale(space: ml.Namespace) -> None:
    space.apply(DEPLOYMENT)
    assert len(space.wait("web")) == 2
    three = space.scale("web", 3)
    assert len(three) == 3
    assert three.command == f"kubectl -n {space.name} scale deployment web --replicas=3"
    assert [row[1:3] for row in three.table().rows] == [["1/1", "Running"]] * 3
    with pytest.raises(ClusterError) as caught:
        space.wait("nobody", timeout=0.2)
    assert caught.value.found == "deployment nobody: not there"


def test_a_pod_by_its_labels(space: ml.Namespace) -> None:
    space.apply(DEPLOYMENT)
    pod = space.pod(app="web")
    assert (pod.labels["app"], pod.injected) == ("web", False)
    output = pod.exec("echo", "a b")
    line = f"kubectl -n {space.name} exec {pod.name} -c web -- echo 'a b'"
    assert (output, output.command) == ("echo a b", line)
    assert repr(output) == f"echo a b\n$ {line}"
    with pytest.raises(ClusterError, match="`false` ended with status 3"):
        pod.exec("false")
    assert pod.logs(tail=1) == "web 2"
    assert repr(pod).endswith(f"$ kubectl -n {space.name} get pod {pod.name} -o wide")
    with pytest.raises(ClusterError, match="no pod with labels app=other"):
        space.pod(app="other", timeout=0.1)
    with pytest.raises(ClusterError, match=f"Pod {space.name}/{pod.name}: has no sidecar"):
        pod.proxy_admin("stats")


def test_a_pod_by_name_as_istioctl_spells_it(mesh: ml.Mesh, space: ml.Namespace) -> None:
    space.apply(DEPLOYMENT)
    space.wait("web")
    by_deployment = mesh.pod(f"deploy/web.{space.name}")
    assert by_deployment.labels["app"] == "web"
    assert mesh.pod(f"pod/{by_deployment.name}.{space.name}").name == by_deployment.name
    for name, words in {
        f"deploy/other.{space.name}": f"Deployment {space.name}/other: no such Deployment",
        f"other.{space.name}": f"Pod {space.name}/other: no such pod",
        f"svc/web.{space.name}": r"svc/web.* \(found svc; allowed: pod/NAME",
    }.items():
        with pytest.raises(ClusterError, match=words):
            mesh.pod(name)


def test_logs_of_several_pods(space: ml.Namespace) -> None:
    space.apply(DEPLOYMENT)
    pods = space.wait("web")
    logs = space.logs(tail=1, app="web")
    assert logs.splitlines() == [f"[{pod.name}] web 2" for pod in pods]
    assert logs.command == f"kubectl -n {space.name} logs -l app=web --prefix --tail=1"


def test_delete_the_last_first(space: ml.Namespace) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    space.apply([other])
    missing = {**other, "metadata": {"name": "b"}}
    found = space.delete([other, missing])
    assert [(c.reference, c.verb) for c in found.changes] == [
        ("configmap/b", "not found"),
        ("configmap/a", "deleted"),
    ]


@pytest.mark.usefixtures("crds")
def test_a_route_starts_from_what_is_there(space: ml.Namespace) -> None:
    new = space.route("bluegreen.example.com").through("gate").split(blue=50, green=50).apply()
    assert new.manifest.startswith("apiVersion: networking.istio.io/v1\nkind: VirtualService\n")
    assert [c.verb for c in new.changes] == ["created"]
    [change] = space.route("bluegreen").split(blue=20, green=80).apply().changes
    assert [line.strip("+- ") for line in change.diff if line[0] in "+-"] == [
        "weight: 50",
        "weight: 20",
        "weight: 50",
        "weight: 80",
    ]
    stored = space._mesh.kube.get("virtualservices.networking.istio.io", "bluegreen", space.name)
    assert (stored or {})["spec"]["gateways"] == ["gate"]
    assert [obj["spec"]["http"][0]["route"][0]["weight"] for _, obj in space._mesh.applied] == [
        50,
        20,
    ]


@pytest.mark.usefixtures("crds")
def test_what_is_wrong_keeps_its_parts(space: ml.Namespace) -> None:
    bad: Object = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "bad"},
        "spec": {
            "hosts": ["x"],
            "http": [{"route": [{"destination": {"host": "x"}, "weight": -1}]}],
        },
    }
    with pytest.raises(ConfigError) as caught:
        space.apply(bad)
    [problem] = getattr(caught.value, "problems", ())
    assert problem.field == "spec.http[0].route[0].weight"


def test_without_a_mesh(mesh: ml.Mesh) -> None:
    assert not mesh.has_control_plane()
    with pytest.raises(ClusterError, match="the mesh has no ingress gateway"):
        _ = mesh.ingress
    with pytest.raises(ClusterError, match="the control plane answers"):
        mesh.proxies()
    assert mesh.mtls().proxies == []


@pytest.mark.parametrize(
    ("address", "url"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:30080", id="on loopback the node port"),
        pytest.param("192.0.2.7", "http://192.0.2.7", id="a balancer of its own"),
    ],
)
def test_ingress(mesh: ml.Mesh, address: str, url: str) -> None:
    mesh.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    ports = [{"name": "http2", "port": 80, "nodePort": 30080}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system"},
        "spec": {"type": "LoadBalancer", "ports": ports},
    }
    mesh.kube.apply(service)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
    mesh.kube.patch(
        "services", "istio-ingressgateway", status, "istio-system", subresource="status"
    )
    try:
        assert mesh.ingress == url
    finally:
        mesh.kube.delete_like(service)


def test_it_shows_itself(mesh: ml.Mesh) -> None:
    shown = mesh._repr_mimebundle_()
    assert shown["text/plain"].startswith("NAMESPACE         INJECTION\n")
    assert "<table" in shown["text/html"]

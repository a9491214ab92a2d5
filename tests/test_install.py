"""What an installation consists of, and what it leaves alone."""

from typing import Any

import pytest

from meshlab import install
from meshlab.errors import ClusterError, ConfigError
from meshlab.install import MANAGED_BY, Settings, manifests, settings

Json = dict[str, Any]


class FakeKube:
    """As much of a cluster as install touches: objects by kind and name."""

    def __init__(self, *objects: Json) -> None:
        self.objects = {_name(o): o for o in objects}
        self.deleted: list[str] = []

    def get(self, resource: str, name: str, namespace: str | None = None) -> Json | None:
        del namespace
        kind = {"deployments.apps": "Deployment", "namespaces": "Namespace"}.get(resource, resource)
        for (known, known_name), obj in self.objects.items():
            if known_name == name and known.lower() in kind.lower():
                return obj
        return None

    def get_like(self, obj: Json, namespace: str | None = None) -> Json | None:
        del namespace
        return self.objects.get(_name(obj))

    def apply(self, obj: Json, namespace: str | None = None) -> tuple[Json, str]:
        del namespace
        verb = "configured" if _name(obj) in self.objects else "created"
        if obj["kind"] == "Deployment":
            status = {"updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
            obj = {**obj, "status": status}
        self.objects[_name(obj)] = obj
        return obj, verb

    def list(self, resource: str, label_selector: str = "") -> list[Json]:
        assert (resource, label_selector) == ("configmaps", "istio.io/config=true")
        return [o for (kind, _), o in self.objects.items() if kind == "ConfigMap"]

    def delete_like(self, obj: Json, namespace: str | None = None) -> bool:
        del namespace
        self.deleted.append("/".join(_name(obj)))
        return self.objects.pop(_name(obj), None) is not None


def _name(obj: Json) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def silent(step: object) -> None:
    del step


def foreign(kind: str, name: str) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": {}}}


def test_everything_carries_our_label() -> None:
    labels = [obj["metadata"].get("labels", {}).get(MANAGED_BY) for obj in manifests(Settings())]
    assert set(labels) == {"meshlab"}


def test_istios_names() -> None:
    names = {_name(obj) for obj in manifests(Settings())}
    assert names >= {
        ("Namespace", "istio-system"),
        ("Deployment", "istiod"),
        ("Deployment", "istio-ingressgateway"),
        ("Service", "istiod"),
        ("Service", "istio-ingressgateway"),
        ("ConfigMap", "istio"),
        ("MutatingWebhookConfiguration", "istio-sidecar-injector"),
        ("ValidatingWebhookConfiguration", "istio-validator-istio-system"),
        ("CustomResourceDefinition", "virtualservices.networking.istio.io"),
    }


def test_uninstall_removes_exactly_what_was_installed() -> None:
    kube = FakeKube(foreign("Deployment", "shop"))
    install.install(kube, Settings(), silent)  # type: ignore[arg-type]
    assert len(kube.objects) == len(manifests(Settings())) + 1
    install.uninstall(kube, silent)  # type: ignore[arg-type]
    assert list(kube.objects) == [("Deployment", "shop")]


def test_crds_of_somebody_else_are_neither_replaced_nor_removed() -> None:
    theirs = foreign("CustomResourceDefinition", "virtualservices.networking.istio.io")
    kube = FakeKube(theirs)
    install.install(kube, Settings(), silent)  # type: ignore[arg-type]
    assert kube.objects[_name(theirs)] == theirs
    install.uninstall(kube, silent)  # type: ignore[arg-type]
    assert list(kube.objects) == [_name(theirs)]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Deployment", "istiod"),
        ("MutatingWebhookConfiguration", "istio-sidecar-injector"),
    ],
)
def test_a_foreign_mesh_is_refused_untouched(kind: str, name: str) -> None:
    kube = FakeKube(foreign(kind, name))
    with pytest.raises(ClusterError, match="not ours"):
        install.install(kube, Settings(), silent)  # type: ignore[arg-type]
    assert list(kube.objects) == [(kind, name)]


def test_a_failed_installation_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()
    monkeypatch.setattr(install, "READY_TIMEOUT", 0.0)
    monkeypatch.setattr(install, "_missing", lambda deployment: "0 of 1 readyReplicas")
    with pytest.raises(ClusterError, match="0 of 1 readyReplicas"):
        install.install(kube, Settings(), silent)  # type: ignore[arg-type]
    assert kube.objects == {}


@pytest.mark.parametrize("given", [{"dataplane": "nginx"}, {"colour": "blue"}, {"replicas": "two"}])
def test_settings_that_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        settings(**given)


def test_settings_reach_the_pods() -> None:
    made = {_name(o): o for o in manifests(settings(dataplane="envoy", trust_domain="x.org"))}
    gateway = made["Deployment", "istio-ingressgateway"]["spec"]["template"]["spec"]
    env = {e["name"]: e.get("value") for e in gateway["containers"][0]["env"]}
    assert (env["MESHLAB_DATAPLANE"], env["TRUST_DOMAIN"]) == ("envoy", "x.org")
    assert gateway["securityContext"]["sysctls"] == [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    ]

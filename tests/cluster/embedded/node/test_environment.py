"""Variables of a container."""

import base64
from typing import Any

import pytest

from meshlab.cluster.embedded.node.environment import (
    ConfigMissing,
    environment,
    expand,
    field_value,
    quantity,
    service_variables,
)

POD: dict[str, Any] = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u-1",
        "labels": {"app": "web", "app.kubernetes.io/name": "x"},
        "annotations": {"note": 'say "hi"\n'},
    },
    "spec": {
        "nodeName": "n",
        "serviceAccountName": "sa",
        "containers": [{"name": "app", "resources": {"limits": {"cpu": "1500m"}}}],
    },
    "status": {"podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}], "hostIP": "10.244.0.1"},
}
MEMORY_IN_MI = {"resource": "limits.memory", "divisor": "1Mi"}
OPTIONAL_KEY = {"name": "settings", "key": "no", "optional": True}
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    ("configmaps", "settings"): {
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "shop"},
        "data": {"colour": "blue"},
    },
    ("secrets", "keys"): {
        "kind": "Secret",
        "metadata": {"name": "keys", "namespace": "shop"},
        "data": {"pass": base64.b64encode(b"word").decode()},
    },
}


def fetch(resource: str, name: str) -> dict[str, Any] | None:
    return OBJECTS.get((resource, name))


def variables(container: dict[str, Any]) -> dict[str, str]:
    capacity = {"cpu": "2", "memory": "1Gi"}
    entry = {**POD["spec"]["containers"][0], **container}
    return environment(POD, entry, base={"BASE": "b"}, fetch=fetch, capacity=capacity)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("$(A)-$(B)", "1-2", id="known names"),
        pytest.param("$(NO)", "$(NO)", id="an unknown name stays"),
        pytest.param("$$(A)", "$(A)", id="escaped"),
        pytest.param("$A ${A}", "$A ${A}", id="a shell's notation is not ours"),
    ],
)
def test_expand(text: str, value: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web-1"),
        ("metadata.labels['app.kubernetes.io/name']", "x"),
        ("metadata.annotations", 'note="say \\"hi\\"\\n"'),
        ("spec.nodeName", "n"),
        ("spec.serviceAccountName", "sa"),
        ("status.podIP", "10.244.0.9"),
        ("status.podIPs", "10.244.0.9"),
        ("status.hostIP", "10.244.0.1"),
    ],
)
def test_field_value(path: str, value: str) -> None:
    assert field_value(POD, path) == value


def test_a_field_that_may_not_be_read_is_named() -> None:
    with pytest.raises(ConfigMissing, match=r"'spec\.volumes' names no field"):
        field_value(POD, "spec.volumes")


def test_values_from_everywhere_later_ones_win() -> None:
    found = variables(
        {
            "envFrom": [
                {"configMapRef": {"name": "settings"}, "prefix": "S_"},
                {"secretRef": {"name": "missing", "optional": True}},
            ],
            "env": [
                {"name": "A", "value": "$(S_colour)!"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "pass"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "D", "valueFrom": {"resourceFieldRef": MEMORY_IN_MI}},
                {"name": "E", "valueFrom": {"configMapKeyRef": OPTIONAL_KEY}},
                {"name": "BASE", "value": "$(BASE)2"},
            ],
        }
    )
    assert found == {
        "BASE": "b2",
        "S_colour": "blue",
        "A": "blue!",
        "B": "word",
        "C": "2",
        "D": "1024",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "keys", "key": "k"}}, "couldn't find key k in Secret shop/keys"),
    ],
)
def test_what_is_missing_is_named(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigMissing) as caught:
        variables({"env": [{"name": "X", "valueFrom": source}]})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "number"), [("250m", 0.25), ("1Gi", 2**30), ("2", 2), ("1e3", 1000), ("1.5k", 1500)]
)
def test_quantity(text: str, number: float) -> None:
    assert quantity(text) == pytest.approx(number)


def test_services_of_the_namespace_and_the_api() -> None:
    def service(namespace: str, name: str, address: str) -> dict[str, Any]:
        return {
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": address, "ports": [{"port": 80, "name": "http"}]},
        }

    services = [
        service("default", "kubernetes", "10.96.0.1"),
        service("shop", "my-web", "10.96.0.7"),
        service("other", "hidden", "10.96.0.8"),
        service("shop", "headless", "None"),
    ]
    found = service_variables(services, "shop")
    assert {key for key in found if key.endswith("_HOST")} == {
        "KUBERNETES_SERVICE_HOST",
        "MY_WEB_SERVICE_HOST",
    }
    assert found["MY_WEB_PORT_80_TCP"] == "tcp://10.96.0.7:80"
    assert found["MY_WEB_SERVICE_PORT_HTTP"] == "80"

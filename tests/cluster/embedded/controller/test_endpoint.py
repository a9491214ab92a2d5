from typing import Any

import pytest

from meshlab.cluster.embedded.controller.endpoint import (
    pair,
    sends_to,
    target_number,
    wanted_slices,
)

Object = dict[str, Any]


def service(**spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "s1", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "name": "http"}], **spec},
    }


def pod(name: str, *, ready: bool = True, port: int = 8080, **metadata: Any) -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": name,
            "creationTimestamp": "2024-01-01T00:00:00Z",
            **metadata,
        },
        "spec": {
            "nodeName": "node",
            "containers": [{"ports": [{"name": "web", "containerPort": port}]}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.0.0.{name}",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def test_a_slice() -> None:
    assert wanted_slices(service(clusterIP="None"), [pod("1")]) == [
        {
            "metadata": {
                "namespace": "shop",
                "labels": {
                    "team": "a",
                    "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "service.kubernetes.io/headless": "",
                },
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "name": "web",
                        "uid": "s1",
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": ["10.0.0.1"],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "targetRef": {"kind": "Pod", "name": "1", "namespace": "shop", "uid": "1"},
                    "nodeName": "node",
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    ("spec", "one", "conditions"),
    [
        pytest.param({}, pod("1", ready=False), (False, False, False), id="not ready"),
        pytest.param(
            {}, pod("1", deletionTimestamp="now"), (False, True, True), id="going, still serving"
        ),
        pytest.param(
            {}, pod("1", ready=False, deletionTimestamp="now"), (False, False, True), id="going"
        ),
        pytest.param(
            {"publishNotReadyAddresses": True},
            pod("1", ready=False),
            (True, True, False),
            id="published all the same",
        ),
    ],
)
def test_conditions(spec: Object, one: Object, conditions: tuple[bool, bool, bool]) -> None:
    [endpoint] = wanted_slices(service(**spec), [one])[0]["endpoints"]
    assert endpoint["conditions"] == dict(
        zip(("ready", "serving", "terminating"), conditions, strict=True)
    )


def test_finished_pods_and_pods_without_address_have_no_endpoint() -> None:
    ended, early = pod("1"), pod("2")
    ended["status"]["phase"] = "Succeeded"
    del early["status"]["podIP"]
    assert wanted_slices(service(), [ended, early])[0]["endpoints"] == []


def test_pods_whose_named_port_differs_are_apart() -> None:
    by_name = service(ports=[{"port": 80, "targetPort": "web"}])
    slices = wanted_slices(by_name, [pod("1"), pod("2", port=9090), pod("3")])
    assert [
        (s["ports"][0]["port"], [e["targetRef"]["name"] for e in s["endpoints"]]) for s in slices
    ] == [(8080, ["1", "3"]), (9090, ["2"])]


def test_a_hundred_endpoints_a_slice() -> None:
    slices = wanted_slices(service(), [pod(str(number)) for number in range(101)])
    assert [len(s["endpoints"]) for s in slices] == [100, 1]


@pytest.mark.parametrize(
    ("port", "number"),
    [
        pytest.param({"port": 80}, 80, id="the port itself"),
        pytest.param({"port": 80, "targetPort": 8080}, 8080, id="a number"),
        pytest.param({"port": 80, "targetPort": "web"}, 8080, id="a container's"),
        pytest.param({"port": 80, "targetPort": "health"}, 15021, id="a native sidecar's"),
        pytest.param({"port": 80, "targetPort": "web", "protocol": "UDP"}, None, id="other kind"),
        pytest.param({"port": 80, "targetPort": "none"}, None, id="unknown"),
    ],
)
def test_target_number(port: Object, number: int | None) -> None:
    one = pod("1")
    one["spec"]["initContainers"] = [
        {"ports": [{"name": "none", "containerPort": 1}]},
        {"restartPolicy": "Always", "ports": [{"name": "health", "containerPort": 15021}]},
    ]
    assert target_number(port, one) == number


def test_sends_to() -> None:
    assert sends_to(service(), {"app": "web", "x": "y"})
    assert not sends_to(service(selector=None), {"app": "web"})


def test_pair_keeps_slices_and_touches_only_what_differs() -> None:
    one, two = wanted_slices(service(), [pod("1")]), wanted_slices(service(), [pod("2")])
    other = wanted_slices(service(ports=[]), [])
    assert pair(one, one) == ([], [], [])
    assert pair(one, []) == (one, [], [])
    assert pair(two, one) == ([], [(one[0], two[0])], [])
    assert pair(two, [*other, *one]) == ([], [(one[0], two[0])], other)

from typing import Any

import pytest

from meshlab.change import Acknowledged, Change, Changes, bare, diff, reference, to_yaml


def service(weight: int, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "bluegreen", **metadata},
        "spec": {"hosts": ["bluegreen"], "weight": weight},
        "status": {"conditions": []},
    }


def test_bare_is_what_people_wrote() -> None:
    notes = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x"}
    stored = service(1, uid="u", resourceVersion="7", annotations=notes)
    assert bare(stored) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "bluegreen", "annotations": {"note": "x"}},
        "spec": {"hosts": ["bluegreen"], "weight": 1},
    }


def test_diff() -> None:
    assert diff(service(50), service(20, uid="u")) == [
        " spec:",
        "   hosts:",
        "   - bluegreen",
        "-  weight: 50",
        "+  weight: 20",
    ]
    assert diff(service(1), service(1)) == []
    assert diff(service(1), None)[0] == "-apiVersion: networking.istio.io/v1"


def test_reference() -> None:
    assert reference(service(1)) == "virtualservice.networking.istio.io/bluegreen"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    assert reference(pod) == "pod/a"


@pytest.mark.parametrize(
    ("acknowledged", "text"),
    [
        pytest.param(
            Acknowledged(synced=True, seconds=0.0844, proxies=["a", "b"]),
            "in force after 84 ms: 2 proxies acknowledged",
            id="all",
        ),
        pytest.param(
            Acknowledged(synced=True, seconds=0.012, proxies=[]),
            "in force after 12 ms: no proxy needed it",
            id="none concerned",
        ),
        pytest.param(
            Acknowledged(
                synced=False,
                seconds=5.0,
                proxies=["a"],
                pending={
                    "sidecar~10.244.0.5~blue-1.shop~shop.svc.cluster.local": "refused it: port 0"
                },
            ),
            "not in force everywhere after 5.0 s: blue-1.shop refused it: port 0",
            id="one is missing",
        ),
    ],
)
def test_acknowledged(acknowledged: Acknowledged, text: str) -> None:
    assert str(acknowledged) == text


def test_changes_show_themselves() -> None:
    late = Acknowledged(synced=False, seconds=5.0, proxies=[])
    changes = Changes(
        changes=[Change(reference="a/b", verb="configured", diff=["-<x"], acknowledged=late)],
        command="kubectl apply -f x.yaml",
    )
    assert not changes.in_force
    assert changes.text() == (
        "a/b configured\n  -<x\n"
        "  not in force everywhere after 5.0 s: no answer\n"
        "$ kubectl apply -f x.yaml"
    )
    assert "<span style='color: #d0483e;'>  -&lt;x</span>" in changes.html()


def test_yaml_has_no_anchors() -> None:
    port = {"number": 80}
    assert to_yaml({"a": port, "b": port}) == "a:\n  number: 80\nb:\n  number: 80\n"

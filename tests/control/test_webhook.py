"""AdmissionReview in, AdmissionReview out."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from meshlab.control.inject import InjectSettings
from meshlab.control.registry.store import NAMESPACES, Store
from meshlab.control.serve.metric import Metrics
from meshlab.control.snapshot import Mesh
from meshlab.control.webhook import Webhook, native_sidecars

POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}


@pytest.fixture
def client() -> Starlette:
    store = Store(Mesh(trust_domain="example.org"), lambda: None)
    labels = {"istio-injection": "enabled"}
    store.change(NAMESPACES, "ADDED", {"metadata": {"name": "shop", "labels": labels}})
    store.change(NAMESPACES, "ADDED", {"metadata": {"name": "plain"}})
    return Webhook(store, InjectSettings(), Metrics()).app()


def review(client: Starlette, path: str, obj: Any, namespace: str = "shop") -> Any:
    request = {"uid": "u-1", "namespace": namespace, "object": obj, "operation": "CREATE"}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(client)
        async with httpx.AsyncClient(transport=transport, base_url="http://webhook") as sender:
            return await sender.post(path, json=body)

    answer = asyncio.run(post()).json()
    assert (answer["kind"], answer["response"]["uid"]) == ("AdmissionReview", "u-1")
    return answer["response"]


@pytest.mark.parametrize("path", ["/inject", "/inject/cluster/c/net/n"])
def test_a_pod_is_patched_with_the_meshs_own_settings(client: Starlette, path: str) -> None:
    response = review(client, path, POD)
    patch = json.loads(base64.b64decode(response["patch"]))
    init = next(op for op in patch if op["path"] == "/spec/initContainers")
    env = {e["name"]: e.get("value") for e in init["value"][1]["env"]}
    assert (response["allowed"], response["patchType"]) == (True, "JSONPatch")
    assert env["TRUST_DOMAIN"] == "example.org"


def test_a_pod_that_is_left_alone_has_no_patch(client: Starlette) -> None:
    assert review(client, "/inject", POD, "plain") == {"uid": "u-1", "allowed": True}


def test_an_annotation_that_cannot_be_followed_refuses_the_pod(client: Starlette) -> None:
    meta = {"name": "p", "annotations": {"proxy.istio.io/config": "[1]"}}
    response = review(client, "/inject", {**POD, "metadata": meta})
    assert not response["allowed"]
    assert "proxy.istio.io/config" in response["status"]["message"]


def test_a_wrong_object_is_refused_with_its_field(client: Starlette) -> None:
    route = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {}}]}]},
    }
    response = review(client, "/validate", route)
    assert not response["allowed"]
    assert "spec.http[0].route[0].destination.host" in response["status"]["message"]


@pytest.mark.parametrize(
    ("version", "native"), [((1, 28), False), ((1, 29), True), ((1, 31), True), ((2, 0), True)]
)
def test_native_sidecars(version: tuple[int, int], *, native: bool) -> None:
    assert native_sidecars(version) is native

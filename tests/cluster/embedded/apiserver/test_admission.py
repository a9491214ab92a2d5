"""Webhooks: whom they are asked about, over real TLS, and what becomes of their answers."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshlab.cluster.embedded.apiserver import pki
from meshlab.cluster.embedded.apiserver.admission import matching_version
from meshlab.cluster.embedded.apiserver.builtin import DEPLOYMENTS
from meshlab.cluster.embedded.apiserver.call import Call
from meshlab.cluster.embedded.client import ApiError, Client

Json = dict[str, Any]

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"


def rule(
    operations: str = "CREATE",
    groups: str = "apps",
    versions: str = "v1",
    resources: str = "deployments",
    scope: str = "*",
) -> Json:
    return {
        "operations": operations.split(),
        "apiGroups": groups.split() or [""],
        "apiVersions": versions.split(),
        "resources": resources.split(),
        "scope": scope,
    }


@pytest.mark.parametrize(
    ("rules", "operation", "subresource", "matched"),
    [
        pytest.param([rule()], "CREATE", "", True, id="exact"),
        pytest.param([rule()], "UPDATE", "", False, id="operation"),
        pytest.param([rule("*")], "DELETE", "", True, id="all operations"),
        pytest.param([rule(groups="batch")], "CREATE", "", False, id="group"),
        pytest.param([rule(groups="*", versions="*", resources="*")], "CREATE", "", True, id="all"),
        pytest.param([rule(versions="v2")], "CREATE", "", False, id="version"),
        pytest.param([rule(resources="pods")], "CREATE", "", False, id="resource"),
        pytest.param([rule(resources="pods"), rule()], "CREATE", "", True, id="second rule"),
        pytest.param([rule()], "CREATE", "status", False, id="no subresource"),
        pytest.param([rule(resources="deployments/status")], "CREATE", "status", True, id="status"),
        pytest.param([rule(resources="deployments/*")], "CREATE", "scale", True, id="any part"),
        pytest.param([rule(resources="*/scale")], "CREATE", "scale", True, id="part of any"),
        pytest.param([rule(resources="*")], "CREATE", "scale", False, id="* has no parts"),
        pytest.param([rule(scope="Namespaced")], "CREATE", "", True, id="namespaced"),
        pytest.param([rule(scope="Cluster")], "CREATE", "", False, id="cluster"),
        pytest.param([], "CREATE", "", False, id="no rules"),
    ],
)
def test_rules(rules: list[Json], operation: str, subresource: str, matched: bool) -> None:
    call = Call(resource=DEPLOYMENTS, version=DEPLOYMENTS.stored, subresource=subresource)
    assert (matching_version(rules, call, operation) is not None) is matched


@dataclass
class Webhook:
    """A webhook served on loopback, with a certificate for hook.hooks.svc."""

    answer: Callable[[Json], Json]
    delay: float = 0.0
    asked: list[Json] = field(default_factory=list)
    port: int = 0
    ca_bundle: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.split("content-length: ")[1].split("\r\n")[0])
        review = json.loads(await reader.readexactly(size))
        self.asked.append(review["request"])
        await asyncio.sleep(self.delay)
        response = {"uid": review["request"]["uid"], **self.answer(review["request"])}
        body = json.dumps({**review, "response": response}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    def client_config(self) -> Json:
        service = {"name": "hook", "namespace": "hooks", "path": "/inject"}
        return {"service": service, "caBundle": self.ca_bundle}


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, bytes]:
    """Return a server's context and the PEM of the CA that signed it."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    ca = (
        pki._builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        pki._builder(x509.Name([]), ca_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = directory / f"{name}.pem"
    path.write_bytes(leaf.public_bytes(pem) + pki.key_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, ca.public_bytes(pem)


@asynccontextmanager
async def serving(
    client: Client, webhook: Webhook, directory: Path, name: str = "hook.hooks.svc"
) -> AsyncIterator[Webhook]:
    """Serve a webhook behind Service hook in namespace hooks."""
    context, ca = certificate(directory, name)
    webhook.ca_bundle = base64.b64encode(ca).decode()
    server = await asyncio.start_server(webhook.serve, "127.0.0.1", 0, ssl=context)
    webhook.port = server.sockets[0].getsockname()[1]
    await client.create("namespaces", {"metadata": {"name": "hooks"}})
    service = {"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443, "name": "https"}]}}
    await client.create("services", service, "hooks")
    endpoints = {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": webhook.port}],
        "endpoints": [
            {"addresses": ["127.0.0.9"], "conditions": {"ready": False}},
            {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
        ],
    }
    await client.create("endpointslices.discovery.k8s.io", endpoints, "hooks")
    try:
        yield webhook
    finally:
        server.close()
        await server.wait_closed()


def configuration(webhook: Webhook, **more: Any) -> Json:
    entry = {
        "name": "hook.example.com",
        "clientConfig": webhook.client_config(),
        "rules": [rule("CREATE UPDATE DELETE", "", "v1", "configmaps")],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }
    return {"metadata": {"name": "hook"}, "webhooks": [entry]}


def config_map(name: str = "c", **labels: str) -> Json:
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}}


def patching(*operations: Json) -> Callable[[Json], Json]:
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": patch}


async def refused(work: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await work
    return caught.value


def test_mutates(run: Any, tmp_path: Path) -> None:
    patch = patching({"op": "add", "path": "/data", "value": {"injected": "yes"}})

    async def body(client: Client) -> None:
        async with serving(client, Webhook(patch), tmp_path) as webhook:
            await client.create(MUTATING, configuration(webhook))
            made = await client.create("configmaps", config_map())
            assert made["data"] == {"injected": "yes"}
            (asked,) = webhook.asked
            assert (asked["operation"], asked["name"], asked["namespace"], asked["dryRun"]) == (
                "CREATE",
                "c",
                "default",
                False,
            )
            assert asked["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
            assert asked["object"]["metadata"]["name"] == "c"
            assert asked["oldObject"] is None

    run(body)


def test_a_mutation_is_validated(run: Any, tmp_path: Path) -> None:
    patch = patching({"op": "add", "path": "/data", "value": {"no such/key": "x"}})

    async def body(client: Client) -> None:
        async with serving(client, Webhook(patch), tmp_path) as webhook:
            await client.create(MUTATING, configuration(webhook))
            assert (await refused(client.create("configmaps", config_map()))).status_code == 422

    run(body)


def test_denies_and_warns(run: Any, tmp_path: Path) -> None:
    def answer(request: Json) -> Json:
        if request["operation"] == "DELETE":
            assert request["object"] is None
            assert request["oldObject"]["metadata"]["name"] == "c"
            return {"allowed": False, "status": {"message": "keep it", "code": 409}}
        labels = request["object"]["metadata"].get("labels", {})
        return {"allowed": "bad" not in labels, "status": {"message": "no bad ones"}}

    async def body(client: Client) -> None:
        async with serving(client, Webhook(answer), tmp_path) as webhook:
            await client.create(VALIDATING, configuration(webhook))
            error = await refused(client.create("configmaps", config_map(bad="x")))
            assert (error.status_code, error.reason) == (403, "Forbidden")
            assert error.message == (
                'admission webhook "hook.example.com" denied the request: no bad ones'
            )
            await client.create("configmaps", config_map())
            error = await refused(client.delete("configmaps", "c", "default"))
            assert error.status_code == 409

    run(body)


@pytest.mark.parametrize(
    ("more", "name", "asked"),
    [
        pytest.param({}, "web", True, id="no selectors"),
        pytest.param({"objectSelector": {"matchLabels": {"app": "web"}}}, "web", True, id="object"),
        pytest.param(
            {"objectSelector": {"matchLabels": {"app": "api"}}}, "web", False, id="other object"
        ),
        pytest.param(
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}},
            "web",
            True,
            id="namespace",
        ),
        pytest.param(
            {
                "namespaceSelector": {
                    "matchExpressions": [{"key": "istio-injection", "operator": "Exists"}]
                }
            },
            "web",
            False,
            id="other namespace",
        ),
    ],
)
def test_selectors(run: Any, tmp_path: Path, more: Json, name: str, asked: bool) -> None:
    async def body(client: Client) -> None:
        async with serving(client, Webhook(lambda _: {"allowed": True}), tmp_path) as webhook:
            await client.create(VALIDATING, configuration(webhook, **more))
            await client.create("configmaps", config_map(app=name))
            assert bool(webhook.asked) is asked

    run(body)


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(
    ("breakage", "why"),
    [
        ("slow", "context deadline exceeded"),
        ("certificate", "Hostname mismatch"),
        ("endpoint", 'no endpoints available for service "hook"'),
        ("trust", "certificate verify failed"),
    ],
)
def test_unreachable(run: Any, tmp_path: Path, policy: str, breakage: str, why: str) -> None:
    async def body(client: Client) -> None:
        webhook = Webhook(lambda _: {"allowed": True}, delay=3.0 if breakage == "slow" else 0.0)
        name = "other.hooks.svc" if breakage == "certificate" else "hook.hooks.svc"
        async with serving(client, webhook, tmp_path, name):
            if breakage == "endpoint":
                await client.delete("endpointslices.discovery.k8s.io", "hook-1", "hooks")
            if breakage == "trust":
                _, other = certificate(tmp_path, "else")
                webhook.ca_bundle = base64.b64encode(other).decode()
            hook = configuration(webhook, failurePolicy=policy, timeoutSeconds=1)
            await client.create(VALIDATING, hook)
            if policy == "Ignore":
                assert await client.create("configmaps", config_map())
                return
            error = await refused(client.create("configmaps", config_map()))
            assert (error.status_code, error.reason) == (500, "InternalError")
            assert error.message.startswith(
                'Internal error occurred: failed calling webhook "hook.example.com": '
            )
            assert why in error.message

    run(body)

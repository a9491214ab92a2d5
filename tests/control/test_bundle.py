"""Trust that starts by itself, against a fake API server."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_api import FakeApi
from fixtures.fake_cluster import fake_cluster

from meshlab.control import bundle
from meshlab.control.bundle import RootKeeper, WebhookKeeper
from meshlab.control.registry.api import CONFIG_MAPS, Api, from_kubeconfig
from meshlab.errors import ConfigError

Scenario = Callable[[FakeApi, Api], Awaitable[None]]
NAMESPACE = "istio-system"


def run(tmp_path: Path, scenario: Scenario) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), fake_cluster(tmp_path) as (fake, kubeconfig):
            api = Api(from_kubeconfig(kubeconfig))
            try:
                await scenario(fake, api)
            finally:
                await api.close()

    asyncio.run(whole())


def test_replicas_that_start_together_agree_on_one_root(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, api: Api) -> None:
        replicas = [bundle.authority(api, NAMESPACE, "cluster.local") for _ in range(3)]
        roots = {authority.root_pem for authority in await asyncio.gather(*replicas)}
        assert len(roots) == 1
        assert list(fake.objects["secrets"]) == [(NAMESPACE, bundle.OWN_SECRET)]

    run(tmp_path, scenario)


def test_a_plugged_in_ca_comes_first(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, api: Api) -> None:
        own = await bundle.authority(api, NAMESPACE, "cluster.local")
        data = {"ca-cert.pem": own.certificate_pem, "ca-key.pem": own.key_pem}
        encoded = {k: base64.b64encode(v).decode() for k, v in data.items()}
        meta = {"name": bundle.PLUGGED_IN, "namespace": NAMESPACE}
        fake.put("secrets", {"metadata": meta, "data": encoded})
        fake.delete("secrets", NAMESPACE, bundle.OWN_SECRET)
        again = await bundle.authority(api, NAMESPACE, "cluster.local")
        assert again.root_pem == own.root_pem
        assert (NAMESPACE, bundle.OWN_SECRET) not in fake.objects["secrets"]

    run(tmp_path, scenario)


def test_a_secret_that_cannot_be_used_is_named_and_kept(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, api: Api) -> None:
        meta = {"name": bundle.OWN_SECRET, "namespace": NAMESPACE}
        fake.put("secrets", {"metadata": meta, "data": {}})
        with pytest.raises(ConfigError, match=r"istio-system/istio-ca-secret: data\.ca-cert"):
            await bundle.authority(api, NAMESPACE, "cluster.local")

    run(tmp_path, scenario)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the fake's state
        await asyncio.sleep(0.01)


def test_the_root_reaches_every_namespace_and_comes_back(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, api: Api) -> None:
        namespaces: dict[str, Any] = {"default": {"metadata": {"name": "default"}}}
        namespaces["going"] = {"metadata": {"name": "going", "deletionTimestamp": "now"}}
        keeper = RootKeeper(api, b"the root", lambda: namespaces)
        running = asyncio.ensure_future(keeper.run())
        place = ("default", bundle.ROOT_CONFIG_MAP)
        held = fake.objects["configmaps"]
        await until(lambda: place in held)
        assert held[place]["data"] == {"root-cert.pem": "the root"}

        wrong = fake.put("configmaps", {**held[place], "data": {"root-cert.pem": "another"}})
        keeper.change(CONFIG_MAPS, "MODIFIED", wrong)
        await until(lambda: held[place]["data"] == {"root-cert.pem": "the root"})

        namespaces["shop"] = {"metadata": {"name": "shop"}}
        keeper.changed.set()
        await until(lambda: ("shop", bundle.ROOT_CONFIG_MAP) in held)
        assert ("going", bundle.ROOT_CONFIG_MAP) not in held
        running.cancel()

    run(tmp_path, scenario)


def test_webhooks_get_the_root_and_validation_becomes_strict(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, api: Api) -> None:
        hook = {"name": "v", "clientConfig": {"service": {}}, "failurePolicy": "Ignore"}
        names = {bundle.INJECTORS.name: "injector", bundle.VALIDATORS.name: "validator"}
        for resource in (bundle.INJECTORS, bundle.VALIDATORS):
            obj = {"metadata": {"name": names[resource.name]}, "webhooks": [hook]}
            fake.put(resource.plural, obj)
        keeper = WebhookKeeper(api, b"the root", names)
        for resource in (bundle.INJECTORS, bundle.VALIDATORS):
            keeper.replace(resource, list(fake.objects[resource.plural].values()))
        assert not keeper.good.is_set()
        running = asyncio.ensure_future(keeper.run())
        await keeper.good.wait()
        root = base64.b64encode(b"the root").decode()
        found = {
            resource.plural: [
                (h["clientConfig"]["caBundle"], h["failurePolicy"])
                for obj in fake.objects[resource.plural].values()
                for h in obj["webhooks"]
            ]
            for resource in (bundle.INJECTORS, bundle.VALIDATORS)
        }
        assert found == {
            bundle.INJECTORS.plural: [(root, "Ignore")],
            bundle.VALIDATORS.plural: [(root, "Fail")],
        }
        running.cancel()

    run(tmp_path, scenario)

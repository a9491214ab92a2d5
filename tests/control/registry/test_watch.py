"""List and watch against a server that breaks off, forgets and lacks kinds."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_api import FakeApi
from fixtures.fake_cluster import fake_cluster

from meshlab.control.registry.api import Api, Resource, core, from_kubeconfig
from meshlab.control.registry.watch import Watch

PODS = core("pods", "Pod")


class Seen:
    """What a watch reported."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lists = 0
        self.changed = asyncio.Event()

    def replace(self, resource: Resource, objects: list[Any]) -> None:
        del resource
        self.lists += 1
        self.names = {obj["metadata"]["name"] for obj in objects}
        self.changed.set()

    def change(self, resource: Resource, event: str, obj: Any) -> None:
        del resource
        name = obj["metadata"]["name"]
        (self.names.discard if event == "DELETED" else self.names.add)(name)
        self.changed.set()

    async def until(self, *names: str) -> None:
        while self.names != set(names):
            self.changed.clear()
            await self.changed.wait()


def pod(name: str) -> Any:
    return {"metadata": {"name": name, "namespace": "shop"}}


Scenario = Callable[[FakeApi, Watch, Seen], Awaitable[None]]


def run(tmp_path: Path, scenario: Scenario, *, absent: bool = False) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), fake_cluster(tmp_path) as (fake, kubeconfig):
            if absent:
                fake.absent.add("pods")
            fake.put("pods", pod("first"))
            api, seen = Api(from_kubeconfig(kubeconfig)), Seen()
            watch = Watch(api, (PODS,), replace=seen.replace, change=seen.change)
            running = asyncio.ensure_future(watch.run())
            try:
                await watch.synced.wait()
                await scenario(fake, watch, seen)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await api.close()

    asyncio.run(whole())


def test_changes_arrive(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, watch: Watch, seen: Seen) -> None:
        await seen.until("first")
        fake.put("pods", pod("second"))
        await seen.until("first", "second")
        fake.delete("pods", "shop", "first")
        await seen.until("second")
        assert seen.lists == 1

    run(tmp_path, scenario)


def test_a_cut_stream_resumes_without_a_new_list(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, watch: Watch, seen: Seen) -> None:
        while not fake.watchers["pods"]:  # noqa: ASYNC110 - the fake's state
            await asyncio.sleep(0.01)
        fake.cut("pods")
        fake.put("pods", pod("second"))
        await seen.until("first", "second")
        assert seen.lists == 1

    run(tmp_path, scenario)


def test_a_forgotten_place_means_a_new_list(tmp_path: Path) -> None:
    async def scenario(fake: FakeApi, watch: Watch, seen: Seen) -> None:
        while not fake.watchers["pods"]:  # noqa: ASYNC110 - the fake's state
            await asyncio.sleep(0.01)
        fake.objects["pods"].clear()
        fake.expire("pods")
        await seen.until()
        assert seen.lists == 2

    run(tmp_path, scenario)


def test_a_kind_that_is_not_there_counts_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshlab.control.registry.watch.ABSENT_POLL", 0.01)

    async def scenario(fake: FakeApi, watch: Watch, seen: Seen) -> None:
        assert seen.names == set()
        fake.absent.clear()
        await seen.until("first")

    run(tmp_path, scenario, absent=True)

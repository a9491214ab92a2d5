"""A cluster in the test's process: the real API machinery and controllers, and a node that only
pretends: pods get an address and are ready as soon as they are bound."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from meshlab.cluster.embedded.apiserver.admission import Admission
from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.json_object import now
from meshlab.cluster.embedded.apiserver.machinery import Machinery
from meshlab.cluster.embedded.apiserver.store import Store
from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.controller import manager
from meshlab.cluster.embedded.state import State

Object = dict[str, Any]


class Cluster:
    """What a scenario works with."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.broken_images: set[str] = set()
        """Pods of these images never become ready."""
        self.most: dict[str, int] = {}
        """Per app label: the most pods there were at once."""
        self.fewest_ready: dict[str, int] = {}
        """Per app label: the fewest ready ones after `watch_availability` was called."""
        self._address = itertools.count(1)

    async def run_node(self) -> None:
        async for kind, pod in self.client.watch("pods"):
            if kind != "DELETED":
                await self._step(pod)
            self._count(pod)

    async def _step(self, pod: Object) -> None:
        metadata = pod["metadata"]
        where = metadata["name"], metadata["namespace"]
        try:
            if metadata.get("deletionTimestamp"):
                await self.client.delete(
                    "pods", *where, uid=metadata["uid"], grace_period_seconds=0
                )
            elif not pod["spec"].get("nodeName"):
                await self.client.patch("pods", where[0], {"spec": {"nodeName": "n"}}, where[1])
            elif not pod["status"].get("podIP"):
                ready = pod["spec"]["containers"][0]["image"] not in self.broken_images
                await self.client.patch(
                    "pods", where[0], self._status(ready), where[1], subresource="status"
                )
        except ApiError as error:
            if error.status_code != 404:
                raise

    def _status(self, ready: bool) -> Object:
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
        address = f"10.244.0.{next(self._address)}"
        return {"status": {"phase": "Running", "podIP": address, "conditions": [condition]}}

    def _count(self, pod: Object) -> None:
        app = pod["metadata"].get("labels", {}).get("app", "")
        pods = self.client.list("pods", label_selector=f"app={app}")
        alive = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
        self.most[app] = max(self.most.get(app, 0), len(alive))
        if app in self.fewest_ready:
            self.fewest_ready[app] = min(self.fewest_ready[app], self.ready(app))

    def ready(self, app: str) -> int:
        return sum(
            not p["metadata"].get("deletionTimestamp")
            and any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in p["status"].get("conditions") or ()
            )
            for p in self.client.list("pods", label_selector=f"app={app}")
        )

    def watch_availability(self, app: str) -> None:
        self.fewest_ready[app] = self.ready(app)
        self.most[app] = self.ready(app)

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until `holds` says something true, and return it."""
        async with asyncio.timeout(10):
            while not (found := holds()):  # noqa: ASYNC110 - any change may make it true
                await asyncio.sleep(0.005)
            return found

    async def settled(self, app: str, **counts: int) -> Object:
        """Wait until a Deployment's status has these counts and is up to date; return it."""

        def holds() -> Object | None:
            found = self.deployment(app)
            status = found.get("status", {})
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            fits = all(status.get(name, 0) == count for name, count in counts.items())
            return found if current and fits else None

        found: Object = await self.until(holds)
        return found

    def deployment(self, app: str) -> Object:
        [found] = [d for d in self.client.list("deployments.apps") if d["metadata"]["name"] == app]
        return found

    def sets(self, app: str) -> dict[str, int]:
        """Return image → replicas of a Deployment's ReplicaSets."""
        return {
            s["spec"]["template"]["spec"]["containers"][0]["image"]: s["spec"]["replicas"]
            for s in self.client.list("replicasets.apps", label_selector=f"app={app}")
        }

    async def apply(self, app: str, image: str, replicas: int, **spec: Any) -> Object:
        labels = {"app": app}
        container = {"name": "c", "image": image}
        made = {
            "metadata": {"name": app, "namespace": "shop"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                **spec,
            },
        }
        try:
            return await self.client.create("deployments.apps", made, "shop")
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        return await self.client.patch("deployments.apps", app, {"spec": made["spec"]}, "shop")

    def events(self, reason: str) -> list[str]:
        found = [e for e in self.client.list("events") if e["reason"] == reason]
        found.sort(key=lambda e: int(e["metadata"]["resourceVersion"]))
        return [e["message"] for e in found]


Scenario = Callable[[Cluster], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Scenario], None]:
    """Return what runs a scenario in a fresh cluster with a namespace `shop`."""

    async def play(scenario: Scenario) -> None:
        state = State(tmp_path / "state.db")

        async def no_webhooks(_webhook: Object, _review: Object) -> Object:
            raise AssertionError("no webhook is configured")

        store = Store(state)
        machinery = Machinery(store, Catalog(), Admission(store, no_webhooks))
        client = Client(machinery, None, "CA")  # type: ignore[arg-type]  # no tokens here
        cluster = Cluster(client)
        await client.create("namespaces", {"metadata": {"name": "shop"}})
        tasks = [*manager.start(client), asyncio.ensure_future(cluster.run_node())]
        try:
            waiting = asyncio.ensure_future(scenario(cluster))
            done, _ = await asyncio.wait(
                [*tasks, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=30
            )
            assert done, "the scenario takes more than 30 s"
            for task in done:
                task.result()
            assert waiting in done, "a controller ended"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            state.close()

    return lambda scenario: asyncio.run(play(scenario))

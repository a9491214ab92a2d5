"""Owners and dependents against the real API machinery, in process."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[Any], None]
SETS = "replicasets.apps"


def sizes(cluster: Any) -> tuple[int, int, int]:
    """Return how many Deployments, ReplicaSets and pods there are."""
    kinds = ("deployments.apps", SETS, "pods")
    counts = [len(cluster.client.list(kind, "shop")) for kind in kinds]
    return counts[0], counts[1], counts[2]


async def start(cluster: Any) -> None:
    await cluster.apply("web", "v1", 2)
    await cluster.settled("web", availableReplicas=2)


@pytest.mark.parametrize("policy", [None, "Background", "Foreground"])
def test_dependents_go_with_their_owner(run: Run, policy: str | None) -> None:
    async def scenario(cluster: Any) -> None:
        await start(cluster)
        await cluster.client.delete("deployments.apps", "web", "shop", propagation_policy=policy)
        await cluster.until(lambda: sizes(cluster) == (0, 0, 0))

    run(scenario)


def test_in_the_foreground_the_owner_goes_last(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await start(cluster)
        order: list[str] = []

        def note(kind: str) -> Callable[[Any], None]:
            return lambda change: order.append(kind) if change.type == "DELETED" else None

        for kind in ("deployments.apps", SETS, "pods"):
            cluster.client._machinery.store.on_change(kind, note(kind))
        await cluster.client.delete(
            "deployments.apps", "web", "shop", propagation_policy="Foreground"
        )
        await cluster.until(lambda: sizes(cluster) == (0, 0, 0))
        assert order == ["pods", "pods", SETS, "deployments.apps"]

    run(scenario)


def test_orphans_stay_and_are_adopted(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await start(cluster)
        before = {p["metadata"]["uid"] for p in cluster.client.list("pods")}
        await cluster.client.delete("deployments.apps", "web", "shop", propagation_policy="Orphan")
        await cluster.until(lambda: sizes(cluster) == (0, 1, 2))
        [left] = cluster.client.list(SETS, "shop")
        assert not left["metadata"].get("ownerReferences")
        await start(cluster)
        assert sizes(cluster) == (1, 1, 2)
        assert {p["metadata"]["uid"] for p in cluster.client.list("pods")} == before

    run(scenario)


def test_an_owner_that_never_was(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await start(cluster)
        deployment = cluster.deployment("web")
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}

        def owned(name: str, uid: str) -> dict[str, Any]:
            return {"metadata": {"name": name, "ownerReferences": [{**owner, "uid": uid}]}}

        await cluster.client.create("configmaps", owned("mine", deployment["metadata"]["uid"]),
                                    "shop")  # fmt: skip
        await cluster.client.create("configmaps", owned("stray", "no-such-uid"), "shop")

        def left() -> set[str]:
            names = {c["metadata"]["name"] for c in cluster.client.list("configmaps", "shop")}
            return names & {"mine", "stray"}

        await cluster.until(lambda: left() == {"mine"})

    run(scenario)


def test_of_two_owners_one_suffices(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        uids = []
        for name in ("one", "two"):
            made = await cluster.client.create("configmaps", {"metadata": {"name": name}}, "shop")
            uids.append(made["metadata"]["uid"])
        owners = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}
            for name, uid in zip(("one", "two"), uids, strict=True)
        ]
        shared = {"metadata": {"name": "shared", "ownerReferences": owners}}
        await cluster.client.create("configmaps", shared, "shop")
        await cluster.client.delete("configmaps", "one", "shop")

        def owners_left() -> Any:
            found = [
                c
                for c in cluster.client.list("configmaps", "shop")
                if c["metadata"]["name"] == "shared"
            ]
            return [o["name"] for o in found[0]["metadata"]["ownerReferences"]] if found else []

        await cluster.until(lambda: owners_left() == ["two"])
        await cluster.client.delete("configmaps", "two", "shop")
        await cluster.until(lambda: owners_left() == [])

    run(scenario)

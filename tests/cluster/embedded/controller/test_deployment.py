"""Deployments and ReplicaSets against the real API machinery, in process."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from meshlab.cluster.embedded.controller import revision

Run = Callable[[Any], None]

ROLLING = {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}


def test_pods_come_and_the_status_says_so(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 3)
        found = await cluster.settled("web", availableReplicas=3)
        assert {k: v for k, v in found["status"].items() if k != "conditions"} == {
            "observedGeneration": 1,
            "replicas": 3,
            "updatedReplicas": 3,
            "readyReplicas": 3,
            "availableReplicas": 3,
        }
        conditions = {c["type"]: c["reason"] for c in found["status"]["conditions"]}
        assert conditions == {
            "Available": "MinimumReplicasAvailable",
            "Progressing": "NewReplicaSetAvailable",
        }
        assert found["metadata"]["annotations"][revision.REVISION] == "1"
        [replica_set] = cluster.client.list("replicasets.apps", "shop")
        assert cluster.events("ScalingReplicaSet") == [
            f"Scaled up replica set {replica_set['metadata']['name']} from 0 to 3"
        ]
        assert len(cluster.events("SuccessfulCreate")) == 3
        assert len(cluster.client.list("pods", "shop")) == 3

    run(scenario)


def test_a_rolling_update_keeps_its_limits(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 3, **ROLLING)
        await cluster.settled("web", availableReplicas=3)
        cluster.watch_availability("web")
        await cluster.apply("web", "v2", 3, **ROLLING)
        await cluster.settled("web", updatedReplicas=3, replicas=3, availableReplicas=3)
        assert cluster.sets("web") == {"v1": 0, "v2": 3}
        assert cluster.most["web"] == 4
        assert cluster.fewest_ready["web"] >= 2

    run(scenario)


def test_a_broken_revision_stops_and_undo_brings_the_old_one_back(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        cluster.broken_images.add("bad")
        await cluster.apply("web", "v1", 3, **ROLLING)
        before = await cluster.settled("web", availableReplicas=3)
        await cluster.apply("web", "bad", 3, **ROLLING)
        await cluster.until(lambda: cluster.sets("web") == {"v1": 2, "bad": 2})
        await cluster.settled("web", updatedReplicas=2, availableReplicas=2)
        # kubectl rollout undo puts the template of the older ReplicaSet back.
        template = before["spec"]["template"]
        await cluster.client.patch(
            "deployments.apps",
            "web",
            [{"op": "replace", "path": "/spec/template", "value": template}],
            "shop",
            kind="json",
        )
        found = await cluster.settled("web", updatedReplicas=3, replicas=3, availableReplicas=3)
        assert cluster.sets("web") == {"v1": 3, "bad": 0}
        assert found["metadata"]["annotations"][revision.REVISION] == "3"
        numbers = {revision.revision_of(s) for s in cluster.client.list("replicasets.apps")}
        assert numbers == {2, 3}

    run(scenario)


def test_recreate_starts_when_the_last_old_pod_is_gone(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        strategy = {"strategy": {"type": "Recreate", "rollingUpdate": None}}
        await cluster.apply("web", "v1", 2, **strategy)
        await cluster.settled("web", availableReplicas=2)
        cluster.watch_availability("web")
        await cluster.apply("web", "v2", 2, **strategy)
        await cluster.settled("web", updatedReplicas=2, replicas=2, availableReplicas=2)
        assert (cluster.most["web"], cluster.fewest_ready["web"]) == (2, 0)

    run(scenario)


def test_scale(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 1)
        await cluster.settled("web", availableReplicas=1)
        for replicas in (4, 0, 2):
            await cluster.client.patch(
                "deployments.apps", "web", {"spec": {"replicas": replicas}}, "shop"
            )
            await cluster.settled("web", replicas=replicas, availableReplicas=replicas)
            await cluster.until(lambda n=replicas: len(cluster.client.list("pods")) == n)
        assert [m.rsplit(" ", 4)[1:] for m in cluster.events("ScalingReplicaSet")] == [
            ["from", "0", "to", "1"],
            ["from", "1", "to", "4"],
            ["from", "4", "to", "0"],
            ["from", "0", "to", "2"],
        ]

    run(scenario)


def test_paused_changes_nothing_but_the_size(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 1)
        await cluster.settled("web", availableReplicas=1)
        await cluster.apply("web", "v2", 3, paused=True)
        await cluster.settled("web", replicas=3, availableReplicas=3)
        assert cluster.sets("web") == {"v1": 3}
        await cluster.apply("web", "v2", 3, paused=False)
        await cluster.settled("web", updatedReplicas=3, replicas=3, availableReplicas=3)
        assert cluster.sets("web") == {"v1": 0, "v2": 3}

    run(scenario)


def test_scaling_in_the_middle_of_a_rollout_keeps_its_proportions(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        cluster.broken_images.add("bad")
        await cluster.apply("web", "v1", 4, **ROLLING)
        await cluster.settled("web", availableReplicas=4)
        await cluster.apply("web", "bad", 4, **ROLLING)
        await cluster.until(lambda: cluster.sets("web") == {"v1": 3, "bad": 2})
        await cluster.settled("web", updatedReplicas=2, availableReplicas=3)
        await cluster.apply("web", "bad", 9, **ROLLING)
        await cluster.settled("web", replicas=10, updatedReplicas=4)
        await cluster.until(lambda: cluster.sets("web") == {"v1": 6, "bad": 4})

    run(scenario)


def test_old_revisions_beyond_the_limit_go(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        for number in range(4):
            await cluster.apply("web", f"v{number}", 1, revisionHistoryLimit=1)
            await cluster.settled("web", updatedReplicas=1, replicas=1, availableReplicas=1)
        await cluster.until(lambda: cluster.sets("web") == {"v2": 0, "v3": 1})

    run(scenario)


def test_min_ready_seconds(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 1, minReadySeconds=2)
        found = await cluster.settled("web", readyReplicas=1)
        assert found["status"].get("availableReplicas", 0) == 0
        start = time.monotonic()
        await cluster.settled("web", availableReplicas=1)
        assert time.monotonic() - start > 0.5

    run(scenario)


def test_a_pod_without_the_label_is_released_and_replaced(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 1)
        await cluster.settled("web", availableReplicas=1)
        [pod] = cluster.client.list("pods")
        name = pod["metadata"]["name"]
        await cluster.client.patch("pods", name, {"metadata": {"labels": {"app": "x"}}}, "shop")
        await cluster.until(lambda: len(cluster.client.list("pods")) == 2)
        released = await cluster.client.get("pods", name, "shop")
        assert not released["metadata"].get("ownerReferences")
        await cluster.client.patch("pods", name, {"metadata": {"labels": {"app": "web"}}}, "shop")
        await cluster.until(lambda: len(cluster.client.list("pods")) == 1)

    run(scenario)


def test_a_lost_pod_is_replaced(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 2)
        await cluster.settled("web", availableReplicas=2)
        names = {p["metadata"]["name"] for p in cluster.client.list("pods")}
        await cluster.client.delete("pods", min(names), "shop", grace_period_seconds=0)
        await cluster.until(lambda: cluster.ready("web") == 2)
        after = {p["metadata"]["name"] for p in cluster.client.list("pods")}
        assert len(names & after) == 1

    run(scenario)


def test_pods_that_are_refused_show_in_the_status_and_come_later(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        spec = {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "v1"}]}
        template = {"metadata": {"labels": {"app": "web"}}, "spec": spec}
        await cluster.apply("web", "v1", 1, template=template)

        def failure() -> Any:
            conditions = cluster.deployment("web").get("status", {}).get("conditions", ())
            return next((c for c in conditions if c["type"] == "ReplicaFailure"), None)

        found = await cluster.until(failure)
        assert found["reason"] == "FailedCreate"
        assert 'serviceaccount "robot" not found' in found["message"]
        await cluster.client.create("serviceaccounts", {"metadata": {"name": "robot"}}, "shop")
        await cluster.settled("web", availableReplicas=1)
        assert failure() is None

    run(scenario)


def test_a_thousand_deployments_of_no_replicas_are_no_burden(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        start = time.process_time()
        for number in range(1000):
            await cluster.apply(f"d{number}", "v1", 0)
            await asyncio.sleep(0)
        create = time.process_time() - start

        def settled() -> bool:
            found = cluster.client.list("deployments.apps")
            return all(d.get("status", {}).get("observedGeneration") == 1 for d in found)

        await cluster.until(settled)
        spent = time.process_time() - start
        assert len(cluster.client.list("replicasets.apps")) == 1000
        assert spent < 20, f"{spent:.1f} s of CPU, {create:.1f} s of it to create them"

    run(scenario)

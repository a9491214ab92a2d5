"""Deployments: a ReplicaSet per pod template, pods moved from one to the next (rolling, Recreate).

The decisions are `rollout` (how many pods), `revision` (which ReplicaSet) and `deployment_status`.
"""

import asyncio
from collections.abc import Sequence

from meshlab.cluster.embedded.apiserver.json_object import now
from meshlab.cluster.embedded.apiserver.selector import selects
from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.controller import revision
from meshlab.cluster.embedded.controller.deployment_status import deadline_left, next_status
from meshlab.cluster.embedded.controller.informer import (
    Informer,
    Key,
    Object,
    controller_of,
    key_of,
    labels_of,
    owner_or_orphan,
)
from meshlab.cluster.embedded.controller.queue import Queue, work
from meshlab.cluster.embedded.controller.rollout import (
    Limits,
    Revision,
    new_revision_size,
    proportional_scale,
    resolve_limits,
    rolling_update,
)

DEPLOYMENTS = "deployments.apps"
REPLICA_SETS = "replicasets.apps"
COMPONENT = "deployment-controller"


async def run(client: Client) -> None:
    """Keep every Deployment's ReplicaSets as its spec wants them, for ever."""
    await DeploymentController(client).run()


def limits_of(deployment: Object) -> Limits:
    """Return how far the strategy lets the number of pods leave `spec.replicas`."""
    spec = deployment["spec"]
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Limits(replicas=spec["replicas"])
    rolling = strategy.get("rollingUpdate") or {}
    return resolve_limits(
        spec["replicas"], rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%")
    )


class DeploymentController:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: Queue[Key] = Queue()
        self._deployments = Informer(client, DEPLOYMENTS)
        self._sets = Informer(client, REPLICA_SETS, index=owner_or_orphan)
        self._pods = Informer(client, "pods", index=owner_or_orphan)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deployments.run(self._deployment_changed))
            group.create_task(self._sets.run(self._set_changed))
            group.create_task(self._pods.run(self._pod_changed))
            group.create_task(work(self._queue, self.reconcile))

    def _deployment_changed(self, _before: Object | None, after: Object | None) -> None:
        if after is not None:
            self._queue.add(key_of(after))

    def _set_changed(self, before: Object | None, after: Object | None) -> None:
        for replica_set in (before, after):
            if replica_set is None:
                continue
            namespace = replica_set["metadata"]["namespace"]
            owner = controller_of(replica_set)
            if owner is not None:
                self._queue.add((namespace, owner["name"]))
            else:  # an orphan: whoever selects it may adopt it
                for deployment in self._deployments.indexed(namespace):
                    if selects(deployment["spec"]["selector"], labels_of(replica_set)):
                        self._queue.add(key_of(deployment))

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        """Recreate waits for the last old pod to be gone; nothing else here looks at pods."""
        owner = controller_of(before) if before is not None and after is None else None
        if before is None or owner is None:
            return
        replica_set = self._sets.get(before["metadata"]["namespace"], owner["name"])
        if replica_set is not None:
            self._set_changed(None, replica_set)

    async def reconcile(self, key: Key) -> None:
        deployment = self._deployments.get(*key)
        if deployment is None:
            return
        sets = self._sets.indexed(deployment["metadata"]["uid"])
        limits = limits_of(deployment)
        if deployment["metadata"].get("deletionTimestamp"):
            await self._write_status(deployment, limits, sets)
            return
        sets += await self._adopt(deployment)
        created = False
        if deployment["spec"].get("paused") or revision.scaled_since(deployment, sets):
            sets = await self._scale_all(deployment, limits, sets)
        elif (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            sets, created = await self._recreate(deployment, limits, sets)
        else:
            sets, created = await self._roll(deployment, limits, sets)
        await self._write_status(deployment, limits, sets, created=created)

    async def _adopt(self, deployment: Object) -> list[Object]:
        """Take over ReplicaSets that match and that nobody owns (left by an orphaning delete)."""
        namespace = deployment["metadata"]["namespace"]
        adopted = []
        for orphan in self._sets.indexed(("orphan", namespace)):
            metadata = orphan["metadata"]
            if metadata.get("deletionTimestamp") or not selects(
                deployment["spec"]["selector"], labels_of(orphan)
            ):
                continue
            owner = revision.owner_reference(deployment, "apps/v1", "Deployment")
            patch = {"metadata": {"uid": metadata["uid"], "ownerReferences": [owner]}}
            adopted.append(await self._patch_set(orphan, patch))
        return adopted

    async def _roll(
        self, deployment: Object, limits: Limits, sets: list[Object]
    ) -> tuple[list[Object], bool]:
        new, sets, created = await self._new_set(deployment, limits, sets)
        old = [s for s in sets if s is not new]
        sizes = rolling_update(limits, revision.view(new), [revision.view(s) for s in old])
        sets = await self._set_sizes(deployment, limits, sets, sizes)
        await self._forget_old(deployment, [s for s in sets if key_of(s) != key_of(new)])
        return sets, created

    async def _recreate(
        self, deployment: Object, limits: Limits, sets: list[Object]
    ) -> tuple[list[Object], bool]:
        new = revision.find_new(deployment, sets)
        old = [s for s in sets if s is not new]
        active = {s["metadata"]["name"]: 0 for s in old if s["spec"].get("replicas", 0)}
        if active:
            return await self._set_sizes(deployment, limits, sets, active), False
        if any(self._runs_pods(s) for s in old):
            return sets, False
        new, sets, created = await self._new_set(deployment, limits, sets)
        sizes = {new["metadata"]["name"]: limits.replicas}
        sets = await self._set_sizes(deployment, limits, sets, sizes)
        await self._forget_old(deployment, [s for s in sets if key_of(s) != key_of(new)])
        return sets, created

    def _runs_pods(self, replica_set: Object) -> bool:
        return any(
            pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            for pod in self._pods.indexed(replica_set["metadata"]["uid"])
        )

    async def _new_set(
        self, deployment: Object, limits: Limits, sets: list[Object]
    ) -> tuple[Object, list[Object], bool]:
        """Return the ReplicaSet of the present template, all sets, and whether it was just made."""
        new = revision.find_new(deployment, sets)
        old = [s for s in sets if s is not new]
        number = max((revision.revision_of(s) for s in old), default=0) + 1
        annotations = revision.revision_annotations(deployment, new, number)
        created = new is None
        if new is None:
            new = await self._create_set(deployment, limits, old, annotations)
        else:
            new = await self._update_set(deployment, new, annotations)
        await self._note_revision(deployment, annotations[revision.REVISION])
        return new, [*old, new], created

    async def _create_set(
        self, deployment: Object, limits: Limits, old: Sequence[Object], annotations: dict[str, str]
    ) -> Object:
        metadata = deployment["metadata"]
        none_yet = Revision(name="")
        recreate = (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
        size = (
            limits.replicas
            if recreate
            else new_revision_size(limits, none_yet, [revision.view(s) for s in old])
        )
        wanted = revision.replica_set_for(deployment, limits, size, annotations)
        try:
            new = await self._client.create(REPLICA_SETS, wanted, metadata["namespace"])
        except ApiError as error:
            if error.reason == "AlreadyExists":
                await self._name_taken(deployment, wanted["metadata"]["name"])
            raise
        self._sets.remember(new)
        if size:
            await self._tell_scaled(deployment, wanted["metadata"]["name"], 0, size)
        return new

    async def _name_taken(self, deployment: Object, name: str) -> None:
        """Choose another hash next time, unless the ReplicaSet is ours and only news to us."""
        namespace = deployment["metadata"]["namespace"]
        there = await self._client.get(REPLICA_SETS, name, namespace)
        owner = controller_of(there)
        same = revision.same_template(there["spec"]["template"], deployment["spec"]["template"])
        if owner and owner["uid"] == deployment["metadata"]["uid"] and same:
            self._sets.remember(there)
            return
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = status.get("collisionCount", 0) + 1
        await self._update_status(deployment, status)

    async def _update_set(
        self, deployment: Object, new: Object, annotations: dict[str, str]
    ) -> Object:
        patch: Object = {}
        present = new["metadata"].get("annotations") or {}
        changed = {k: v for k, v in annotations.items() if present.get(k) != v}
        if changed:
            patch["metadata"] = {"annotations": changed}
        wait = deployment["spec"].get("minReadySeconds", 0)
        if new["spec"].get("minReadySeconds", 0) != wait:
            patch["spec"] = {"minReadySeconds": wait}
        return await self._patch_set(new, patch) if patch else new

    async def _note_revision(self, deployment: Object, number: str) -> None:
        metadata = deployment["metadata"]
        if (metadata.get("annotations") or {}).get(revision.REVISION) == number:
            return
        patch = {"metadata": {"annotations": {revision.REVISION: number}}}
        self._deployments.remember(
            await self._client.patch(DEPLOYMENTS, metadata["name"], patch, metadata["namespace"])
        )

    async def _scale_all(
        self, deployment: Object, limits: Limits, sets: list[Object]
    ) -> list[Object]:
        """Follow a change of `spec.replicas` without moving pods between revisions."""
        active = [s for s in sets if s["spec"].get("replicas", 0)]
        if len(active) <= 1:
            latest = active or [s for s in sets if s is revision.find_new(deployment, sets)]
            latest = latest or sorted(sets, key=revision.revision_of)[-1:]
            sizes = {s["metadata"]["name"]: limits.replicas for s in latest}
        else:
            replicas = (deployment.get("status") or {}).get("replicas", 0)
            views = [revision.view(s) for s in active]
            sizes = {view.name: view.replicas for view in views}
            sizes |= proportional_scale(limits, views, replicas)
        return await self._set_sizes(deployment, limits, sets, sizes)

    async def _set_sizes(
        self, deployment: Object, limits: Limits, sets: list[Object], sizes: dict[str, int]
    ) -> list[Object]:
        """Scale the named ReplicaSets; return all of them as they are then."""
        result = []
        for replica_set in sets:
            name = replica_set["metadata"]["name"]
            if name in sizes:
                result.append(await self._scale(deployment, limits, replica_set, sizes[name]))
            else:
                result.append(replica_set)
        return result

    async def _scale(
        self, deployment: Object, limits: Limits, replica_set: Object, size: int
    ) -> Object:
        before = replica_set["spec"].get("replicas", 0)
        annotations = revision.size_annotations(limits)
        present = replica_set["metadata"].get("annotations") or {}
        if before == size and annotations.items() <= present.items():
            return replica_set
        patch: Object = {"metadata": {"annotations": annotations}, "spec": {"replicas": size}}
        scaled = await self._patch_set(replica_set, patch)
        if before != size:
            await self._tell_scaled(deployment, replica_set["metadata"]["name"], before, size)
        return scaled

    async def _patch_set(self, replica_set: Object, patch: Object) -> Object:
        metadata = replica_set["metadata"]
        result = await self._client.patch(
            REPLICA_SETS, metadata["name"], patch, metadata["namespace"]
        )
        self._sets.remember(result)
        return result

    async def _tell_scaled(self, deployment: Object, name: str, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        await self._client.event(
            deployment,
            type="Normal",
            reason="ScalingReplicaSet",
            message=f"Scaled {way} replica set {name} from {before} to {after}",
            component=COMPONENT,
        )

    async def _forget_old(self, deployment: Object, old: Sequence[Object]) -> None:
        for replica_set in revision.surplus(deployment, old):
            metadata = replica_set["metadata"]
            await self._client.delete(
                REPLICA_SETS, metadata["name"], metadata["namespace"], uid=metadata["uid"]
            )

    async def _write_status(
        self, deployment: Object, limits: Limits, sets: Sequence[Object], *, created: bool = False
    ) -> None:
        # Our own write of the revision annotation is newer than what we began with.
        deployment = self._deployments.get(*key_of(deployment)) or deployment
        new = revision.find_new(deployment, sets)
        time = now()
        status = next_status(deployment, limits, new, sets, time, created=created)
        if status != deployment.get("status"):
            await self._update_status(deployment, status)
        left = deadline_left(deployment, status, time)
        if left is not None:
            self._queue.add_after(key_of(deployment), max(left, 0) + 1)

    async def _update_status(self, deployment: Object, status: Object) -> None:
        self._deployments.remember(
            await self._client.update(
                DEPLOYMENTS, {**deployment, "status": status}, subresource="status"
            )
        )

"""ReplicaSets: as many pods as wished, made from the template (Kubernetes' replica set controller).

Which pods go and what the status says is decided in `replica_choice`.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

from meshlab.cluster.embedded.apiserver.json_object import now
from meshlab.cluster.embedded.apiserver.selector import selects
from meshlab.cluster.embedded.client import ApiError, Client
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
from meshlab.cluster.embedded.controller.replica_choice import (
    availability,
    choose_to_delete,
    is_active,
    next_status,
)
from meshlab.cluster.embedded.controller.revision import owner_reference

REPLICA_SETS = "replicasets.apps"
COMPONENT = "replicaset-controller"


async def run(client: Client) -> None:
    """Keep every ReplicaSet's pods, for ever."""
    await ReplicaSetController(client).run()


class ReplicaSetController:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: Queue[Key] = Queue()
        self._sets = Informer(client, REPLICA_SETS)
        self._pods = Informer(client, "pods", index=owner_or_orphan)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sets.run(self._set_changed))
            group.create_task(self._pods.run(self._pod_changed))
            group.create_task(work(self._queue, self.reconcile))

    def _set_changed(self, _before: Object | None, after: Object | None) -> None:
        if after is not None:
            self._queue.add(key_of(after))

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        for pod in (before, after):
            if pod is None:
                continue
            namespace = pod["metadata"]["namespace"]
            owner = controller_of(pod)
            if owner is not None:
                if owner["kind"] == "ReplicaSet":
                    self._queue.add((namespace, owner["name"]))
                continue
            for replica_set in self._sets.indexed(namespace):
                if selects(replica_set["spec"]["selector"], labels_of(pod)):
                    self._queue.add(key_of(replica_set))

    async def reconcile(self, key: Key) -> None:
        replica_set = self._sets.get(*key)
        if replica_set is None:
            return
        pods = await self._claimed(replica_set)
        problem: ApiError | None = None
        if not replica_set["metadata"].get("deletionTimestamp"):
            try:
                await self._adjust(replica_set, pods)
            except ApiError as error:
                problem = error
            pods = self._owned(replica_set)
        await self._write_status(replica_set, pods, problem)
        if problem is not None:
            raise problem  # the queue's back-off decides when to try again

    def _owned(self, replica_set: Object) -> list[Object]:
        return [p for p in self._pods.indexed(replica_set["metadata"]["uid"]) if is_active(p)]

    async def _claimed(self, replica_set: Object) -> list[Object]:
        """Return the pods that are its own, after adopting and releasing by the selector.

        A pod whose label was taken away to look at it in peace is released and replaced.
        """
        metadata = replica_set["metadata"]
        selector = replica_set["spec"]["selector"]
        if metadata.get("deletionTimestamp"):
            return self._owned(replica_set)
        for pod in self._owned(replica_set):
            if not selects(selector, labels_of(pod)):
                await self._set_owners(pod, [])
        for pod in self._pods.indexed(("orphan", metadata["namespace"])):
            if is_active(pod) and selects(selector, labels_of(pod)):
                await self._set_owners(pod, [owner_reference(replica_set, "apps/v1", "ReplicaSet")])
        return self._owned(replica_set)

    async def _set_owners(self, pod: Object, owners: list[Object]) -> None:
        metadata = pod["metadata"]
        others = [o for o in metadata.get("ownerReferences") or () if not o.get("controller")]
        patch = {"metadata": {"uid": metadata["uid"], "ownerReferences": others + owners}}
        changed = await self._client.patch("pods", metadata["name"], patch, metadata["namespace"])
        self._pods.remember(changed)

    async def _adjust(self, replica_set: Object, pods: Sequence[Object]) -> None:
        missing = replica_set["spec"].get("replicas", 0) - len(pods)
        if missing > 0:
            await self._create_pods(replica_set, missing)
        for pod in choose_to_delete(pods, -missing) if missing < 0 else ():
            await self._delete_pod(replica_set, pod)

    async def _create_pods(self, replica_set: Object, count: int) -> None:
        """Make pods side by side: each may wait for an injection webhook.

        In batches of 1, 2, 4…: what is refused once would be refused every time.
        """
        batch = 1
        while count > 0:
            some = min(batch, count)
            made = await asyncio.gather(
                *(self._create_pod(replica_set) for _ in range(some)), return_exceptions=True
            )
            for result in made:
                if isinstance(result, BaseException):
                    raise result
            count -= some
            batch *= 2

    async def _create_pod(self, replica_set: Object) -> None:
        metadata = replica_set["metadata"]
        template = replica_set["spec"]["template"]
        given = template.get("metadata") or {}
        copied = {k: given[k] for k in ("labels", "annotations", "finalizers") if given.get(k)}
        pod = {
            "metadata": {
                **copied,
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                "ownerReferences": [owner_reference(replica_set, "apps/v1", "ReplicaSet")],
            },
            "spec": template["spec"],
        }
        try:
            made = await self._client.create("pods", pod, metadata["namespace"])
        except ApiError as error:
            await self._tell(replica_set, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._pods.remember(made)
        message = f"Created pod: {made['metadata']['name']}"
        await self._tell(replica_set, "Normal", "SuccessfulCreate", message)

    async def _delete_pod(self, replica_set: Object, pod: Object) -> None:
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        try:
            answer = await self._client.delete("pods", name, namespace, uid=metadata["uid"])
        except ApiError as error:
            if error.status_code == 404:
                self._pods.forget(pod)
                return
            await self._tell(replica_set, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        if answer.get("kind") != "Status" and answer["metadata"].get("deletionTimestamp"):
            self._pods.remember(answer)
        else:
            self._pods.forget(pod)
        await self._tell(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")

    async def _tell(
        self, replica_set: Object, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        await self._client.event(
            replica_set, type=kind, reason=reason, message=message, component=COMPONENT
        )

    async def _write_status(
        self, replica_set: Object, pods: Sequence[Object], problem: ApiError | None
    ) -> None:
        key = key_of(replica_set)
        replica_set = self._sets.get(*key) or replica_set
        found = availability(pods, replica_set["spec"].get("minReadySeconds", 0), time.time())
        failure = self._failure(replica_set, problem) if problem else None
        status = next_status(replica_set, pods, found, failure)
        if status != replica_set.get("status"):
            self._sets.remember(
                await self._client.update(
                    REPLICA_SETS, {**replica_set, "status": status}, subresource="status"
                )
            )
        if found.next_in is not None:
            self._queue.add_after(key, found.next_in)

    @staticmethod
    def _failure(replica_set: Object, problem: ApiError) -> Object:
        """Return the condition; an old one of the same words keeps its time."""
        new = {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": str(problem),
        }
        for old in replica_set.get("status", {}).get("conditions") or ():
            if new.items() <= old.items():
                return dict(old)
        return {**new, "lastTransitionTime": now()}

"""The end of a namespace: its contents are deleted, then its finalizer lets it go.

`spec.finalizers: [kubernetes]` holds a deleted namespace in phase Terminating until nothing is
left in it; condition NamespaceContentRemaining says what it still waits for.
"""

import asyncio
from collections.abc import Mapping

from meshlab.cluster.embedded.apiserver.json_object import now
from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.controller.informer import Informer, Object
from meshlab.cluster.embedded.controller.queue import Queue, work

FINALIZER = "kubernetes"
LOOK_AGAIN = 0.2
"""Seconds between looks at what finalizers hold; the end of a pod is noticed at once."""
MAKERS = ("deployments.apps", "replicasets.apps", "services")
"""Deleted first: they would make anew what is deleted after them."""


async def run(client: Client) -> None:
    """Empty every namespace that is being deleted, for ever."""
    await NamespaceController(client).run()


class NamespaceController:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: Queue[str] = Queue()
        self._namespaces = Informer(client, "namespaces")
        self._pods = Informer(client, "pods")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._namespaces.run(self._namespace_changed))
            group.create_task(self._pods.run(self._pod_changed))
            group.create_task(work(self._queue, self.reconcile))

    def _namespace_changed(self, _before: Object | None, after: Object | None) -> None:
        if after is not None and after["metadata"].get("deletionTimestamp"):
            self._queue.add(after["metadata"]["name"])

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        if before is None or after is not None:
            return
        name = before["metadata"]["namespace"]
        self._namespace_changed(None, self._namespaces.get("", name))

    async def reconcile(self, name: str) -> None:
        namespace = self._namespaces.get("", name)
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return
        finalizers = namespace["spec"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        left = await self._delete_contents(name)
        if left:
            await self._tell(namespace, left)
            self._queue.add_after(name, LOOK_AGAIN)
            return
        others = [f for f in finalizers if f != FINALIZER]
        released = {**namespace, "spec": {**namespace["spec"], "finalizers": others}}
        try:
            await self._client.update("namespaces", released, subresource="finalize")
        except ApiError as error:
            if error.status_code != 404:
                raise

    async def _delete_contents(self, namespace: str) -> dict[str, int]:
        """Ask for the end of all that is there; return what is left, by resource."""
        resources = [r.key for r in self._client.resources() if r.namespaced]
        resources.sort(key=lambda key: key not in MAKERS)
        for resource in resources:
            for obj in self._client.list(resource, namespace):
                if not obj["metadata"].get("deletionTimestamp"):
                    await self._delete(resource, obj)
        left = {resource: len(self._client.list(resource, namespace)) for resource in resources}
        return {resource: count for resource, count in left.items() if count}

    async def _delete(self, resource: str, obj: Object) -> None:
        metadata = obj["metadata"]
        try:
            await self._client.delete(
                resource,
                metadata["name"],
                metadata["namespace"],
                uid=metadata["uid"],
                propagation_policy="Background",
            )
        except ApiError as error:
            if error.status_code not in (404, 409):
                raise

    async def _tell(self, namespace: Object, left: Mapping[str, int]) -> None:
        """Write down what the namespace still waits for, where that is news."""
        message = "Some resources are remaining: " + ", ".join(
            f"{resource} has {count} resource instances" for resource, count in sorted(left.items())
        )
        status = namespace.get("status") or {}
        conditions = status.get("conditions") or []
        kind = "NamespaceContentRemaining"
        if any(c["type"] == kind and c["message"] == message for c in conditions):
            return
        condition = {
            "type": kind,
            "status": "True",
            "lastTransitionTime": now(),
            "reason": "SomeResourcesRemain",
            "message": message,
        }
        kept = [c for c in conditions if c["type"] != kind]
        changed = {**namespace, "status": {**status, "conditions": [*kept, condition]}}
        self._namespaces.remember(
            await self._client.update("namespaces", changed, subresource="status")
        )

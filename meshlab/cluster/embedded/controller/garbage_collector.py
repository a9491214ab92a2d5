"""Deletes what has lost its owners (`metadata.ownerReferences`), as Kubernetes' garbage collector.

Background: the owner goes, its dependents after it. Foreground (finalizer `foregroundDeletion`):
the owner stays until the dependents that block it are gone. Orphan (finalizer `orphan`): the
dependents are cut loose first.
"""

import asyncio
from dataclasses import dataclass

from meshlab.cluster.embedded.apiserver.resource import Resource
from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.controller.informer import Object
from meshlab.cluster.embedded.controller.queue import Queue, work

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
NOT_OWNED = frozenset({"events", "leases.coordination.k8s.io"})
"""Come often, own nothing and are owned by nothing that outlives them here."""


@dataclass(slots=True)
class Node:
    """An object, as far as ownership goes."""

    resource: str
    namespace: str
    name: str
    uid: str
    owners: tuple[Object, ...]
    finalizers: tuple[str, ...]
    deleting: bool


async def run(client: Client) -> None:
    """Follow every resource's owners, for ever."""
    await GarbageCollector(client).run()


def node_of(resource: str, obj: Object) -> Node:
    metadata = obj["metadata"]
    return Node(
        resource=resource,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata["uid"],
        owners=tuple(metadata.get("ownerReferences") or ()),
        finalizers=tuple(metadata.get("finalizers") or ()),
        deleting=bool(metadata.get("deletionTimestamp")),
    )


class Graph:
    """Who owns whom, by uid."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def put(self, node: Node) -> None:
        self.drop(node.uid)
        self.nodes[node.uid] = node
        for owner in node.owners:
            self._dependents.setdefault(owner["uid"], set()).add(node.uid)

    def drop(self, uid: str) -> None:
        """Forget an object; its dependents are still known as such."""
        node = self.nodes.pop(uid, None)
        for owner in node.owners if node else ():
            members = self._dependents.get(owner["uid"], set())
            members.discard(uid)
            if not members:
                self._dependents.pop(owner["uid"], None)

    def dependents(self, uid: str) -> list[Node]:
        return [self.nodes[each] for each in sorted(self._dependents.get(uid, ()))]


class GarbageCollector:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._graph = Graph()
        self._queue: Queue[str] = Queue()  # uids
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(work(self._queue, self.reconcile))
            self._follow_new(group)
            async for kind, crd in self._client.watch(CRDS):
                if kind == "DELETED":
                    self._unfollow(f"{crd['spec']['names']['plural']}.{crd['spec']['group']}")
                else:
                    self._follow_new(group)

    def _follow_new(self, group: asyncio.TaskGroup) -> None:
        for resource in self._client.resources():
            if resource.key not in self._watches and resource.key not in NOT_OWNED:
                self._watches[resource.key] = group.create_task(self._follow(resource.key))

    def _unfollow(self, resource: str) -> None:
        task = self._watches.pop(resource, None)
        if task is not None:
            task.cancel()

    async def _follow(self, resource: str) -> None:
        async for kind, obj in self._client.watch(resource):
            self._changed(resource, kind, obj)

    def _changed(self, resource: str, kind: str, obj: Object) -> None:
        node = node_of(resource, obj)
        if kind == "DELETED":
            self._graph.drop(node.uid)
            for dependent in self._graph.dependents(node.uid):
                self._queue.add(dependent.uid)
            for owner in node.owners:  # it may have waited for this one
                self._queue.add(owner["uid"])
            return
        self._graph.put(node)
        if node.owners or (node.deleting and node.finalizers):
            self._queue.add(node.uid)

    async def reconcile(self, uid: str) -> None:
        node = self._graph.nodes.get(uid)
        if node is None:
            return
        if node.deleting:
            if ORPHAN in node.finalizers:
                await self._orphan(node)
            elif FOREGROUND in node.finalizers:
                await self._foreground(node)
            return
        if node.owners:
            await self._collect(node)

    async def _orphan(self, node: Node) -> None:
        for dependent in self._graph.dependents(node.uid):
            await self._remove_owners(dependent, {node.uid})
        await self._remove_finalizer(node, ORPHAN)

    async def _foreground(self, node: Node) -> None:
        dependents = self._graph.dependents(node.uid)
        for dependent in dependents:
            if not dependent.deleting:
                self._queue.add(dependent.uid)
        if not any(_blocks(dependent, node.uid) for dependent in dependents):
            await self._remove_finalizer(node, FOREGROUND)

    async def _collect(self, node: Node) -> None:
        """Delete an object whose owners are all gone, or going and waiting for it."""
        states = {o["uid"]: await self._state_of(o, node.namespace) for o in node.owners}
        if "solid" in states.values():
            lost = {uid for uid, state in states.items() if state != "solid"}
            if lost:
                await self._remove_owners(node, lost)
            return
        policy = "Background"
        if "waiting" in states.values() and self._graph.dependents(node.uid):
            policy = "Foreground"  # the owner waits for all below it
        await self._delete(node, policy)

    async def _state_of(self, owner: Object, namespace: str) -> str:
        known = self._graph.nodes.get(owner["uid"])
        if known is not None:
            held = known.deleting and FOREGROUND in known.finalizers
            return "waiting" if held else "solid"
        # Not seen: gone, or our watch of its resource is behind. The store knows.
        resource = self._resource_of(owner)
        if resource is None:
            return "solid"  # a kind this cluster does not have: not ours to judge
        try:
            found = await self._client.get(
                resource.key, owner["name"], namespace if resource.namespaced else None
            )
        except ApiError as error:
            if error.status_code != 404:
                raise
            return "gone"
        return "solid" if found["metadata"]["uid"] == owner["uid"] else "gone"

    def _resource_of(self, owner: Object) -> Resource | None:
        group = owner["apiVersion"].rpartition("/")[0]
        return next(
            (r for r in self._client.resources() if r.kind == owner["kind"] and r.group == group),
            None,
        )

    async def _delete(self, node: Node, policy: str) -> None:
        try:
            await self._client.delete(
                node.resource,
                node.name,
                node.namespace or None,
                uid=node.uid,
                propagation_policy=policy,
            )
        except ApiError as error:
            if error.status_code not in (404, 409):  # gone, or another of that name
                raise

    async def _remove_owners(self, node: Node, uids: set[str]) -> None:
        left = [owner for owner in node.owners if owner["uid"] not in uids]
        await self._patch_metadata(node, {"ownerReferences": left})

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        left = [f for f in node.finalizers if f != finalizer]
        await self._patch_metadata(node, {"finalizers": left})

    async def _patch_metadata(self, node: Node, metadata: Object) -> None:
        patch = {"metadata": {"uid": node.uid, **metadata}}
        try:
            changed = await self._client.patch(
                node.resource, node.name, patch, node.namespace or None
            )
        except ApiError as error:
            if error.status_code not in (404, 409):
                raise
            return
        if self._graph.nodes.get(node.uid) is node:
            self._graph.put(node_of(node.resource, changed))


def _blocks(dependent: Node, owner: str) -> bool:
    return any(
        reference["uid"] == owner and reference.get("blockOwnerDeletion")
        for reference in dependent.owners
    )

"""EndpointSlices: the addresses behind each Service with a selector, kept as pods come and go.

What a slice holds is decided in `endpoint`. Services without a selector keep the slices people
made for them.
"""

import asyncio

from meshlab.cluster.embedded.client import Client
from meshlab.cluster.embedded.controller.endpoint import (
    CONTROLLER,
    MANAGED_BY,
    SERVICE_NAME,
    pair,
    sends_to,
    wanted_slices,
)
from meshlab.cluster.embedded.controller.informer import Informer, Key, Object, key_of
from meshlab.cluster.embedded.controller.queue import Queue, work

SLICES = "endpointslices.discovery.k8s.io"


async def run(client: Client) -> None:
    """Keep the EndpointSlices of every Service, for ever."""
    await EndpointSliceController(client).run()


def _service_of(endpoint_slice: Object) -> Key:
    """Index slices by (namespace, Service); those of others by a key that no Service has."""
    labels = endpoint_slice["metadata"].get("labels") or {}
    service = labels.get(SERVICE_NAME, "") if labels.get(MANAGED_BY) == CONTROLLER else ""
    return endpoint_slice["metadata"]["namespace"], service


class EndpointSliceController:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: Queue[Key] = Queue()
        self._services = Informer(client, "services")
        self._pods = Informer(client, "pods")
        self._slices = Informer(client, SLICES, index=_service_of)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._services.run(self._service_changed))
            group.create_task(self._pods.run(self._pod_changed))
            group.create_task(self._slices.run(self._slice_changed))
            group.create_task(work(self._queue, self.reconcile))

    def _service_changed(self, before: Object | None, after: Object | None) -> None:
        service = after or before
        if service is not None:
            self._queue.add(key_of(service))

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        labels = [p["metadata"].get("labels") for p in (before, after) if p is not None]
        pod = after or before
        if pod is None:
            return
        for service in self._services.indexed(pod["metadata"]["namespace"]):
            if any(sends_to(service, each) for each in labels):
                self._queue.add(key_of(service))

    def _slice_changed(self, before: Object | None, after: Object | None) -> None:
        for endpoint_slice in (before, after):
            if endpoint_slice is not None and (key := _service_of(endpoint_slice))[1]:
                self._queue.add(key)

    async def reconcile(self, key: Key) -> None:
        service = self._services.get(*key)
        if service is None or service["metadata"].get("deletionTimestamp"):
            return  # its slices are the garbage collector's
        if not service["spec"].get("selector"):
            return
        namespace = key[0]
        pods = [
            pod
            for pod in self._pods.indexed(namespace)
            if sends_to(service, pod["metadata"].get("labels"))
        ]
        create, change, delete = pair(wanted_slices(service, pods), self._slices.indexed(key))
        for wish in create:
            metadata = {**wish["metadata"], "generateName": f"{key[1]}-"}
            made = await self._client.create(SLICES, {**wish, "metadata": metadata}, namespace)
            self._slices.remember(made)
        for present, wish in change:
            metadata = {**present["metadata"], "labels": wish["metadata"]["labels"]}
            changed = await self._client.update(SLICES, {**present, **wish, "metadata": metadata})
            self._slices.remember(changed)
        for present in delete:
            name, uid = present["metadata"]["name"], present["metadata"]["uid"]
            await self._client.delete(SLICES, name, namespace, uid=uid)
            self._slices.forget(present)

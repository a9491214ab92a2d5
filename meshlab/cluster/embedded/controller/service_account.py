"""What every namespace starts with: ServiceAccount `default` and ConfigMap `kube-root-ca.crt`.

Pods need both at once: the account they run as, and the authority that signs the API server.
"""

import asyncio

from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.controller.informer import Informer, Object
from meshlab.cluster.embedded.controller.queue import Queue, work

ROOT_CA = "kube-root-ca.crt"
ABOUT = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the "
    "kube-apiserver when using internal endpoints such as the internal service IP or "
    "kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
}


async def run(client: Client) -> None:
    """Keep both in every namespace that is not being deleted, for ever."""
    await ServiceAccountController(client).run()


class ServiceAccountController:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue: Queue[str] = Queue()
        self._namespaces = Informer(client, "namespaces")
        self._accounts = Informer(client, "serviceaccounts")
        self._config_maps = Informer(client, "configmaps")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._namespaces.run(self._namespace_changed))
            group.create_task(self._accounts.run(self._content_changed))
            group.create_task(self._config_maps.run(self._content_changed))
            group.create_task(work(self._queue, self.reconcile))

    def _namespace_changed(self, _before: Object | None, after: Object | None) -> None:
        if after is not None:
            self._queue.add(after["metadata"]["name"])

    def _content_changed(self, before: Object | None, after: Object | None) -> None:
        obj = after or before
        if obj is not None and obj["metadata"]["name"] in ("default", ROOT_CA):
            self._queue.add(obj["metadata"]["namespace"])

    async def reconcile(self, name: str) -> None:
        namespace = self._namespaces.get("", name)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return
        if self._accounts.get(name, "default") is None:
            await self._create("serviceaccounts", {"metadata": {"name": "default"}}, name)
        data = {"ca.crt": self._client.ca_pem}
        config_map = self._config_maps.get(name, ROOT_CA)
        if config_map is None:
            metadata = {"name": ROOT_CA, "annotations": ABOUT}
            await self._create("configmaps", {"metadata": metadata, "data": data}, name)
        elif config_map.get("data") != data:
            await self._client.update("configmaps", {**config_map, "data": data})

    async def _create(self, resource: str, obj: Object, namespace: str) -> None:
        try:
            await self._client.create(resource, obj, namespace)
        except ApiError as error:
            # There already, only news to us; or the namespace is going and takes nothing more.
            if error.status_code not in (403, 404, 409):
                raise

"""What a controller knows of one resource: every object, by name and by one index, kept by a watch.

Looking a ReplicaSet's pods up costs what it has pods, not what the cluster has. Objects are the
store's own and are never changed here; a controller that writes builds a new one.
"""

from collections.abc import Callable, Hashable
from typing import Any

from meshlab.cluster.embedded.client import Client

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" for cluster-wide resources) and name."""
OnChange = Callable[[Object | None, Object | None], None]
"""Called with the object before and after: (None, new) added, (old, None) gone."""


def key_of(obj: Object) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def controller_of(obj: Object) -> Object | None:
    """Return the owner reference with `controller: true`."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return reference  # type: ignore[no-any-return]  # JSON
    return None


def owner_or_orphan(obj: Object) -> Hashable:
    """Index by the controlling owner's uid; objects without one by ("orphan", namespace)."""
    owner = controller_of(obj)
    return str(owner["uid"]) if owner else ("orphan", str(obj["metadata"].get("namespace", "")))


def namespace_of(obj: Object) -> Hashable:
    return str(obj["metadata"].get("namespace", ""))


class Informer:
    """The objects of one resource; `remember` and `forget` bring in one's own writes at once.

    Without that a controller could look again before its watch told it of the pod it has just
    made, and make it twice.
    """

    def __init__(
        self, client: Client, resource: str, *, index: Callable[[Object], Hashable] = namespace_of
    ) -> None:
        self.resource = resource
        self._client = client
        self._index = index
        self._by_index: dict[Hashable, dict[Key, Object]] = {}
        self._gone: set[str] = set()  # uids that we saw go before the watch did
        self.objects: dict[Key, Object] = {}

    def get(self, namespace: str, name: str) -> Object | None:
        return self.objects.get((namespace, name))

    def indexed(self, value: Hashable) -> list[Object]:
        return list(self._by_index.get(value, {}).values())

    def remember(self, obj: Object) -> tuple[Object | None, Object | None]:
        """Take in a newer version; return (before, after), equal where this one is old news."""
        key = key_of(obj)
        old = self.objects.get(key)
        if obj["metadata"]["uid"] in self._gone or (old is not None and not _newer(obj, old)):
            return old, old
        if old is not None:
            self._unindex(key, old)
        self.objects[key] = obj
        self._by_index.setdefault(self._index(obj), {})[key] = obj
        return old, obj

    def forget(self, obj: Object) -> None:
        """Drop an object that our own delete removed; the watch's echo of it is ignored."""
        self._gone.add(obj["metadata"]["uid"])
        self._drop(obj)

    def _drop(self, obj: Object) -> Object | None:
        key = key_of(obj)
        old = self.objects.get(key)
        if old is None or old["metadata"]["uid"] != obj["metadata"]["uid"]:
            return None
        self._unindex(key, old)
        return self.objects.pop(key)

    def _unindex(self, key: Key, old: Object) -> None:
        value = self._index(old)
        members = self._by_index[value]
        del members[key]
        if not members:
            del self._by_index[value]

    async def run(self, on_change: OnChange) -> None:
        """Follow the watch, for ever; a change that we made ourselves is reported, too."""
        async for kind, obj in self._client.watch(self.resource):
            if kind == "DELETED":
                self._gone.discard(obj["metadata"]["uid"])
                self._drop(obj)
                on_change(obj, None)
            else:
                before, after = self.remember(obj)
                on_change(before, after)


def _newer(obj: Object, old: Object) -> bool:
    if obj["metadata"]["uid"] != old["metadata"]["uid"]:
        return int(obj["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    return int(obj["metadata"]["resourceVersion"]) >= int(old["metadata"]["resourceVersion"])

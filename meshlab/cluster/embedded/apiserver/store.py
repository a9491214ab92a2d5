"""All objects, in memory and on disk, under one revision that only grows; and who watches them.

Objects in here are shared and never changed: a write puts a new one in the old one's place.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import encode, lean
from meshlab.cluster.embedded.apiserver.status import expired
from meshlab.cluster.embedded.state import State

Json = dict[str, Any]

HISTORY = 1024
"""Changes kept for each resource, so that a watch can resume; older ones answer 410."""
HISTORY_BYTES = 2 * 1024 * 1024
"""How large those changes may be together, as JSON (in memory it is some five times that)."""


@dataclass(slots=True, eq=False)
class Change:
    """One write: what is now, and what was before."""

    revision: int
    type: str
    """ADDED, MODIFIED or DELETED."""
    object: Json
    """The new object; the last one, with the revision of its end, where it was deleted."""
    previous: Json | None
    size: int = 0
    """Bytes of the object as JSON."""
    shown: dict[str, bytes] | None = None
    """What watchers were sent, by format: many watchers, one encoding."""


class Watcher:
    """A queue of changes for one reader, from some revision on."""

    __slots__ = ("_changes", "_ready", "_store", "limit", "overrun")

    def __init__(self, store: "_Watched", limit: int = 0) -> None:
        self._store = store
        self._changes: deque[Change] = deque()
        self._ready: asyncio.Future[None] | None = None
        self.limit = limit
        """Changes that may wait; 0: no limit (readers inside this process)."""
        self.overrun = False
        """The reader was too slow: it must list again."""

    def push(self, change: Change) -> None:
        if self.limit and len(self._changes) >= self.limit:
            self.overrun = True
            self._changes.clear()
        self._changes.append(change)
        if self._ready and not self._ready.done():
            self._ready.set_result(None)

    async def next(self) -> Change:
        """Return the next change, when there is one."""
        while not self._changes:
            self._ready = asyncio.get_running_loop().create_future()
            await self._ready
        return self._changes.popleft()

    def close(self) -> None:
        self._store.watchers.discard(self)


class _Watched:
    """One resource: its objects, its last changes, its watchers."""

    __slots__ = ("changes", "floor", "objects", "size", "watchers")

    def __init__(self, floor: int) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.changes: deque[Change] = deque()
        self.size = 0
        """Bytes of all changes together."""
        self.floor = floor
        """Changes up to here are forgotten."""
        self.watchers: set[Watcher] = set()


class Store:
    """The objects of a cluster by resource, namespace and name."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.revision = max(1, state.revision)
        self._start = self.revision
        self._resources: dict[str, _Watched] = {}
        self._listeners: dict[str, list[Callable[[Change], None]]] = {}
        for resource, obj in state.objects():
            metadata = obj["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            self._watched(resource).objects[key] = lean(obj)

    def get(self, resource: str, namespace: str, name: str) -> Json | None:
        return self._watched(resource).objects.get((namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> Iterator[Json]:
        """Yield the objects of one namespace, or of all (None), in no order."""
        objects = self._watched(resource).objects
        if namespace is None:
            yield from objects.values()
            return
        for (where, _), obj in objects.items():
            if where == namespace:
                yield obj

    def count(self, resource: str) -> int:
        return len(self._watched(resource).objects)

    def on_change(self, resource: str, listener: Callable[[Change], None]) -> None:
        """Call `listener` within every write of a resource, before watchers hear of it."""
        self._listeners.setdefault(resource, []).append(listener)

    def put(self, resource: str, obj: Json) -> Json:
        """Keep an object under the next revision, on disk before anyone sees it."""
        watched = self._watched(resource)
        kept: Json = lean(obj)
        metadata = kept["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        revision = self.revision + 1
        metadata["resourceVersion"] = str(revision)
        body = encode(kept)
        self._state.put(resource, *key, body, revision)
        self.revision = revision
        previous = watched.objects.get(key)
        watched.objects[key] = kept
        kind = "MODIFIED" if previous else "ADDED"
        self._tell(resource, watched, Change(revision, kind, kept, previous, len(body)))
        return kept

    def remove(self, resource: str, obj: Json) -> Json:
        """Forget an object; returns its last state, with the revision of its end."""
        watched = self._watched(resource)
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        revision = self.revision + 1
        self._state.remove(resource, *key, revision)
        self.revision = revision
        previous = watched.objects.pop(key)
        last = {**obj, "metadata": {**metadata, "resourceVersion": str(revision)}}
        self._tell(resource, watched, Change(revision, "DELETED", last, previous))
        return last

    def watch(self, resource: str, since: int, *, limit: int = 0) -> Watcher:
        """Return a watcher that gets every change after revision `since`.

        Raises:
            ApiError: 410 where some of them are forgotten.
        """
        watched = self._watched(resource)
        if since < watched.floor:
            raise expired(f"too old resource version: {since} ({watched.floor})")
        watcher = Watcher(watched, limit)
        for change in watched.changes:
            if change.revision > since:
                watcher.push(change)
        watched.watchers.add(watcher)
        return watcher

    def forget(self, resource: str) -> None:
        """End the clients' watches of a resource that is served no more."""
        watched = self._watched(resource)
        for watcher in watched.watchers:
            if watcher.limit:
                watcher.overrun = True
                watcher.push(Change(self.revision, "MODIFIED", {}, None))

    def _watched(self, resource: str) -> _Watched:
        found = self._resources.get(resource)
        if found is None:
            found = self._resources[resource] = _Watched(self._start)
        return found

    def _tell(self, resource: str, watched: _Watched, change: Change) -> None:
        watched.changes.append(change)
        watched.size += change.size
        while len(watched.changes) > HISTORY or watched.size > HISTORY_BYTES:
            oldest = watched.changes.popleft()
            watched.floor = oldest.revision
            watched.size -= oldest.size
        for listener in self._listeners.get(resource, ()):
            listener(change)
        for watcher in watched.watchers:
            watcher.push(change)


async def changes(
    store: Store, resource: str, namespace: str | None
) -> AsyncIterator[tuple[str, Json]]:
    """Yield all that is there as ADDED, then every change, for ever."""
    present = list(store.list(resource, namespace))
    watcher = store.watch(resource, store.revision)
    try:
        for obj in present:
            yield "ADDED", obj
        while True:
            change = await watcher.next()
            if namespace is None or change.object["metadata"].get("namespace", "") == namespace:
                yield change.type, change.object
    finally:
        watcher.close()

"""List, then watch, for ever: the API server's change stream of one kind, never missing a change.

The protocol is Kubernetes': a list gives a resourceVersion, a watch from there gives every change
since, bookmarks move the place on, 410 Gone means that the place is forgotten: list again.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from meshlab.control.registry.api import Api, ApiError, Json, Resource

LOG = logging.getLogger("meshlab.control.registry.watch")
PAGE = "500"
WATCH_SECONDS = 300
"""The server ends a watch after this; a new one resumes from the last version."""
SHORTEST_BACK_OFF = 0.1
LONGEST_BACK_OFF = 10.0
ABSENT_POLL = 2.0
"""Seconds between looks for a kind that the cluster does not have (yet)."""


class Watch:
    """Keeps one kind's objects current.

    `replace` gets all objects after a list, `change` a single one with ADDED, MODIFIED or DELETED.
    A kind that the cluster does not know counts as empty, so that it holds nobody up.
    """

    def __init__(
        self,
        api: Api,
        resources: Sequence[Resource],
        *,
        replace: Callable[[Resource, list[Json]], None],
        change: Callable[[Resource, str, Json], None],
        namespace: str = "",
        name: str = "",
    ) -> None:
        """Watch one kind, all of it or the objects of one namespace or name.

        `resources`: the kind in the versions to try, the best first.
        """
        self.api = api
        self.resources = resources
        self.replace = replace
        self.change = change
        self.synced = asyncio.Event()
        self.namespace = namespace
        self.select = {"fieldSelector": f"metadata.name={name}"} if name else {}

    async def run(self) -> None:
        back_off = SHORTEST_BACK_OFF
        while True:
            try:
                resource, version = await self._list()
                back_off = SHORTEST_BACK_OFF
                while True:
                    version = await self._watch(resource, version)
            except (ApiError, httpx.HTTPError) as error:
                if isinstance(error, ApiError) and error.status == 410:
                    LOG.info("%s: the place in the stream is gone, listing again", self._name)
                    continue
                LOG.warning("%s: %s; again in %.1f s", self._name, _told(error), back_off)
            except _AbsentError:
                self._sync(self.resources[0], [])
                await asyncio.sleep(ABSENT_POLL)
                continue
            await asyncio.sleep(back_off * (0.5 + random.random()))
            back_off = min(back_off * 2, LONGEST_BACK_OFF)

    @property
    def _name(self) -> str:
        return self.resources[0].name

    async def _list(self) -> tuple[Resource, str]:
        """List all pages of the first version that the cluster has; return where to watch from."""
        for resource in self.resources:
            try:
                objects, version = await self._pages(resource)
            except ApiError as error:
                if error.status == 404:
                    continue
                raise
            self._sync(resource, objects)
            return resource, version
        raise _AbsentError

    async def _pages(self, resource: Resource) -> tuple[list[Json], str]:
        objects: list[Json] = []
        params = {"limit": PAGE, **self.select}
        while True:
            path = resource.path(namespace=self.namespace)
            page = await self.api.call("GET", path, params=params)
            objects += page.get("items") or []
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return objects, meta.get("resourceVersion", "")
            params["continue"] = meta["continue"]

    def _sync(self, resource: Resource, objects: list[Json]) -> None:
        self.replace(resource, objects)
        self.synced.set()

    async def _watch(self, resource: Resource, version: str) -> str:
        """Follow one watch to its end; return where the next one resumes."""
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            **self.select,
        }
        silence = WATCH_SECONDS + 30.0
        try:
            path = resource.path(namespace=self.namespace)
            async with self.api.lines(path, params, silence=silence) as lines:
                async for line in lines:
                    version = self._take(resource, line, version)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout) as error:
            # An API server that restarts cuts the stream; what we have stays good.
            LOG.info("%s: the watch broke (%s), resuming", resource.name, _told(error))
            await asyncio.sleep(SHORTEST_BACK_OFF)
        return version

    def _take(self, resource: Resource, line: str, version: str) -> str:
        if not line:
            return version
        event: dict[str, Any] = json.loads(line)
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            code, reason = obj.get("code", 500), obj.get("reason", "")
            raise ApiError(code, reason, obj.get("message", ""))
        if kind != "BOOKMARK":
            self.change(resource, kind, obj)
        newer: str = obj["metadata"]["resourceVersion"]
        return newer


class _AbsentError(Exception):
    """The cluster has none of the versions."""


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__

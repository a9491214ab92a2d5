"""What the control plane says of itself on 15014: readiness, metrics, sync state, waiting.

For `kubectl get --raw` and the service proxy as for curl; istiod's paths where it has them.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from meshlab.control.registry.store import WATCHED, Store
from meshlab.control.serve.access_log import AccessLogSink
from meshlab.control.serve.ads import SHORT_NAMES, AdsService, Connection
from meshlab.control.serve.metric import Metrics
from meshlab.control.serve.push import Pusher

LONGEST_WAIT = 60.0
MOST_ENTRIES = 5000
START_PATIENCE = 2.0
START_POLL = 0.02


class Debug:
    """The handlers, and what they look at."""

    def __init__(
        self,
        store: Store,
        pusher: Pusher,
        ads: AdsService,
        sink: AccessLogSink,
        metrics: Metrics,
        ready: Callable[[], str],
    ) -> None:
        """`ready` returns "" or what is still missing."""
        self.store = store
        self.pusher = pusher
        self.ads = ads
        self.sink = sink
        self.metrics = metrics
        self.ready = ready

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/ready", self._ready),
                Route("/metrics", self._metrics),
                Route("/debug/syncz", self._syncz),
                Route("/debug/registryz", self._registryz),
                Route("/debug/configz", self._configz),
                Route("/debug/config_dump", self._config_dump),
                Route("/debug/accesslogz", self._accesslogz),
                Route("/debug/wait", self._wait),
            ]
        )

    async def _ready(self, request: Request) -> Response:
        del request
        # A "not yet" is held back for a moment: a kubelet asks only once a second.
        deadline = time.monotonic() + START_PATIENCE
        while (missing := self.ready()) and time.monotonic() < deadline:  # noqa: ASYNC110 - several conditions
            await asyncio.sleep(START_POLL)
        return PlainTextResponse(f"{missing}\n", 503) if missing else PlainTextResponse("ready\n")

    async def _metrics(self, request: Request) -> Response:
        del request
        return PlainTextResponse(self.metrics.render(), media_type="text/plain; version=0.0.4")

    async def _syncz(self, request: Request) -> Response:
        del request
        rows = [sync_state(c) for c in self.ads.connections]
        return JSONResponse(sorted(rows, key=lambda row: str(row["proxy"])))

    async def _registryz(self, request: Request) -> Response:
        del request
        world = self.pusher.latest.world
        return JSONResponse(
            [
                {**asdict(s), "endpoints": [asdict(e) for e in world.endpoints.get(s.fqdn, ())]}
                for s in sorted(world.services, key=lambda s: s.fqdn)
            ]
        )

    async def _configz(self, request: Request) -> Response:
        del request
        kinds = [versions[0] for versions in WATCHED if versions[0].group.endswith("istio.io")]
        objects = [obj for kind in kinds for obj in self.store.objects[kind.name].values()]
        refused = [
            {"resource": resource, "namespace": key[0], "name": key[1], "error": str(error)}
            for (resource, key), error in self.store.refused.items()
        ]
        return JSONResponse({"configs": objects, "refused": refused})

    async def _config_dump(self, request: Request) -> Response:
        wanted = request.query_params.get("proxyID", "")
        for connection in self.ads.connections:
            pod = f"{connection.proxy.name}.{connection.proxy.namespace}"
            if wanted in (connection.proxy.id, pod):
                return JSONResponse(_versions(connection))
        return JSONResponse({"error": f"no proxy {wanted!r} is connected"}, 404)

    async def _accesslogz(self, request: Request) -> Response:
        after, limit = _number(request, "after", 0), _number(request, "limit", 1000)
        return JSONResponse(self.sink.after(after, min(limit, MOST_ENTRIES)))

    async def _wait(self, request: Request) -> Response:
        query = request.query_params
        resource, version = query.get("resource", ""), query.get("resourceVersion", "")
        if resource not in {versions[0].name for versions in WATCHED} or not version:
            known = ", ".join(sorted(versions[0].name for versions in WATCHED))
            return JSONResponse(
                {"error": f"resource is one of {known}; resourceVersion a number or `deleted`"},
                400,
            )
        key = (query.get("namespace", ""), query.get("name", ""))
        timeout = min(float(query.get("timeout", 5)), LONGEST_WAIT)
        return JSONResponse(await self.wait(resource, key, version, timeout=timeout))

    async def wait(
        self,
        resource: str,
        key: tuple[str, str],
        version: str,
        *,
        timeout: float,  # noqa: ASYNC109 - the caller's, answered in words when it runs out
    ) -> dict[str, Any]:
        """Wait until a change has been processed and every proxy it concerns has answered."""
        began = time.monotonic()
        deadline = began + timeout
        generation = await self._seen(resource, key, version, deadline)
        if generation is None:
            seconds = round(time.monotonic() - began, 4)
            pending = [{"id": "istiod", "reason": "the change has not been seen yet"}]
            return {"synced": False, "seconds": seconds, "proxies": [], "pending": pending}
        while True:
            moved = [asyncio.ensure_future(c.moved.wait()) for c in self.ads.connections]
            proxies, pending = self._answers(generation, began)
            left = deadline - time.monotonic()
            if not pending or left <= 0 or any("error" in p for p in pending):
                break
            await asyncio.wait(moved, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for waiter in moved:
                waiter.cancel()
        for waiter in moved:
            waiter.cancel()
        seconds = round(time.monotonic() - began, 4)
        return {"synced": not pending, "seconds": seconds, "proxies": proxies, "pending": pending}

    async def _seen(
        self, resource: str, key: tuple[str, str], version: str, deadline: float
    ) -> int | None:
        """Return the change's generation once it is in a pushed world; None when time runs out."""
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                while (at := self.store.processed(resource, key, version)) is None:
                    await self.store.next_change()
                await self.pusher.reached(at)
        except TimeoutError:
            return None
        return at

    def _answers(
        self, generation: int, began: float
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the proxies that answered, and those that did not or refused."""
        proxies, pending = [], []
        for connection in self.ads.connections:
            if connection.started_at >= generation:
                continue  # it connected later and began with the change
            name = connection.proxy.id
            record = connection.record_of(generation)
            if record is None:
                if connection.generation < generation:
                    pending.append({"id": name, "reason": "is being pushed to"})
                continue
            if record.errors:
                pending.append({"id": name, "error": record.errors[0]})
            elif not record.settled:
                pending.append({"id": name, "reason": "has not acknowledged yet"})
            elif record.sent:
                late = max(record.answered_at - began, 0.0)
                proxies.append({"id": name, "acked_after_ms": round(late * 1000, 1)})
        return proxies, pending


def sync_state(connection: Connection) -> dict[str, Any]:
    """Return a proxy's row of `/debug/syncz`: per type what was sent, acknowledged, refused."""
    types = {
        SHORT_NAMES.get(type_url, type_url): {
            "sent_nonce": s.nonce,
            "sent_at": s.sent_at,
            "acked_nonce": s.acked_nonce,
            "acked_at": s.acked_at,
            "status": _status(s.nonce, s.acked_nonce, s.error),
            "error": s.error,
            "resources": len(s.sent),
        }
        for type_url, s in connection.subscriptions.items()
    }
    proxy = connection.proxy
    return {
        "proxy": proxy.id,
        "name": proxy.name,
        "namespace": proxy.namespace,
        "type": proxy.type,
        "protocol": "delta" if connection.delta else "sotw",
        "connected_since": connection.connected_at,
        "generation": connection.generation,
        "istio_version": proxy.metadata.get("ISTIO_VERSION", ""),
        "types": types,
    }


def _status(nonce: str, acked: str, error: str) -> str:
    if not nonce:
        return "NOT SENT"
    if error:
        return "REJECTED"
    return "SYNCED" if nonce == acked else "STALE"


def _versions(connection: Connection) -> dict[str, Any]:
    return {
        SHORT_NAMES[type_url]: {name: resource.version for name, resource in made.items()}
        for type_url, made in connection.resources.items()
    }


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdigit() else default

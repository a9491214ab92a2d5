"""One replica writes: leader election by a Lease (coordination.k8s.io, client-go's rules)."""

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable

import httpx

from meshlab.control.registry.api import LEASES, Api, ApiError, Json

LOG = logging.getLogger("meshlab.control.leader")
DURATION = 15
"""Seconds for which a lease holds without renewal."""
RENEW = 5.0
RETRY = 2.0


def may_take(lease: Json, identity: str, now: dt.datetime) -> bool:
    """Tell whether `identity` may write itself into the lease: it is its own, free or over."""
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity") or ""
    if holder in ("", identity):
        return True
    renewed = spec.get("renewTime")
    if not renewed:
        return True
    until = dt.datetime.fromisoformat(renewed) + dt.timedelta(
        seconds=spec.get("leaseDurationSeconds") or DURATION
    )
    return until < now


def taken(lease: Json, identity: str, now: dt.datetime) -> Json:
    """Return the lease with `identity` as its holder from now."""
    spec = dict(lease.get("spec") or {})
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if spec.get("holderIdentity") != identity:
        spec["acquireTime"] = stamp
        spec["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1
    spec |= {
        "holderIdentity": identity,
        "leaseDurationSeconds": DURATION,
        "renewTime": stamp,
    }
    return {**lease, "spec": spec}


class Leader:
    """Runs work while it holds the lease."""

    def __init__(self, api: Api, name: str, namespace: str, identity: str) -> None:
        self.api = api
        self.name = name
        self.namespace = namespace
        self.identity = identity

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, work as long as it is held, begin again when it is lost."""
        while True:
            if not await self._take():
                await asyncio.sleep(RETRY)
                continue
            LOG.info("%s leads", self.identity)
            working = asyncio.ensure_future(work())
            try:
                await self._hold(working)
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            LOG.warning("%s leads no more", self.identity)

    async def release(self) -> None:
        """Give the lease back, so that the next one need not wait for its end."""
        try:
            lease = await self.api.find(LEASES, self.name, self.namespace)
            if lease and (lease.get("spec") or {}).get("holderIdentity") == self.identity:
                lease["spec"]["holderIdentity"] = ""
                await self.api.update(LEASES, lease)
        except (ApiError, httpx.HTTPError) as error:
            LOG.info("the lease is not given back: %s", error)

    async def _hold(self, working: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + DURATION
        while loop.time() < until:
            done, _ = await asyncio.wait([working], timeout=RENEW)
            if done:
                working.result()  # the work's own crash is the caller's
                return
            if await self._take():
                until = loop.time() + DURATION

    async def _take(self) -> bool:
        now = dt.datetime.now(dt.UTC)
        try:
            lease = await self.api.find(LEASES, self.name, self.namespace)
            if lease is None:
                meta = {"name": self.name, "namespace": self.namespace}
                fresh = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": meta,
                }
                await self.api.create(LEASES, taken(fresh, self.identity, now), self.namespace)
                return True
            if not may_take(lease, self.identity, now):
                return False
            await self.api.update(LEASES, taken(lease, self.identity, now))
        except ApiError as error:
            if error.status != 409:  # 409: another replica was faster
                LOG.warning("lease %s: %s", self.name, error)
            return False
        except httpx.HTTPError as error:
            LOG.warning("lease %s: %r", self.name, error)
            return False
        return True

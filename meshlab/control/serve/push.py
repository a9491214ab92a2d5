"""When a change becomes a push: bursts are gathered, a single change hardly waits."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from meshlab.control.registry.store import Change, Store
from meshlab.control.serve.metric import Metrics
from meshlab.control.snapshot import World
from meshlab.control.translate.depends import touched
from meshlab.control.translate.resources import TYPES

LOG = logging.getLogger("meshlab.control.serve.push")
QUIET = 0.025
"""Seconds without a further change after which a push goes out."""
LONGEST = 0.5
"""Seconds after which it goes out however busy the cluster is."""


@dataclass(frozen=True, slots=True)
class Push:
    """A world to bring to a proxy."""

    world: World
    generation: int
    types: frozenset[str]
    """Type URLs that the changes can have touched."""
    changed_at: float
    """Loop-independent monotonic seconds of the first change in it."""

    def after(self, earlier: "Push | None") -> "Push":
        """Return this push with an earlier one that never went out folded in."""
        if earlier is None:
            return self
        return Push(
            self.world,
            self.generation,
            self.types | earlier.types,
            min(self.changed_at, earlier.changed_at),
        )


class Receiver(Protocol):
    def offer(self, push: Push) -> None: ...


class Pusher:
    """Turns the store's changes into pushes to all receivers."""

    def __init__(self, store: Store, metrics: Metrics, receivers: Iterable[Receiver]) -> None:
        self.store = store
        self.metrics = metrics
        self.receivers = receivers
        self.latest = store.take()
        self._dirty = asyncio.Event()
        self._advanced = asyncio.Event()

    def notify(self) -> None:
        """Say that the store has changed."""
        self._dirty.set()

    async def run(self) -> None:
        while True:
            await self._dirty.wait()
            began = time.monotonic()
            await self._settle(began)
            self.publish(began)

    def publish(self, changed_at: float) -> None:
        """Take the world and offer it to everybody."""
        self._dirty.clear()
        change = self.store.take()
        self.metrics.debounce.observe(time.monotonic() - changed_at)
        self._count(change)
        self.latest = change
        # A change that touches nothing still moves the generation on: somebody may wait for it.
        types = touched(change.kinds) & frozenset(TYPES)
        push = Push(change.world, change.generation, types, changed_at)
        for receiver in list(self.receivers):
            receiver.offer(push)
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def reached(self, generation: int) -> None:
        """Wait until a world with this change was offered."""
        while self.latest.generation < generation:
            # A change that translation cannot see has woken nobody.
            self._dirty.set()
            await self._advanced.wait()

    async def _settle(self, began: float) -> None:
        """Wait for QUIET seconds without a change, LONGEST in all."""
        while (left := began + LONGEST - time.monotonic()) > 0:
            self._dirty.clear()
            try:
                await asyncio.wait_for(self._dirty.wait(), min(QUIET, left))
            except TimeoutError:
                return

    def _count(self, change: Change) -> None:
        for kind in change.kinds:
            self.metrics.triggers.add(type=kind.lower())
        self.metrics.services.set(len(change.world.services))
        self.metrics.virtual_services.set(len(change.world.of_kind("VirtualService")))

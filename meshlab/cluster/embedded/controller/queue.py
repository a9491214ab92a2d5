"""The work queue of a controller: each key once, a failed one again later (client-go's workqueue).

A controller's watches only say *which* object to look at; looking at it reads the present state, so
ten changes of one object cost one look, and a look that failed is simply repeated.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from meshlab.errors import MeshlabError

K = TypeVar("K", bound=Hashable)

log = logging.getLogger(__name__)


class Queue(Generic[K]):
    """Keys to look at, in the order they came; one being worked on waits for its worker."""

    def __init__(self, *, base_delay: float = 0.005, max_delay: float = 30.0) -> None:
        self._base_delay = base_delay
        self._max_delay = max_delay
        self._waiting: dict[K, None] = {}  # a dict keeps the order and makes each key unique
        self._working: set[K] = set()
        self._again: set[K] = set()  # added while being worked on
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Event()

    def add(self, key: K) -> None:
        if key in self._working:
            self._again.add(key)
            return
        self._waiting[key] = None
        self._ready.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Add the key later; of two times asked for, the earlier counts."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, seconds)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._due, key)

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    async def get(self) -> K:
        """Take the oldest key; `done` must follow."""
        while not self._waiting:
            self._ready.clear()
            await self._ready.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._working.add(key)
        return key

    def done(self, key: K, *, failed: bool = False) -> None:
        """Hand the key back; a failed one comes again, each time after twice the wait."""
        self._working.discard(key)
        if failed:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            self.add_after(key, min(self._base_delay * 2**failures, self._max_delay))
        else:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._working)


async def work(
    queue: Queue[K], reconcile: Callable[[K], Awaitable[None]], *, workers: int = 4
) -> None:
    """Take keys and reconcile them, for ever; different keys side by side, one key never."""
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_worker(queue, reconcile))


async def _worker(queue: Queue[K], reconcile: Callable[[K], Awaitable[None]]) -> None:
    while True:
        key = await queue.get()
        failed = True
        try:
            await reconcile(key)
            failed = False
        except MeshlabError as error:  # a conflict, a webhook that refuses: expected, so one line
            log.info("%s %s: %s; trying again", reconcile.__qualname__, key, error)
        except Exception:
            # Level triggered: the next look starts from the cluster's state, not from ours.
            log.exception("%s %s", reconcile.__qualname__, key)
        finally:
            queue.done(key, failed=failed)

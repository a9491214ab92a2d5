"""Many timers for the price of few: one queue and one loop timer for each duration in use.

Timers of one duration end in the order they began, so the loop needs to know the first alone;
starting and cancelling are one operation on an ordered dictionary.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable


class Timer:
    """A moment at which something is called, unless it is cancelled before."""

    __slots__ = ("_queue", "callback", "when")

    def __init__(self, queue: "_Queue", callback: Callable[[], None], when: float) -> None:
        self._queue = queue
        self.callback = callback
        self.when = when

    def cancel(self) -> None:
        """Do not call; harmless when it was called already."""
        self._queue.timers.pop(self, None)


class _Queue:
    """The timers of one duration, the next one first."""

    __slots__ = ("_armed", "_loop", "timers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._armed: asyncio.TimerHandle | None = None
        self.timers: OrderedDict[Timer, None] = OrderedDict()

    def start(self, callback: Callable[[], None], when: float) -> Timer:
        timer = Timer(self, callback, when)
        self.timers[timer] = None
        if self._armed is None:
            self._armed = self._loop.call_at(when, self._fire)
        return timer

    def _fire(self) -> None:
        self._armed = None
        # The loop may call up to its clock's resolution early; without the margin it would spin.
        now = self._loop.time() + 0.001
        while self.timers:
            timer = next(iter(self.timers))
            if timer.when > now:
                self._armed = self._loop.call_at(timer.when, self._fire)
                return
            del self.timers[timer]
            timer.callback()
            if self._armed is not None:  # the callback started the next one
                return

    def close(self) -> None:
        self.timers.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None


class Timers:
    """Timers by duration. Durations come from configuration, so there are few."""

    __slots__ = ("_loop", "_queues")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, _Queue] = {}

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        queue = self._queues.get(seconds)
        if queue is None:
            if len(self._queues) > 256:  # durations from request headers come in any number
                self._queues = {s: q for s, q in self._queues.items() if q.timers}
            queue = self._queues[seconds] = _Queue(self._loop)
        return queue.start(callback, self._loop.time() + seconds)

    def close(self) -> None:
        for queue in self._queues.values():
            queue.close()

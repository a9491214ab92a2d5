"""Earliest deadline first: the order that makes unequal weights come out evenly spread."""

from collections.abc import Callable
from heapq import heapify, heapreplace

from meshlab.proxy.core.load_balancer.base import Host


class Schedule:
    """Each host's next turn is 1/weight after its last; whoever's turn comes first is picked."""

    __slots__ = ("_heap", "_order", "_weight")

    def __init__(self, hosts: list[Host], weight: Callable[[Host], float], start: float) -> None:
        """Order `hosts`; `start` from [0, 1) says how far into the rotation to begin."""
        self._weight = weight
        self._order = len(hosts)
        self._heap = [(1 / weight(host), place, host) for place, host in enumerate(hosts)]
        heapify(self._heap)
        for _ in range(int(start * len(hosts))):
            self.next()

    def next(self) -> Host:
        deadline, _, host = self._heap[0]
        self._order += 1
        heapreplace(self._heap, (deadline + 1 / self._weight(host), self._order, host))
        return host

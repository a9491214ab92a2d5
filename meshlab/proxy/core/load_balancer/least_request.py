"""The less busy of a few drawn at random (Envoy `LEAST_REQUEST`, "power of two choices")."""

from meshlab.proxy.core.load_balancer.base import Dice, Host
from meshlab.proxy.core.load_balancer.edf import Schedule


class LeastRequest:
    """With unequal weights: a rotation in which weights shrink as requests pile up."""

    __slots__ = ("_choices", "_hosts", "_schedule")

    def __init__(self, hosts: list[Host], dice: Dice, choices: int, bias: float) -> None:
        self._hosts = hosts
        self._choices = choices

        def weight(host: Host) -> float:
            load: float = (host.stats.rq_active + 1) ** bias
            return host.weight / load

        equal = len({host.weight for host in hosts}) == 1
        self._schedule = None if equal else Schedule(hosts, weight, dice())

    def pick(self, dice: Dice) -> Host:
        if self._schedule is not None:
            return self._schedule.next()
        hosts = self._hosts
        count = len(hosts)
        best = hosts[int(dice() * count)]
        if count == 1:
            return best
        for _ in range(self._choices - 1):
            other = hosts[int(dice() * count)]
            if other.stats.rq_active < best.stats.rq_active:
                best = other
        return best

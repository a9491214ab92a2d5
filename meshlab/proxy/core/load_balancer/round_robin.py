"""One after the other (Envoy `ROUND_ROBIN`), weights respected."""

from meshlab.proxy.core.load_balancer.base import Dice, Host
from meshlab.proxy.core.load_balancer.edf import Schedule


class RoundRobin:
    """Starts anywhere, so that proxies that start together do not march in step."""

    __slots__ = ("_hosts", "_next", "_schedule")

    def __init__(self, hosts: list[Host], dice: Dice) -> None:
        self._hosts = hosts
        equal = len({host.weight for host in hosts}) == 1
        self._schedule = None if equal else Schedule(hosts, weight, dice())
        self._next = int(dice() * len(hosts))

    def pick(self, dice: Dice) -> Host:
        if self._schedule is not None:
            return self._schedule.next()
        hosts = self._hosts
        place = self._next
        self._next = place + 1 if place + 1 < len(hosts) else 0
        return hosts[place]


def weight(host: Host) -> float:
    return host.weight

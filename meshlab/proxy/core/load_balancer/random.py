"""Any host, all alike (Envoy `RANDOM`)."""

from meshlab.proxy.core.load_balancer.base import Dice, Host


class Random:
    """Weights do not count, as in Envoy."""

    __slots__ = ("_hosts",)

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = hosts

    def pick(self, dice: Dice) -> Host:
        return self._hosts[int(dice() * len(self._hosts))]

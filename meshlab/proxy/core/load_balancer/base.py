"""The hosts of a cluster, and who may be chosen: health, priorities, panic, localities."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol

from meshlab.proxy.core.cluster import Cluster, Endpoint, Locality, LocalityEndpoints
from meshlab.proxy.core.outlier_detection import Record

Dice = Callable[[], float]
"""Draws from [0, 1)."""

NOT_HEALTHY = frozenset({"unhealthy", "draining", "timeout"})


class HostStats:
    """Counted per host, as Envoy's /clusters shows them."""

    __slots__ = (
        "cx_active",
        "cx_connect_fail",
        "cx_total",
        "rq_active",
        "rq_error",
        "rq_success",
        "rq_timeout",
        "rq_total",
    )

    def __init__(self) -> None:
        self.cx_active = 0
        self.cx_connect_fail = 0
        self.cx_total = 0
        self.rq_active = 0
        self.rq_error = 0
        self.rq_success = 0
        self.rq_timeout = 0
        self.rq_total = 0


class Host:
    """One endpoint and what is known of it. Lives on when configuration names it again."""

    __slots__ = ("address", "endpoint", "locality", "outlier", "priority", "stats", "weight")

    def __init__(self, endpoint: Endpoint, locality: Locality, priority: int) -> None:
        self.endpoint = endpoint
        self.address = str(endpoint.address)
        self.locality = locality
        self.priority = priority
        self.weight = max(endpoint.weight, 1)
        self.stats = HostStats()
        self.outlier = Record()

    def update(self, endpoint: Endpoint, locality: Locality, priority: int) -> None:
        """Take over what a new assignment says of the same address."""
        self.endpoint = endpoint
        self.locality = locality
        self.priority = priority
        self.weight = max(endpoint.weight, 1)

    @property
    def ejected(self) -> bool:
        return self.outlier.ejected

    @property
    def healthy(self) -> bool:
        return not self.outlier.ejected and self.endpoint.health not in NOT_HEALTHY


class Picker(Protocol):
    """A load balancing policy over a fixed list of hosts."""

    def pick(self, dice: Dice) -> Host:
        """Return the next host."""
        ...


MakePicker = Callable[[list[Host], Dice], Picker]


class _Level:
    """The hosts of one priority that are chosen from now, by locality where that counts."""

    __slots__ = ("_ends", "_pickers", "load")

    def __init__(self, load: float, pickers: list[Picker], weights: list[float]) -> None:
        self.load = load
        self._pickers = pickers
        self._ends: list[float] = []
        total = 0.0
        for weight in weights:
            total += weight
            self._ends.append(total)

    def pick(self, dice: Dice) -> Host:
        if len(self._pickers) == 1:
            return self._pickers[0].pick(dice)
        place = bisect_right(self._ends, dice() * self._ends[-1])
        return self._pickers[min(place, len(self._pickers) - 1)].pick(dice)


class Balancer:
    """Chooses hosts of a cluster.

    Attributes:
        hosts: all of them, the unhealthy too.
        panic: some level is so ill that health is ignored there (`healthy_panic_threshold`).
    """

    __slots__ = ("_config", "_factor", "_levels", "_make", "_weights", "hosts", "panic")

    def __init__(self, config: Cluster, make: MakePicker) -> None:
        self._config = config
        self._make = make
        self._levels: list[_Level] = []
        self._weights: dict[tuple[int, Locality], int] = {}
        self._factor = 140
        self.hosts: list[Host] = []
        self.panic = False

    def set_hosts(
        self, localities: Sequence[LocalityEndpoints], factor: int, dice: Dice
    ) -> tuple[list[Host], list[Host]]:
        """Take a new assignment; hosts with a known address stay. Return (added, removed)."""
        known = {host.address: host for host in self.hosts}
        kept: dict[str, Host] = {}
        added: list[Host] = []
        self._factor = factor
        self._weights = {}
        for group in localities:
            if group.weight is not None:
                self._weights[group.priority, group.locality] = group.weight
            for endpoint in group.endpoints:
                address = str(endpoint.address)
                if address in kept:
                    continue
                host = known.pop(address, None)
                if host is None:
                    host = Host(endpoint, group.locality, group.priority)
                    added.append(host)
                else:
                    host.update(endpoint, group.locality, group.priority)
                kept[address] = host
        self.hosts = list(kept.values())
        self.rebuild(dice)
        return added, list(known.values())

    def rebuild(self, dice: Dice) -> None:
        """Work out again who may be chosen; needed when a host's health changed."""
        by_priority: dict[int, list[Host]] = {}
        for host in self.hosts:
            by_priority.setdefault(host.priority, []).append(host)
        groups = [by_priority[priority] for priority in sorted(by_priority)]
        shares = [100 * sum(host.healthy for host in group) / len(group) for group in groups]
        loads = priority_loads(shares, self._factor)
        sick = sum(min(100.0, share * self._factor / 100) for share in shares) < 100
        self.panic = False
        self._levels = []
        for group, share, load in zip(groups, shares, loads, strict=True):
            hosts = [host for host in group if host.healthy]
            if sick and share < self._config.healthy_panic_percent:
                self.panic = True
                hosts = group
            if hosts and load:
                self._levels.append(self._level(hosts, group, load, dice))

    def _level(self, hosts: list[Host], group: list[Host], load: float, dice: Dice) -> _Level:
        if not self._config.locality_weighted:
            return _Level(load, [self._make(hosts, dice)], [1.0])
        pickers: list[Picker] = []
        weights: list[float] = []
        for locality in dict.fromkeys(host.locality for host in hosts):
            here = [host for host in hosts if host.locality == locality]
            total = sum(host.locality == locality for host in group)
            weight = self._weights.get((here[0].priority, locality), 0)
            if weight:
                pickers.append(self._make(here, dice))
                weights.append(weight * min(100.0, self._factor * len(here) / total))
        return _Level(load, pickers or [self._make(hosts, dice)], weights or [1.0])

    def choose(self, dice: Dice) -> Host | None:
        """Return a host, None where nobody may be chosen."""
        levels = self._levels
        if not levels:
            return None
        if len(levels) == 1:
            return levels[0].pick(dice)
        draw = dice() * sum(level.load for level in levels)
        for level in levels:
            draw -= level.load
            if draw < 0:
                return level.pick(dice)
        return levels[-1].pick(dice)


def priority_loads(shares: list[float], factor: int) -> list[float]:
    """Return how much of the traffic each priority gets, 100 in all (Envoy "Priority levels").

    Args:
        shares: the healthy share of each priority, 0–100.
        factor: `overprovisioning_factor`; with 140, 72 % healthy hosts still carry everything.
    """
    available = [min(100.0, share * factor / 100) for share in shares]
    total = min(100.0, sum(available))
    if not total:
        return [100.0 / len(shares)] * len(shares) if shares else []
    left = 100.0
    loads: list[float] = []
    for amount in available:
        load = min(left, amount * 100 / total)
        loads.append(load)
        left -= load
    return loads

"""Counters, gauges and histograms as plain objects; rendered only when somebody scrapes.

Names are Envoy's dotted ones (`cluster.web.upstream_rq_total`); Istio's metrics carry labels.
"""

from bisect import bisect_left
from collections.abc import Iterable

BUCKETS = (
    *(0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0),
    *(30_000.0, 60_000.0, 300_000.0, 600_000.0, 1_800_000.0, 3_600_000.0),
)
"""Envoy's histogram bounds (upper, included), for milliseconds and bytes alike."""

Labels = tuple[tuple[str, str], ...]


class Counter:
    """Only grows."""

    __slots__ = ("labels", "name", "value")

    def __init__(self, name: str, labels: Labels = ()) -> None:
        self.name = name
        self.labels = labels
        self.value = 0


class Gauge:
    """A level: how many there are now."""

    __slots__ = ("labels", "name", "value")

    def __init__(self, name: str, labels: Labels = ()) -> None:
        self.name = name
        self.labels = labels
        self.value = 0


class Histogram:
    """How often a value fell into which bucket.

    Attributes:
        counts: one for each of `bounds`, and the last one for what is above all; not cumulated.
    """

    __slots__ = ("bounds", "counts", "labels", "name", "sum")

    def __init__(self, name: str, labels: Labels = (), bounds: tuple[float, ...] = BUCKETS) -> None:
        self.name = name
        self.labels = labels
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def record(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class StatRegistry:
    """All statistics of a worker: each is made once and kept by those who count.

    Whoever asks twice for a name and labels gets the same object.
    """

    __slots__ = ("counters", "gauges", "histograms")

    def __init__(self) -> None:
        self.counters: dict[tuple[str, Labels], Counter] = {}
        self.gauges: dict[tuple[str, Labels], Gauge] = {}
        self.histograms: dict[tuple[str, Labels], Histogram] = {}

    def counter(self, name: str, labels: Labels = ()) -> Counter:
        found = self.counters.get((name, labels))
        if found is None:
            found = self.counters[name, labels] = Counter(name, labels)
        return found

    def gauge(self, name: str, labels: Labels = ()) -> Gauge:
        found = self.gauges.get((name, labels))
        if found is None:
            found = self.gauges[name, labels] = Gauge(name, labels)
        return found

    def histogram(self, name: str, labels: Labels = ()) -> Histogram:
        found = self.histograms.get((name, labels))
        if found is None:
            found = self.histograms[name, labels] = Histogram(name, labels)
        return found

    def drop(self, prefix: str, keep: tuple[str, ...] = ()) -> None:
        """Forget the statistics of what is gone (`cluster.web.`), except those under `keep`."""
        for key in gone(self.counters, prefix, keep):
            del self.counters[key]
        for key in gone(self.gauges, prefix, keep):
            del self.gauges[key]
        for key in gone(self.histograms, prefix, keep):
            del self.histograms[key]


def gone(
    keys: Iterable[tuple[str, Labels]], prefix: str, keep: tuple[str, ...]
) -> list[tuple[str, Labels]]:
    """Return the keys under `prefix` and under none of `keep`."""
    return [key for key in keys if key[0].startswith(prefix) and not key[0].startswith(keep)]

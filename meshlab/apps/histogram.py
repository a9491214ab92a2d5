"""fortio's histogram: buckets that widen with the value, so that 0.1 ms and 10 s both show.

Same buckets, percentiles, JSON shape and text as fortio's, whose reports people know how to read.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BOUNDS = (
    *range(12),
    *range(12, 20, 2),
    *range(20, 50, 5),
    *range(50, 100, 10),
    *range(100, 200, 20),
    *range(200, 500, 50),
    *range(500, 1000, 100),
    *(1000, 2000, 3000, 4000, 5000, 7500, 10000),
    *(20000, 30000, 40000, 50000, 75000, 100000),
)
"""Upper ends of the buckets, in units of the resolution; a value on a bound belongs below it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many values lie in ]start, end]; `percent` counts all up to `end`."""

    start: float
    end: float
    percent: float
    count: int


class Histogram:
    """Counts values; `resolution` is the width of the smallest bucket."""

    __slots__ = (
        "_buckets",
        "_squares",
        "count",
        "maximum",
        "minimum",
        "offset",
        "resolution",
        "total",
    )

    def __init__(self, resolution: float, offset: float = 0.0) -> None:
        self.resolution = resolution
        self.offset = offset
        self.count = 0
        self.minimum = 0.0
        self.maximum = 0.0
        self.total = 0.0
        self._squares = 0.0
        self._buckets = [0] * (len(BOUNDS) + 1)

    def record(self, value: float) -> None:
        """Count one value."""
        if self.count:
            self.minimum = min(self.minimum, value)
            self.maximum = max(self.maximum, value)
        else:
            self.minimum = self.maximum = value
        self.count += 1
        self.total += value
        self._squares += value * value
        scaled = (value - self.offset) / self.resolution
        self._buckets[bisect_left(BOUNDS, scaled - 1e-12)] += 1

    def merge(self, other: "Histogram") -> None:
        """Add the values of another histogram of the same resolution."""
        if not other.count:
            return
        self.minimum = min(self.minimum, other.minimum) if self.count else other.minimum
        self.maximum = max(self.maximum, other.maximum) if self.count else other.maximum
        self.count += other.count
        self.total += other.total
        self._squares += other._squares
        self._buckets = [a + b for a, b in zip(self._buckets, other._buckets, strict=True)]

    @property
    def average(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def deviation(self) -> float:
        if not self.count:
            return 0.0
        variance = (self._squares - self.total * self.total / self.count) / self.count
        return math.sqrt(max(variance, 0.0))

    @property
    def behind_percent(self) -> float:
        """How much lies in the first bucket (for sleep times: those that came too late)."""
        return 100 * self._buckets[0] / self.count if self.count else 0.0

    def buckets(self) -> list[Bucket]:
        """Return the buckets that hold something; the outer ends are the extremes seen."""
        found: list[Bucket] = []
        seen, below = 0, BOUNDS[0]
        for index, count in enumerate(self._buckets):
            bound = BOUNDS[index] if index < len(BOUNDS) else None
            if count:
                seen += count
                start = self._edge(below) if found else self.minimum
                end = self.maximum if bound is None else self._edge(bound)
                found.append(Bucket(start, end, 100 * seen / self.count, count))
            below = below if bound is None else bound
        if found:
            last = found[-1]
            found[-1] = Bucket(last.start, self.maximum, last.percent, last.count)
        return found

    def _edge(self, bound: int) -> float:
        return self.resolution * bound + self.offset

    def percentile(self, percent: float) -> float:
        """Return the value that `percent` of all values do not exceed, linear within a bucket."""
        buckets = self.buckets()
        if not buckets:
            return 0.0
        before = 100 / self.count
        if percent <= before:
            return self.minimum
        for bucket in buckets:
            if percent <= bucket.percent and percent < 100:
                share = (percent - before) / (bucket.percent - before)
                return bucket.start + share * (bucket.end - bucket.start)
            before = bucket.percent
        return self.maximum

    def as_json(self, percentiles: Sequence[float] = ()) -> dict[str, Any]:
        """Return fortio's `HistogramData`."""
        data: dict[str, Any] = {
            "Count": self.count,
            "Min": _number(self.minimum),
            "Max": _number(self.maximum),
            "Sum": _number(self.total),
            "Avg": _number(self.average),
            "StdDev": _number(self.deviation),
            "Data": [
                {
                    "Start": _number(b.start),
                    "End": _number(b.end),
                    "Percent": _number(b.percent),
                    "Count": b.count,
                }
                for b in self.buckets()
            ]
            or None,
        }
        if percentiles and self.count:
            data["Percentiles"] = [
                {"Percentile": _number(percent), "Value": _number(self.percentile(percent))}
                for percent in percentiles
            ]
        return data

    def summary(self, title: str) -> str:
        """Return fortio's one line of count, average, deviation and extremes."""
        return (
            f"{title} : count {self.count} avg {self.average:.8g} +/- {self.deviation:.4g} "
            f"min {shortest(self.minimum)} max {shortest(self.maximum)} sum {self.total:.9g}"
        )

    def table(self, title: str, percentiles: Sequence[float]) -> Iterator[str]:
        """Yield fortio's lines: summary, a line a bucket, a line a percentile."""
        if not self.count:
            yield f"{title} : no data"
            return
        yield self.summary(title)
        yield "# range, mid point, percentile, count"
        for index, b in enumerate(self.buckets()):
            yield (
                f"{'>' if index else '>='} {b.start:.6g} <= {b.end:.6g} , "
                f"{(b.start + b.end) / 2:.6g} , {b.percent:.2f}, {b.count}"
            )
        yield from self.targets(percentiles)

    def targets(self, percentiles: Sequence[float]) -> Iterator[str]:
        """Yield `# target 99% 0.0123`, a line a percentile."""
        for percent in percentiles:
            yield f"# target {percent:g}% {self.percentile(percent):.6g}"


def shortest(value: float) -> str:
    """Return a number as Go's `%g` does: the shortest digits, an exponent from a million on."""
    digits = repr(float(value))
    if "e" not in digits:
        digits = digits.removesuffix(".0")
        if abs(value) < 1e6 and (value == 0 or abs(value) >= 1e-4):
            return digits
    count = len(digits.partition("e")[0].replace(".", "").replace("-", "").strip("0")) or 1
    return f"{value:.{count - 1}e}"


def _number(value: float) -> float | int:
    """Return a whole number without its decimal point, as Go writes JSON."""
    return int(value) if float(value).is_integer() else value

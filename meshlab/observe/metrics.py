"""Prometheus' text format, read: samples, sums by label, rates between two scrapes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshlab.errors import ProtocolError

SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)"  # name
    r"(?:\{(.*)\})?"  # labels; a brace may stand in a value, hence the greedy match
    r"[ \t]+(\S+)"  # value
    r"(?:[ \t]+-?\d+)?[ \t]*"  # time
)
LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)')
ESCAPE = re.compile(r"\\(.)")
ESCAPED = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float


def parse(text: str) -> list[Sample]:
    """Return the samples of a scrape, in order.

    Raises:
        ProtocolError: a line is neither a comment nor a sample.
    """
    lines = (line.strip() for line in text.splitlines())
    return [_sample(line) for line in lines if line and not line.startswith("#")]


def _sample(line: str) -> Sample:
    found = SAMPLE.fullmatch(line)
    if found is None:
        raise ProtocolError(f"{line[:120]!r} is not a Prometheus sample")
    name, labels, value = found.groups()
    try:
        return Sample(name, _labels(labels or ""), float(value))
    except ValueError as error:
        raise ProtocolError(f"{line[:120]!r} is not a Prometheus sample: {error}") from error


def _labels(text: str) -> dict[str, str]:
    labels = {}
    position = 0
    while position < len(text):
        found = LABEL.match(text, position)
        if found is None:
            raise ValueError(f"label at {text[position : position + 20]!r}")
        key, value = found.groups()
        labels[key] = ESCAPE.sub(lambda m: ESCAPED.get(m[1], m[0]), value)
        position = found.end()
    return labels


def select(samples: Iterable[Sample], name: str, **labels: str) -> list[Sample]:
    """Return the samples of a name that carry all these labels."""
    return [s for s in samples if s.name == name and labels.items() <= s.labels.items()]


def total(samples: Iterable[Sample], name: str, **labels: str) -> float:
    return sum(sample.value for sample in select(samples, name, **labels))


Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and sorted labels."""


def series(samples: Iterable[Sample]) -> dict[Series, float]:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}


def rates(before: Iterable[Sample], after: Iterable[Sample], seconds: float) -> dict[Series, float]:
    """Return each counter's growth a second between two scrapes.

    One that fell was reset (its process restarted), so it grew by what it shows now; one that was
    not there before grew from nothing.
    """
    old = series(before)
    return {
        key: (value - old[key] if old.get(key, 0) <= value and key in old else value) / seconds
        for key, value in series(after).items()
    }

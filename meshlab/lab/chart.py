"""The labs' charts: measured data in, a plot out.

Pure; `display.py` shows them and keeps them moving.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshlab.lab.load import FAILED, Request, Sample
from meshlab.lab.plot import (
    BLUE,
    CYAN,
    GREEN,
    GREY,
    INK,
    PATTERNS,
    PURPLE,
    YELLOW,
    Area,
    Axis,
    Cell,
    Cells,
    Columns,
    Event,
    Line,
    Mark,
    Plot,
    Points,
    Span,
    Spans,
    color,
    matrix_text,
    sparkline,
)
from meshlab.lab.share import accepted, confidence

BAND_ALPHA = 1e-4
"""The band holds a correct split in all but one of 10,000 windows: 99.99 %."""
WINDOW_SECONDS = 1.0
"""A point of a share is what was sent in this time before it."""
STEP_SECONDS = 0.2
ACKNOWLEDGE_SECONDS = 0.5
FEWEST = 5
"""A window with fewer requests than this shows nothing."""
MOST_POINTS = 260
"""Points of a finished chart: enough for its width, and far below 300 kB."""

Weights = Sequence[tuple[float, Mapping[str, float]]]
"""(unix time from which they were in force, share of each answer), oldest first."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was counted in one stretch of time; `end` is unix seconds."""

    end: float
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def share(self, name: str) -> float:
        return self.counts.get(name, 0) / (self.total or 1)


def windows(
    requests: Sequence[Request],
    *,
    step: float = STEP_SECONDS,
    width: float = WINDOW_SECONDS,
    cuts: Sequence[float] = (),
) -> list[Window]:
    """Return sliding windows over requests: one each `step`, the last ends with the last request.

    None reaches back over a cut (unix seconds): after a change only what was sent since counts.
    Windows with too few requests are left out.
    """
    # Drawn eight times a second from thousands of requests: one plain pass.
    parts: list[dict[int, dict[str, int]]] = [{} for _ in range(len(cuts) + 1)]
    ends = [0.0] * len(parts)
    for sent, _, status, body, _, _ in requests:
        part = bisect_right(cuts, sent) if cuts else 0
        if sent > ends[part]:
            ends[part] = sent
        cells = parts[part]
        number = int(sent / step + 1e-6)
        cell = cells.get(number)
        if cell is None:
            cell = cells[number] = {}
        name = body if 200 <= status <= 299 else FAILED
        cell[name] = cell.get(name, 0) + 1
    return [
        window
        for cells, end in zip(parts, ends, strict=True)
        if cells
        for window in _sliding(cells, end, step, width)
    ]


def _sliding(
    cells: Mapping[int, Mapping[str, int]], newest: float, step: float, width: float
) -> list[Window]:
    first, last = min(cells), max(cells)
    span = max(round(width / step), 1)
    found: list[Window] = []
    counts: Counter[str] = Counter()
    for cell in range(first, last + 1):
        counts.update(cells.get(cell, {}))
        if cell - span in cells:
            counts.subtract(cells[cell - span])
        end = newest if cell == last else (cell + 1) * step
        window = Window(end, {name: count for name, count in counts.items() if count > 0})
        if window.total >= FEWEST:
            found.append(window)
    return found


def shares(
    requests: Sequence[Request],
    *,
    names: Sequence[str],
    commanded: Weights | None = None,
    began: float,
    until: float | None = None,
    seconds: float | None = None,
    title: str = "Who answers",
) -> Plot:
    """Return stacked shares over time, the commanded weight of the first name, and its band.

    Args:
        requests: in the order of their ends.
        names: the answers, from the bottom; failed ones come on top.
        commanded: what the configuration says, and since when; None: nothing ever does.
        began: unix time of x = 0.
        until: unix time of the right edge; None: the last request.
        seconds: how much time to show; None: all of it.
    """
    last = until or max((r.sent for r in requests), default=began)
    whole = max(last - began, 1.0)
    step = STEP_SECONDS if seconds else max(STEP_SECONDS, whole / MOST_POINTS)
    cuts = [time for time, _ in commanded or ()]
    found = windows(requests, step=step, cuts=cuts)
    stack = [*names, FAILED]
    xs = [round(window.end - began, 2) for window in found]
    floor = [0.0] * len(found)
    marks: list[Mark] = []
    for name in stack:
        top = [round(low + w.share(name), 4) for low, w in zip(floor, found, strict=True)]
        marks.append(_area(name, xs, floor, top))
        floor = top
    if commanded is not None:
        marks += _commanded(names[0], found, xs, commanded, began)
    shown = seconds or whole
    left = max(last - began - shown, 0.0)
    text = [
        f"{name:>8} {sparkline([w.share(name) for w in found[:: max(len(found) // 60, 1)]])} "
        f"{found[-1].share(name) if found else 0:.0%}"
        for name in stack
    ]
    return Plot(
        title=title,
        x=Axis(title="seconds since the load began", low=left, high=left + max(shown, 5.0)),
        y=Axis(title="share of requests", percent=True, ticks=_percents()),
        marks=marks,
        events=_changes(commanded or (), names[0], began, left),
        note="" if not commanded else _band_note(names[0]),
        lines=text,
    )


def _area(name: str, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Area:
    return Area(
        name=name,
        pieces=[(xs, low, high)] if xs else [],
        color=color(name),
        pattern=PATTERNS.get(name, ""),
    )


def _percents() -> list[tuple[float, str]]:
    return [(value / 100, f"{value} %") for value in (0, 20, 40, 50, 60, 80, 100)]


def _band_note(name: str) -> str:
    return (
        f"line: the weight of {name} that the mesh was told; pale: where a correct split lies "
        "in 9,999 of 10,000 windows"
    )


def _in_force(commanded: Weights, name: str, end: float) -> float | None:
    """Return the weight that held up to a time; None where it was about to change."""
    before = [share.get(name, 0.0) for time, share in commanded if time < end]
    # A proxy has a change a little before the last one acknowledges it.
    changing = any(end <= time < end + ACKNOWLEDGE_SECONDS for time, _ in commanded)
    return before[-1] if before and not changing else None


def _commanded(
    name: str, found: Sequence[Window], xs: Sequence[float], commanded: Weights, began: float
) -> list[Mark]:
    pieces: list[tuple[list[float], list[float], list[float]]] = []
    unbroken = False
    last: float | None = None
    for window, x in zip(found, xs, strict=True):
        weight = _in_force(commanded, name, window.end)
        if weight is None:
            unbroken = False
            continue
        if not unbroken or weight != last:
            pieces.append(([], [], []))
        unbroken, last = True, weight
        low, high = accepted(window.total, weight, alpha=BAND_ALPHA)
        for values, value in zip(
            pieces[-1], (x, low / window.total, high / window.total), strict=True
        ):
            values.append(round(value, 4))
    edge = xs[-1] if xs else 0.0
    steps = [(max(time - began, 0.0), share.get(name, 0.0)) for time, share in commanded]
    if steps:
        steps.append((max(edge, steps[-1][0]), steps[-1][1]))
    line_x = [round(at, 2) for at, _ in steps]
    line_y = [value for _, value in steps]
    return [
        Area(name="99.99 % band", pieces=pieces, color="#FFFFFF", opacity=0.35),
        Line(name="", x=line_x, y=line_y, color="#FFFFFF", step=True, width=4.5, legend=False),
        Line(name=f"weight of {name}", x=line_x, y=line_y, color="#222222", step=True, width=2.0),
    ]


def _changes(commanded: Weights, name: str, began: float, left: float) -> list[Event]:
    return [
        Event(round(time - began, 2), f"{share.get(name, 0.0):.0%}")
        for time, share in commanded
        if time - began > left
    ]


def failures(
    requests: Sequence[Request],
    *,
    events: Sequence[tuple[float, str]] = (),
    expected: float | None = None,
    began: float,
    until: float | None = None,
    seconds: float | None = None,
    title: str = "Calls that fail",
) -> Plot:
    """Return the share of failed calls over time; `expected`: a line for what theory says."""
    last = until or max((r.sent for r in requests), default=began)
    whole = max(last - began, 1.0)
    shown = seconds or whole
    step = STEP_SECONDS if seconds else max(STEP_SECONDS, whole / MOST_POINTS)
    found = windows(requests, step=step, cuts=[time for time, _ in events])
    xs = [round(w.end - began, 2) for w in found]
    left = max(last - began - shown, 0.0)
    values = [round(w.share(FAILED), 4) for w in found]
    pieces = [(xs, [0.0] * len(xs), values)] if xs else []
    marks: list[Mark] = [
        Area(name="failed calls", pieces=pieces, color=PURPLE, pattern="x", opacity=0.6),
        Line(name="", x=xs, y=values, color=PURPLE, legend=False),
    ]
    if expected is not None:
        edges = [left, left + max(shown, 5.0)]
        marks.append(
            Line(
                name=f"theory without retry: {expected:.1%}",
                x=edges,
                y=[expected, expected],
                color=INK,
                dash=True,
            )
        )
    failed = sum(not request.good for request in requests)
    return Plot(
        title=title,
        x=Axis(title="seconds since the load began", low=left, high=left + max(shown, 5.0)),
        y=Axis(
            title="share of calls",
            high=0.5,
            ticks=[(v / 100, f"{v} %") for v in (0, 10, 20, 30, 40, 50)],
        ),
        marks=marks,
        events=[Event(round(t - began, 2), text) for t, text in events if t - began > left],
        lines=[
            f"{sparkline(values[:: max(len(values) // 60, 1)], 0, 0.5)}",
            f"{failed} of {len(requests)} calls failed",
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one policy made of a number of calls."""

    name: str
    sample: Sample
    attempts: int
    """Requests that arrived at the pods, as their own sidecars counted them."""

    @property
    def failed(self) -> float:
        return self.sample.failed / (len(self.sample) or 1)

    @property
    def per_call(self) -> float:
        return self.attempts / (len(self.sample) or 1)


def cost(before: Cost, after: Cost) -> Plot:
    """Return failures before and after, and on a second axis the attempts that they took."""
    both = (before, after)
    return Plot(
        title="What retries buy, and what they cost",
        x=Axis(),
        y=Axis(
            title="failed calls",
            high=0.25,
            ticks=[(v / 100, f"{v} %") for v in (0, 5, 10, 15, 20, 25)],
        ),
        secondary=Axis(
            title="attempts per call", low=1.0, high=1.5,
            ticks=[(v, f"{v:.1f}") for v in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)],
        ),
        marks=[
            Columns(
                name="failed calls", x=[-0.18, 0.82], y=[c.failed for c in both], color=PURPLE,
                width=0.3, pattern="x", texts=[f"{c.failed:.1%}" for c in both],
            ),
            Columns(
                name="attempts per call", x=[0.18, 1.18], y=[c.per_call for c in both],
                color=CYAN, width=0.3, secondary=True, texts=[f"{c.per_call:.3f}" for c in both],
            ),
        ],
        columns=[f"{c.name} ({len(c.sample)} calls)" for c in both],
        note="attempts as the sidecars of the called pods counted them",
        lines=[f"{c.name}: {c.failed:.1%} failed, {c.per_call:.3f} attempts a call" for c in both],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Staircase:
    """One measured point: replicas of both versions and how many of the calls the first one got."""

    replicas: int
    others: int
    count: int
    of: int

    @property
    def possible(self) -> float:
        return self.replicas / (self.replicas + self.others)


def staircase(measured: Sequence[Staircase], *, name: str, wanted: float) -> Plot:
    """Return measured shares on the staircase of those that replicas can make."""
    most = max((point.replicas + point.others for point in measured), default=2)
    totals = list(range(2, most + 1))
    marks: list[Mark] = [
        Line(
            name=f"one pod of {name} among so many",
            x=[total - 0.5 for total in [*totals, most + 1]],
            y=[1 / total for total in [*totals, most]],
            color=color(name),
            step=True,
        ),
        Line(
            name=f"wanted: {wanted:.0%}", x=[1.5, most + 0.5], y=[wanted, wanted],
            color=INK, dash=True,
        ),
    ]  # fmt: skip
    bounds = [confidence(point.count, point.of, alpha=BAND_ALPHA) for point in measured]
    marks.append(
        Points(
            name="measured, with its 99.99 % interval",
            x=[point.replicas + point.others for point in measured],
            y=[point.count / (point.of or 1) for point in measured],
            low=[low for low, _ in bounds],
            high=[high for _, high in bounds],
            color=PURPLE,
            texts=[f"{point.replicas} + {point.others}" for point in measured],
        )
    )
    return Plot(
        title="Replicas are a staircase, not a dial",
        x=Axis(
            title="pods behind the Service",
            low=1.5,
            high=most + 0.5,
            ticks=[(total, str(total)) for total in totals],
        ),
        y=Axis(title=f"share of {name}", high=0.75, ticks=_percents()[:5]),
        marks=marks,
        lines=[
            f"{p.replicas} + {p.others} pods: {p.count / (p.of or 1):.1%} of {p.of} calls, "
            f"possible {p.possible:.1%}"
            for p in measured
        ],
    )


STATUS_COLORS = {2: GREEN, 3: CYAN, 4: YELLOW, 5: PURPLE}
STATUS_SIGNS = {2: "✓", 3: "→", 4: "✗", 5: "!"}


def status_matrix(
    statuses: Mapping[tuple[str, str], int],
    *,
    hosts: Sequence[str],
    paths: Sequence[str],
    title: str,
) -> Plot:
    """Return host by path with the status of each; 0: nobody accepted the connection."""
    cells = []
    for row, host in enumerate(hosts):
        for column, path in enumerate(paths):
            status = statuses.get((host, path), 0)
            kind = status // 100
            text = f"{STATUS_SIGNS.get(kind, '')} {status}" if status else "refused"
            shade = STATUS_COLORS.get(kind, GREY)
            cells.append(Cell(row, column, text.strip(), shade, f"{host}{path}: {text}"))
    return Plot(
        title=title,
        x=Axis(),
        y=Axis(),
        marks=[Cells(name="status", cells=cells)],
        rows=list(hosts),
        columns=list(paths),
        height=130 + 34 * len(hosts),
        lines=matrix_text(hosts, paths, cells),
    )


def padlocks(
    edges: Mapping[tuple[str, str], bool | None],
    *,
    sources: Sequence[str],
    destinations: Sequence[str],
) -> Plot:
    """Return source by destination: mutual TLS, plain text, or no connection seen."""
    signs = {True: ("mutual TLS", GREEN), False: ("plain text", PURPLE), None: ("–", GREY)}
    cells = []
    for row, source in enumerate(sources):
        for column, destination in enumerate(destinations):
            secured = edges.get((source, destination))
            text, shade = signs[secured]
            hover = "no connection seen" if secured is None else text
            cells.append(
                Cell(row, column, text, shade, f"{source} → {destination}: {hover}", bool(secured))
            )
    return Plot(
        title="Who talked to whom, as the called side's proxy saw it",
        x=Axis(),
        y=Axis(),
        marks=[Cells(name="edges", cells=cells)],
        rows=[f"from {source}" for source in sources],
        columns=[f"to {destination}" for destination in destinations],
        height=130 + 34 * len(sources),
        note="–: no connection seen",
        lines=matrix_text(sources, destinations, cells),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of time with a name: a phase of a boot, a stop of a request."""

    name: str
    start: float
    end: float
    detail: str = ""
    kind: str = ""


def timeline(steps: Sequence[Step], *, title: str) -> Plot:
    """Return steps as bars under one another, in seconds from the first one's start."""
    zero = min((step.start for step in steps), default=0.0)
    high = max((step.end - zero for step in steps), default=1.0)
    spans = [
        Span(
            row,
            round(step.start - zero, 3),
            round(step.end - zero, 3),
            f"{step.end - step.start:.1f} s",
            f"{step.name}: {step.end - step.start:.2f} s {step.detail}".strip(),
        )
        for row, step in enumerate(steps)
    ]
    return Plot(
        title=title,
        x=Axis(title="seconds", high=max(high * 1.08, 0.5)),
        y=Axis(),
        marks=[Spans(name="took", spans=spans, color=BLUE)],
        rows=[step.name for step in steps],
        height=120 + 28 * len(steps),
        lines=[f"{step.name}: {step.end - step.start:.2f} s" for step in steps],
    )


WATERFALL_COLORS = {"app": GREY, "client": BLUE, "server": GREEN, "wire": PURPLE}


def waterfall(steps: Sequence[Step], *, title: str) -> Plot:
    """Return a request's way, stop by stop, in milliseconds; `kind` is client, server or app."""
    zero = min((step.start for step in steps), default=0.0)
    high = max((step.end - zero for step in steps), default=0.001) * 1000
    kinds = list(dict.fromkeys(step.kind for step in steps))
    words = {"client": "caller's side", "server": "called side", "app": "apps", "wire": "wire"}
    marks: list[Mark] = [
        Spans(
            name=words.get(kind, kind),
            color=WATERFALL_COLORS.get(kind, BLUE),
            spans=[
                Span(
                    row,
                    round((step.start - zero) * 1000, 3),
                    round((step.end - zero) * 1000, 3),
                    f"{(step.end - step.start) * 1000:.1f} ms",
                    f"{step.name}: {step.detail}",
                )
                for row, step in enumerate(steps)
                if step.kind == kind
            ],
        )
        for kind in kinds
    ]
    return Plot(
        title=title,
        x=Axis(title="milliseconds", high=max(high * 1.12, 0.1)),
        y=Axis(),
        marks=marks,
        rows=[step.name for step in steps],
        height=120 + 30 * len(steps),
        lines=[
            f"{step.name:<34} {(step.end - step.start) * 1000:7.1f} ms  {step.detail}".rstrip()
            for step in steps
        ],
    )

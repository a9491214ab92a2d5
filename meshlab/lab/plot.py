"""What a chart consists of, said once: axes and marks as plain data.

`figure.py` makes plotly's JSON of it (live, or to hover over), `svg.py` a picture that needs
nothing but a viewer, and `text` here a few lines for a terminal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BLUE, GREEN, RED, PURPLE = "#4477AA", "#228833", "#EE6677", "#AA3377"
YELLOW, CYAN, GREY = "#9A7200", "#66CCEE", "#8A9199"
"""Paul Tol's bright scheme (yellow darker, for white text on it): told apart with any colour
vision, and on light and dark ground."""
INK = "#777D84"
"""Text and axes: the same contrast (4.2) against white and against JupyterLab's dark ground."""
FAINT = "rgba(128,128,128,0.25)"

COLORS = {"blue": BLUE, "green": GREEN, "red": RED, "failed": PURPLE, "grey": GREY}
PATTERNS = {"green": "/", "red": ".", "failed": "x"}
"""Colour is never the only sign: areas have a hatch of their own, too."""


def color(name: str) -> str:
    """Return the colour of an answer (`blue`), the same in every chart."""
    others = (YELLOW, CYAN, GREY)
    return COLORS.get(name, others[sum(name.encode()) % len(others)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis; `ticks` are (value, label), empty: chosen from the range."""

    title: str = ""
    low: float = 0.0
    high: float = 1.0
    ticks: Sequence[tuple[float, str]] = ()
    percent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line through points; None in `y` breaks it. `step`: the value holds until the next x."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    color: str
    step: bool = False
    dash: bool = False
    width: float = 2.0
    secondary: bool = False
    legend: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """The ground between two curves; several `pieces` of (x, low, high) where it has gaps."""

    name: str
    pieces: Sequence[tuple[Sequence[float], Sequence[float], Sequence[float]]]
    color: str
    opacity: float = 0.75
    pattern: str = ""
    legend: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Single points with intervals (low, high)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    color: str
    texts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A bar from start to end in a row (rows count from the top)."""

    row: int
    start: float
    end: float
    text: str = ""
    hover: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Bars that lie: a Gantt chart, a waterfall."""

    name: str
    spans: Sequence[Span]
    color: str
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Bars that stand, one at each x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    width: float = 0.6
    texts: Sequence[str] = ()
    secondary: bool = False
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A field of a matrix."""

    row: int
    column: int
    text: str
    color: str
    hover: str = ""
    lock: bool = False
    """Whether a padlock is drawn before the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """A matrix of coloured fields with text."""

    name: str
    cells: Sequence[Cell]


Mark = Line | Area | Points | Spans | Columns | Cells


@dataclass(frozen=True, slots=True)
class Event:
    """A vertical line: what happened at that x."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """Words in the chart, in the data's coordinates; `color` of its ground, "": none."""

    x: float
    y: float
    text: str
    color: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A whole chart. Rows of a Gantt chart or matrix are the y axis' ticks, from the top."""

    title: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]
    secondary: Axis | None = None
    events: Sequence[Event] = ()
    labels: Sequence[Label] = ()
    note: str = ""
    rows: Sequence[str] = ()
    """Names of the rows, from the top; given: the y axis counts rows."""
    columns: Sequence[str] = ()
    """Names of the columns; given: the x axis counts columns."""
    height: int = 300
    lines: Sequence[str] = field(default_factory=tuple)
    """What `text` shows below the title."""

    def text(self) -> str:
        """Return the chart for a reader without pictures."""
        return "\n".join([self.title, *self.lines, *([self.note] if self.note else [])])


BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], low: float = 0.0, high: float = 1.0) -> str:
    """Return one character a value, from ▁ to █."""
    span = (high - low) or 1.0
    return "".join(
        " "
        if value is None
        else BLOCKS[min(max(int((value - low) / span * len(BLOCKS)), 0), len(BLOCKS) - 1)]
        for value in values
    )


def matrix_text(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Cell]) -> list[str]:
    """Return the lines of a matrix of texts."""
    texts: Mapping[tuple[int, int], str] = {(c.row, c.column): c.text for c in cells}
    table = [["", *columns]]
    table += [
        [name, *(texts.get((row, column), "") for column in range(len(columns)))]
        for row, name in enumerate(rows)
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round values across a range, about `count` of them."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** (len(str(int(span / count))) - 1) if span / count >= 1 else 1.0
    while span / step > count * 10:
        step *= 10
    while span / step < count / 2:
        step /= 10
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= count:
            step *= factor
            break
    first = -(-low // step) * step
    found = []
    value = first
    while value <= high + step * 1e-9:
        found.append(round(value, 10))
        value += step
    return found

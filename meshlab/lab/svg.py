"""A plot as SVG: a picture that nbconvert, GitHub and a reopened notebook show by themselves.

No script, no style sheet, no font of its own, transparent ground: it sits on light and dark pages.
"""

from collections.abc import Iterator, Sequence
from html import escape

from meshlab.lab.plot import (
    FAINT,
    INK,
    Area,
    Axis,
    Cells,
    Columns,
    Event,
    Label,
    Line,
    Mark,
    Plot,
    Points,
    Spans,
    ticks,
)

WIDTH = 780
TOP, BOTTOM, RIGHT = 62, 46, 22
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
CHARACTER = 6.6
"""About the width of a letter at 12 px, to leave room for names."""


PADLOCK = "M0.5 6H10.5V13H0.5ZM2 6V4A3.5 3.5 0 0 1 9 4V6H7.4V4A1.9 1.9 0 0 0 3.6 4V6Z"
"""A shackle and a body, 11 by 13: not every machine has a font with a padlock."""
LOCK_STYLE = 'fill="#fff"'


def render(plot: Plot) -> str:
    """Return the SVG document."""
    frame = _Frame(plot)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {frame.height}" '
        f'width="{WIDTH}" height="{frame.height}" role="img" aria-label="{escape(plot.title)}" '
        f'font-family="{FONT}" font-size="12" fill="{INK}">',
        f"<title>{escape(plot.title)}</title>",
        f"<desc>{escape(plot.text())}</desc>",
        *_patterns(plot.marks),
        f'<text x="{frame.left}" y="18" font-size="14" font-weight="600">'
        f"{escape(plot.title)}</text>",
        *_legend(plot, frame),
        *_axes(plot, frame),
    ]
    for mark in plot.marks:
        parts += _mark(mark, frame)
    parts += [part for event in plot.events for part in _event(event, frame)]
    parts += [part for label in plot.labels for part in _label(label, frame)]
    if plot.note:
        parts.append(
            f'<text x="{frame.left}" y="{frame.height - 6}" font-size="11">'
            f"{escape(plot.note)}</text>"
        )
    return "\n".join([*parts, "</svg>"])


class _Frame:
    """Where data coordinates lie on the picture."""

    def __init__(self, plot: Plot) -> None:
        names = list(plot.rows) or [label for _, label in _axis_ticks(plot.y)]
        self.left = 18 + max((len(name) for name in names), default=4) * CHARACTER
        self.left = round(self.left + (16 if plot.y.title else 0), 1)
        self.right = WIDTH - (RIGHT + 46 if plot.secondary else RIGHT)
        self.top = TOP
        self.height = plot.height
        self.bottom = plot.height - BOTTOM - (14 if plot.note else 0)
        self.plot = plot
        self.x_range = (
            (-0.5, len(plot.columns) - 0.5) if plot.columns else (plot.x.low, plot.x.high)
        )
        # Rows count from the top.
        self.y_range = (len(plot.rows) - 0.5, -0.5) if plot.rows else (plot.y.low, plot.y.high)

    def x(self, value: float) -> float:
        low, high = self.x_range
        part = (value - low) / ((high - low) or 1)
        return round(self.left + min(max(part, 0), 1) * (self.right - self.left), 1)

    def y(self, value: float, *, secondary: bool = False) -> float:
        low, high = self.y_range
        if secondary and self.plot.secondary:
            low, high = self.plot.secondary.low, self.plot.secondary.high
        part = (value - low) / ((high - low) or 1)
        return round(self.bottom - min(max(part, 0), 1) * (self.bottom - self.top), 1)


def _axis_ticks(axis: Axis) -> list[tuple[float, str]]:
    if axis.ticks:
        return list(axis.ticks)
    return [
        (value, f"{value:.0%}" if axis.percent else f"{value:g}")
        for value in ticks(axis.low, axis.high)
    ]


def _axes(plot: Plot, frame: _Frame) -> Iterator[str]:
    rows, columns = enumerate(plot.rows), enumerate(plot.columns)
    for value, label in rows if plot.rows else _axis_ticks(plot.y):
        y = frame.y(value)
        if not plot.rows:
            yield f'<path d="M{frame.left} {y}H{frame.right}" stroke="{FAINT}"/>'
        yield _text(frame.left - 8, y + 4, label, 'text-anchor="end"')
    for value, label in columns if plot.columns else _axis_ticks(plot.x):
        x = frame.x(value)
        if plot.rows and not plot.columns:
            yield f'<path d="M{x} {frame.top}V{frame.bottom}" stroke="{FAINT}"/>'
        yield f'<text x="{x}" y="{frame.bottom + 17}" text-anchor="middle">{escape(label)}</text>'
    if not plot.columns:
        yield f'<path d="M{frame.left} {frame.bottom}H{frame.right}" stroke="{INK}"/>'
    middle = (frame.left + frame.right) / 2
    if plot.x.title:
        yield (
            f'<text x="{middle}" y="{frame.bottom + 35}" text-anchor="middle">'
            f"{escape(plot.x.title)}</text>"
        )
    if plot.y.title:
        yield _turned(14, (frame.top + frame.bottom) / 2, plot.y.title, -90)
    if plot.secondary:
        for value, label in _axis_ticks(plot.secondary):
            y = frame.y(value, secondary=True)
            yield f'<text x="{frame.right + 8:.1f}" y="{y + 4:.1f}">{escape(label)}</text>'
        yield _turned(WIDTH - 12, (frame.top + frame.bottom) / 2, plot.secondary.title, 90)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _turned(x: float, y: float, text: str, angle: int) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="middle" transform="rotate({angle} {x} {y})">'
        f"{escape(text)}</text>"
    )


def _legend(plot: Plot, frame: _Frame) -> Iterator[str]:
    x = frame.left
    for mark in plot.marks:
        if isinstance(mark, Cells) or not getattr(mark, "legend", True):
            continue
        if len(plot.marks) == 1:
            return  # the title says it
        if isinstance(mark, Line):
            dash = ' stroke-dasharray="5 3"' if mark.dash else ""
            yield f'<path d="M{x} 35h16" stroke="{mark.color}" stroke-width="2.5"{dash}/>'
        elif isinstance(mark, Points):
            yield f'<circle cx="{x + 8:.1f}" cy="35" r="4.5" fill="{mark.color}"/>'
        else:
            opacity = mark.opacity if isinstance(mark, Area) else 0.9
            yield (
                f'<rect x="{x}" y="29" width="16" height="12" fill="{mark.color}" '
                f'fill-opacity="{opacity}" stroke="{INK}" stroke-width="0.6"/>'
            )
            if mark.pattern:
                hatch = _pattern(mark.pattern)
                yield f'<rect x="{x}" y="29" width="16" height="12" fill="{hatch}"/>'
        yield f'<text x="{x + 21:.1f}" y="39">{escape(mark.name)}</text>'
        x = round(x + 21 + len(mark.name) * CHARACTER + 18, 1)


_HATCHES = {
    "/": '<path d="M0 8L8 0M-2 2L2 -2M6 10L10 6" stroke="#fff" stroke-opacity=".55"/>',
    ".": '<circle cx="4" cy="4" r="1.4" fill="#fff" fill-opacity=".7"/>',
    "x": '<path d="M0 0L8 8M8 0L0 8" stroke="#fff" stroke-opacity=".7"/>',
}


def _pattern(name: str) -> str:
    return f"url(#hatch{list(_HATCHES).index(name)})"


def _patterns(marks: Sequence[Mark]) -> Iterator[str]:
    used = {getattr(mark, "pattern", "") for mark in marks} & set(_HATCHES)
    for name in sorted(used):
        number = list(_HATCHES).index(name)
        yield (
            f'<defs><pattern id="hatch{number}" width="8" height="8" '
            f'patternUnits="userSpaceOnUse">{_HATCHES[name]}</pattern></defs>'
        )


def _mark(mark: Mark, frame: _Frame) -> Iterator[str]:
    match mark:
        case Area():
            yield from _area(mark, frame)
        case Line():
            yield from _line(mark, frame)
        case Points():
            yield from _points(mark, frame)
        case Spans():
            yield from _spans(mark, frame)
        case Columns():
            yield from _columns(mark, frame)
        case Cells():
            yield from _cells(mark, frame)


def _area(mark: Area, frame: _Frame) -> Iterator[str]:
    path = ""
    for xs, lows, highs in mark.pieces:
        up = [f"{frame.x(x)} {frame.y(y)}" for x, y in zip(xs, highs, strict=True)]
        down = [f"{frame.x(x)} {frame.y(y)}" for x, y in zip(xs, lows, strict=True)]
        path += "M" + "L".join([*up, *reversed(down)]) + "Z"
    if path:
        yield f'<path d="{path}" fill="{mark.color}" fill-opacity="{mark.opacity}"/>'
        if mark.pattern:
            yield f'<path d="{path}" fill="{_pattern(mark.pattern)}"/>'


def _line(mark: Line, frame: _Frame) -> Iterator[str]:
    path = ""
    pen_down = False
    for x, y in zip(mark.x, mark.y, strict=True):
        if y is None:
            pen_down = False
            continue
        at = frame.x(x), frame.y(y, secondary=mark.secondary)
        if pen_down and mark.step:
            path += f"H{at[0]}V{at[1]}"
        else:
            path += f"{'L' if pen_down else 'M'}{at[0]} {at[1]}"
        pen_down = True
    dash = ' stroke-dasharray="6 4"' if mark.dash else ""
    if path:
        yield (
            f'<path d="{path}" fill="none" stroke="{mark.color}" stroke-width="{mark.width}" '
            f'stroke-linejoin="round"{dash}/>'
        )


def _points(mark: Points, frame: _Frame) -> Iterator[str]:
    texts = list(mark.texts) or [""] * len(mark.x)
    for x, y, low, high, text in zip(mark.x, mark.y, mark.low, mark.high, texts, strict=True):
        at = frame.x(x)
        yield (
            f'<path d="M{at} {frame.y(low)}V{frame.y(high)}M{at - 5:.1f} {frame.y(low)}h10'
            f'M{at - 5:.1f} {frame.y(high)}h10" stroke="{mark.color}" stroke-width="1.6"/>'
            f'<circle cx="{at}" cy="{frame.y(y)}" r="4.5" fill="{mark.color}"/>'
        )
        if text:
            yield f'<text x="{at + 9:.1f}" y="{frame.y(y) - 6:.1f}">{escape(text)}</text>'


def _spans(mark: Spans, frame: _Frame) -> Iterator[str]:
    for span in mark.spans:
        left, right = frame.x(span.start), frame.x(span.end)
        top = frame.y(span.row - 0.34)
        height = round(frame.y(span.row + 0.34) - top, 1)
        width = round(max(right - left, 2), 1)
        box = f'x="{left}" y="{top}" width="{width}" height="{height}" rx="2"'
        title = f"<title>{escape(span.hover or span.text)}</title>"
        yield f'<rect {box} fill="{mark.color}" fill-opacity="0.9">{title}</rect>'
        if mark.pattern:
            yield f'<rect {box} fill="{_pattern(mark.pattern)}"/>'
        if not span.text:
            continue
        room = len(span.text) * CHARACTER + 10
        beside = right + 6 if right + room < frame.right else left - room + 4
        x, fill = (left + 6, "#fff") if width > room else (beside, INK)
        yield _text(x, top + height / 2 + 4, span.text, f'fill="{fill}"')


def _columns(mark: Columns, frame: _Frame) -> Iterator[str]:
    texts = list(mark.texts) or [""] * len(mark.x)
    for x, y, text in zip(mark.x, mark.y, texts, strict=True):
        left, right = frame.x(x - mark.width / 2), frame.x(x + mark.width / 2)
        top = frame.y(y, secondary=mark.secondary)
        box = (
            f'x="{left}" y="{top}" width="{round(right - left, 1)}" '
            f'height="{round(frame.bottom - top, 1)}"'
        )
        yield f'<rect {box} fill="{mark.color}" fill-opacity="0.9"/>'
        if mark.pattern:
            yield f'<rect {box} fill="{_pattern(mark.pattern)}"/>'
        if text:
            middle = (left + right) / 2
            yield _text(middle, top - 5, text, 'text-anchor="middle"')


def _cells(mark: Cells, frame: _Frame) -> Iterator[str]:
    for cell in mark.cells:
        left = round(frame.x(cell.column - 0.5) + 2, 1)
        right = round(frame.x(cell.column + 0.5) - 2, 1)
        top = round(frame.y(cell.row - 0.5) + 2, 1)
        bottom = round(frame.y(cell.row + 0.5) - 2, 1)
        middle = round((top + bottom) / 2 + 4, 1)
        center = round((left + right) / 2 + (8 if cell.lock else 0), 1)
        yield (
            f'<rect x="{left}" y="{top}" width="{round(right - left, 1)}" '
            f'height="{round(bottom - top, 1)}" rx="3" fill="{cell.color}" fill-opacity="0.9">'
            f"<title>{escape(cell.hover or cell.text)}</title></rect>"
            f'<text x="{center}" y="{middle}" fill="#fff" text-anchor="middle" '
            f'font-weight="600">{escape(cell.text)}</text>'
        )
        if cell.lock:
            x = center - len(cell.text) * CHARACTER / 2 - 18
            place = f"translate({x:.1f} {middle - 11:.1f})"
            yield f'<path transform="{place}" d="{PADLOCK}" {LOCK_STYLE}/>'


def _event(event: Event, frame: _Frame) -> Iterator[str]:
    x = frame.x(event.x)
    yield f'<path d="M{x} {frame.top}V{frame.bottom}" stroke="{INK}" stroke-dasharray="2 3"/>'
    yield (
        f'<text x="{x}" y="{frame.top - 4}" font-size="11" text-anchor="middle">'
        f"{escape(event.text)}</text>"
    )


def _label(label: Label, frame: _Frame) -> Iterator[str]:
    x, y = frame.x(label.x), frame.y(label.y)
    if label.color:
        width = len(label.text) * CHARACTER + 12
        yield (
            f'<rect x="{x - width / 2:.1f}" y="{y - 9:.1f}" width="{width}" height="18" rx="9" '
            f'fill="{label.color}"/>'
        )
    fill = "#fff" if label.color else INK
    yield (
        f'<text x="{x}" y="{y + 4}" text-anchor="middle" fill="{fill}" font-weight="600">'
        f"{escape(label.text)}</text>"
    )

"""A plot as plotly's JSON (`data` and `layout`): what the live widget and the hover form draw.

Plain dicts and lists, so that nothing is imported for a notebook that never shows one.
"""

from collections.abc import Sequence
from typing import Any

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
)

CLEAR = "rgba(0,0,0,0)"


def render(plot: Plot) -> dict[str, Any]:
    """Return the figure; a trace a mark, in their order, which live charts rely on."""
    return {"data": [_trace(mark, plot) for mark in plot.marks], "layout": layout(plot)}


def _trace(mark: Mark, plot: Plot) -> dict[str, Any]:
    match mark:
        case Area():
            return _area(mark)
        case Line():
            return _line(mark)
        case Points():
            return _points(mark)
        case Spans():
            return _spans(mark)
        case Columns():
            return _columns(mark)
        case Cells():
            return _cells(mark, plot)


def _area(mark: Area) -> dict[str, Any]:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for x, low, high in mark.pieces:
        if xs:
            xs.append(None)
            ys.append(None)
        xs += [*x, *reversed(x)]
        ys += [*high, *reversed(low)]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": mark.name,
        "x": xs,
        "y": ys,
        "fill": "toself",
        "fillcolor": _rgba(mark.color, mark.opacity),
        "line": {"width": 0, "color": mark.color},
        "hoverinfo": "skip",
        "showlegend": mark.legend,
    }
    if mark.pattern:
        trace["fillpattern"] = {
            "shape": mark.pattern,
            "fillmode": "overlay",
            "fgcolor": "rgba(255,255,255,0.6)",
            "size": 8,
            "solidity": 0.18,
        }
    return trace


def _line(mark: Line) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": mark.name,
        "x": list(mark.x),
        "y": list(mark.y),
        "yaxis": "y2" if mark.secondary else "y",
        "line": {
            "color": mark.color,
            "width": mark.width,
            "dash": "dash" if mark.dash else "solid",
            "shape": "hv" if mark.step else "linear",
        },
        "connectgaps": False,
        "showlegend": mark.legend,
    }


def _points(mark: Points) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": mark.name,
        "x": list(mark.x),
        "y": list(mark.y),
        "text": list(mark.texts),
        "textposition": "top right",
        "marker": {"color": mark.color, "size": 9},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [high - y for y, high in zip(mark.y, mark.high, strict=True)],
            "arrayminus": [y - low for y, low in zip(mark.y, mark.low, strict=True)],
            "color": mark.color,
        },
    }


def _spans(mark: Spans) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": mark.name,
        "y": [span.row for span in mark.spans],
        "base": [span.start for span in mark.spans],
        "x": [span.end - span.start for span in mark.spans],
        "width": 0.68,
        "text": [span.text for span in mark.spans],
        "textposition": "auto",
        "hovertext": [span.hover or span.text for span in mark.spans],
        "hoverinfo": "text",
        "marker": {"color": mark.color, "pattern": {"shape": mark.pattern}},
        "constraintext": "none",
    }


def _columns(mark: Columns) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": mark.name,
        "x": list(mark.x),
        "y": list(mark.y),
        "width": mark.width,
        "text": list(mark.texts),
        "textposition": "outside",
        "cliponaxis": False,
        "yaxis": "y2" if mark.secondary else "y",
        "marker": {"color": mark.color, "pattern": {"shape": mark.pattern}},
    }


def _cells(mark: Cells, plot: Plot) -> dict[str, Any]:
    colors = sorted({cell.color for cell in mark.cells}) or [INK]
    shape = len(plot.rows), len(plot.columns)
    z: list[list[int | None]] = [[None] * shape[1] for _ in range(shape[0])]
    text = [[""] * shape[1] for _ in range(shape[0])]
    hover = [[""] * shape[1] for _ in range(shape[0])]
    for cell in mark.cells:
        z[cell.row][cell.column] = colors.index(cell.color)
        text[cell.row][cell.column] = cell.text
        hover[cell.row][cell.column] = cell.hover or cell.text
    count = len(colors)
    scale = [
        step
        for number, shade in enumerate(colors)
        for step in ([number / count, shade], [(number + 1) / count, shade])
    ]
    return {
        "type": "heatmap",
        "name": mark.name,
        "z": z,
        "zmin": -0.5,
        "zmax": count - 0.5,
        "colorscale": scale,
        "showscale": False,
        "xgap": 4,
        "ygap": 4,
        "text": text,
        "texttemplate": "<b>%{text}</b>",
        "textfont": {"color": "#fff"},
        "hovertext": hover,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def layout(plot: Plot) -> dict[str, Any]:
    """Return the layout: axes, events, words, on a ground that lets the page's own through."""
    found: dict[str, Any] = {
        "title": {"text": f"<b>{plot.title}</b>", "font": {"size": 15}, "x": 0.01, "y": 0.97},
        "font": {"color": INK, "size": 12},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "height": plot.height + 40,
        "margin": {"l": 70, "r": 70 if plot.secondary else 20, "t": 78, "b": 70},
        "legend": {"orientation": "h", "x": 0, "y": 1.07, "yanchor": "bottom"},
        "showlegend": len(plot.marks) > 1,
        "barmode": "overlay" if plot.rows else "group",
        "xaxis": _axis(plot.x, plot.columns, note=plot.note),
        "yaxis": _axis(plot.y, plot.rows, rows=bool(plot.rows)),
        "shapes": [*(_rule(event) for event in plot.events), *_locks(plot)],
        "annotations": [
            *(_event_text(event) for event in plot.events),
            *(_label(label) for label in plot.labels),
            *([_note(plot.note)] if plot.note and not plot.x.title else []),
        ],
    }
    if plot.secondary:
        axis = _axis(plot.secondary, ())
        found["yaxis2"] = axis | {"overlaying": "y", "side": "right", "showgrid": False}
    return found


def _axis(
    axis: Axis, names: Sequence[str], *, rows: bool = False, note: str = ""
) -> dict[str, Any]:
    below = f"<br><span style='font-size:11px'>{note}</span>" if note else ""
    found: dict[str, Any] = {
        "title": {"text": axis.title + below if axis.title else ""},
        "gridcolor": FAINT,
        "linecolor": INK,
        "zeroline": False,
        "automargin": True,
    }
    if names:
        last = len(names) - 0.5
        found |= {
            "tickvals": list(range(len(names))),
            "ticktext": list(names),
            "range": [last, -0.5] if rows else [-0.5, last],
            "showgrid": False,
        }
        return found
    found["range"] = [axis.low, axis.high]
    if axis.ticks:
        found |= {"tickvals": [v for v, _ in axis.ticks], "ticktext": [t for _, t in axis.ticks]}
    if axis.percent:
        found["tickformat"] = ".0%"
    return found


def _rule(event: Event) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": event.x,
        "x1": event.x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": INK, "width": 1, "dash": "dot"},
    }


def _locks(plot: Plot) -> list[dict[str, Any]]:
    cells = [cell for mark in plot.marks if isinstance(mark, Cells) for cell in mark.cells]
    return [
        {
            "type": "path",
            "path": _PADLOCK,
            "xsizemode": "pixel",
            "ysizemode": "pixel",
            "xanchor": cell.column,
            "yanchor": cell.row,
            "fillcolor": "#fff",
            "line": {"width": 0},
        }
        for cell in cells
        if cell.lock
    ]


_PADLOCK = "M-62,1L-52,1L-52,-6L-62,-6ZM-60,1L-60,4L-57,7L-54,4L-54,1L-55.5,1L-55.5,3.5L-57,5L-58.5,3.5L-58.5,1Z"  # fmt: skip  # noqa: E501 - one path
"""Left of words in the middle of a field; pixels, y upwards."""


def _event_text(event: Event) -> dict[str, Any]:
    return {
        "x": event.x,
        "y": 1,
        "yref": "paper",
        "text": event.text,
        "showarrow": False,
        "xanchor": "center",
        "yanchor": "bottom",
        "font": {"size": 11},
    }


def _label(label: Label) -> dict[str, Any]:
    ground = {"bgcolor": label.color, "borderpad": 3} if label.color else {}
    return {
        "x": label.x,
        "y": label.y,
        "text": f"<b>{label.text}</b>",
        "showarrow": False,
        "font": {"color": "#fff" if label.color else INK},
        **ground,
    }


def _note(text: str) -> dict[str, Any]:
    return {
        "x": 0,
        "y": 0,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "top",
        "yshift": -40,
        "text": text,
        "showarrow": False,
        "font": {"size": 11},
    }


def _rgba(color: str, opacity: float) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"

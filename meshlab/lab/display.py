"""Charts on the page: moving while a load runs, a picture for good when it ends.

One output has two lives. Where a front end listens, a plotly widget is fed from a thread of ours:
a chart shown by one cell moves while others run. When its load ends, or where nobody listens
(papermill, nbval), the same output is replaced by a static bundle: plotly's JSON, an SVG and text.
"""

import contextlib
import contextvars
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from meshlab.lab import figure, svg
from meshlab.lab.load import Load
from meshlab.lab.plot import Plot

FRAMES_PER_SECOND = 8
LIVE_SECONDS = 40.0
"""How much time a moving chart shows."""
PLOTLY = "application/vnd.plotly.v1+json"

Mode = Literal["live", "static", "text"]


def mode() -> Mode:
    """Say who reads: a front end (live), a file (static), or a terminal (text).

    `MESHLAB_DISPLAY` decides where it is set. Else a server that has a browser at its other end
    (JupyterLab, Notebook, VS Code) tells by a variable; papermill and nbclient set none.
    """
    told = os.environ.get("MESHLAB_DISPLAY", "")
    if told in ("live", "static", "text"):
        return told  # type: ignore[return-value] # narrowed by the line above
    if not _in_kernel():
        return "text"
    if _under_papermill():
        return "static"
    listening = "JPY_SESSION_NAME" in os.environ or "VSCODE_PID" in os.environ
    return "live" if listening else "static"


def strict() -> bool:
    """Say whether a failed checkpoint raises: in a run without a learner."""
    told = os.environ.get("MESHLAB_STRICT", "")
    if told:
        return told not in ("0", "false")
    return _under_papermill()


def _under_papermill() -> bool:
    """Say whether the process that started this kernel is papermill, which tells no other way."""
    try:
        command = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return False
    return b"papermill" in command


def _in_kernel() -> bool:
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell else None
    return getattr(found, "kernel", None) is not None


def bundle(plot: Plot) -> dict[str, Any]:
    """Return a plot as a saved notebook keeps it."""
    return {
        PLOTLY: figure.render(plot) | {"config": {"displaylogo": False, "responsive": True}},
        "image/svg+xml": svg.render(plot),
        "text/plain": plot.text(),
    }


class Chart:
    """A chart that is done; shows itself."""

    def __init__(self, plot: Plot) -> None:
        self.plot = plot

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, Any]:
        return bundle(self.plot)

    def __repr__(self) -> str:
        return self.plot.text()


class LiveChart:
    """A chart of a load that may still run. `draw(seconds)` makes its plot; None: all of it."""

    def __init__(self, load: Load, draw: Callable[[float | None], Plot]) -> None:
        self.load = load
        self._draw = draw
        self._widget: Any = None
        self._handle: Any = None
        self._last: dict[str, Any] = {}
        self._seen = -1
        self._lock = threading.Lock()

    @property
    def plot(self) -> Plot:
        """The chart of everything so far."""
        return self._draw(None)

    def __repr__(self) -> str:
        return self.plot.text()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        with self._lock:
            if mode() == "live" and self.load.running:
                self._widget = _figure_widget(figure.render(self._draw(LIVE_SECONDS)))
                shown = self._widget._repr_mimebundle_()
                self._handle = display(_plain(shown), raw=True, display_id=True)
            else:
                self._handle = display(bundle(self.plot), raw=True, display_id=True)
        _follow(self)
        self.load.on_end.append(self.finish)
        if not self.load.running:
            self.finish()

    def frame(self) -> None:
        """Bring the widget up to date, when there is something new."""
        with self._lock:
            if self._widget is None or self.load.sent == self._seen:
                return
            self._seen = self.load.sent
            found = figure.render(self._draw(LIVE_SECONDS))
            _update(self._widget, found, self._last)
            self._last = found

    def flush(self) -> None:
        """Write the present state into the output, where it is a file that is written."""
        with self._lock:
            if self._handle is not None and self._widget is None:
                self._handle.update(bundle(self.plot), raw=True)

    def finish(self) -> None:
        """Replace the output by the static bundle, for good."""
        with self._lock:
            if self._handle is None:
                return
            widget, self._widget = self._widget, None
            self._handle.update(bundle(self.plot), raw=True)
            self._handle = None
        _FOLLOWED.discard(self)
        if widget is not None:
            widget.close()


def _plain(shown: Any) -> Any:
    """Return the bundle of what a widget shows; some versions add metadata to it."""
    return shown[0] if isinstance(shown, tuple) else shown


def _figure_widget(found: Mapping[str, Any]) -> Any:
    from plotly.graph_objects import FigureWidget

    widget = FigureWidget(data=found["data"], layout=found["layout"])
    widget._config = {"displaylogo": False, "displayModeBar": False, "responsive": True}
    return widget


def _update(widget: Any, found: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    """Set what differs from the last frame: plotly checks all that is set, and that costs."""
    layout, before = found["layout"], last.get("layout")
    traces = last["data"] if last else [{}] * len(found["data"])
    with widget.batch_update():
        for trace, data, old in zip(widget.data, found["data"], traces, strict=True):
            for name in ("x", "y", "text", "base"):
                if name in data and data[name] != old.get(name):
                    trace[name] = data[name]
        widget.layout.xaxis.range = layout["xaxis"].get("range")
        for name in ("shapes", "annotations"):
            if before is None or layout[name] != before[name]:
                widget.layout[name] = layout[name]


_FOLLOWED: set[LiveChart] = set()
_ALARM = threading.Event()
_STARTED = threading.Lock()


def _follow(chart: LiveChart) -> None:
    """Keep a chart moving until its load ends."""
    _FOLLOWED.add(chart)
    _ALARM.set()
    if _STARTED.acquire(blocking=False):
        # From an empty context: ipykernel would pin what the thread sends to this cell.
        run = contextvars.Context().run
        threading.Thread(target=run, args=(_frames,), name="charts", daemon=True).start()
        _flush_after_cells()


def _frames() -> None:
    """Draw frames as long as there are charts that move."""
    while _ALARM.wait():
        moving = [chart for chart in list(_FOLLOWED) if chart.load.running]
        if not moving:
            _ALARM.clear()
            continue
        began = time.monotonic()
        for chart in moving:
            chart.frame()
        time.sleep(max(1 / FRAMES_PER_SECOND - (time.monotonic() - began), 0.02))


def _flush_after_cells() -> None:
    """Write the charts' state at the end of each cell: what comes between cells is not saved."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.events.register("post_run_cell", lambda _result: _flush())


def _flush() -> None:
    for chart in list(_FOLLOWED):
        chart.flush()


class Progress:
    """One line that says how far something is, in the same output; nothing under a second."""

    AFTER_SECONDS = 1.0

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._handle: Any = None

    def __call__(self, line: str) -> None:
        """Show `line` in place of the last one."""
        passed = time.monotonic() - self._began
        if passed < self.AFTER_SECONDS:
            return
        text = f"{line} ({passed:.0f} s)"
        if mode() == "text":
            sys.stderr.write(text + "\n")
            return
        from IPython.display import display

        if self._handle is None:
            self._handle = display({"text/plain": text}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": text}, raw=True)

    def done(self, line: str) -> None:
        """Show the last line, where one was shown at all."""
        if self._handle is not None:
            self(line)


@contextlib.contextmanager
def progress() -> Any:
    """Yield a function that shows a line of progress."""
    shown = Progress()
    yield shown

"""`make labs`: every notebook from its top by papermill, and a report in which each chart is seen.

A notebook passes when it ran to its end and each of its checkpoints left a passed result: one
that stopped early, or skipped a checkpoint, does not pass by having raised nothing.
"""

import argparse
import html
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import meshlab as ml
from meshlab.errors import MeshlabError
from meshlab.lab.checkpoint import MIME

LABS = Path(__file__).parents[2] / "labs"
REPORT = Path(__file__).parents[2] / "build" / "labs"
CLUSTER = "labs"
CELL_SECONDS = 120
START_SECONDS = 120
LARGEST_CHART = 300_000
"""Bytes; a saved notebook stays light."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one notebook came to."""

    notebook: str
    seconds: float
    expected: int
    """Checkpoints in it: cells with the tag `checkpoint`."""
    checkpoints: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    charts: int = 0
    problem: str = ""

    @property
    def reached(self) -> int:
        return sum(bool(checkpoint["passed"]) for checkpoint in self.checkpoints)

    @property
    def passed(self) -> bool:
        return not self.problem and self.reached == self.expected

    def line(self) -> str:
        """Return one line for the terminal."""
        mark = "ok  " if self.passed else "FAIL"
        text = (
            f"{mark} {self.notebook:<24} {self.seconds:5.1f} s  "
            f"checkpoints {self.reached}/{self.expected}  charts {self.charts}"
        )
        return text + (f"\n     {self.problem}" if self.problem else "")


def outputs(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the data of all outputs, cell by cell."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            yield output.get("data", {})


def judge(name: str, notebook: Mapping[str, Any], seconds: float, problem: str) -> Outcome:
    """Return the outcome of an executed notebook. Pure."""
    tagged = [c for c in notebook["cells"] if "checkpoint" in c["metadata"].get("tags", ())]
    charts = [data for data in outputs(notebook) if "image/svg+xml" in data]
    heavy = [len(json.dumps(data)) for data in charts if len(json.dumps(data)) > LARGEST_CHART]
    widgets = sum("application/vnd.jupyter.widget-view+json" in data for data in outputs(notebook))
    if not problem and heavy:
        problem = f"a chart of {max(heavy)} bytes: {LARGEST_CHART} is the most"
    if not problem and widgets:
        problem = f"{widgets} outputs need a live kernel to be seen"
    return Outcome(
        notebook=name,
        seconds=seconds,
        expected=len(tagged),
        checkpoints=[data[MIME] for data in outputs(notebook) if MIME in data],
        charts=len(charts),
        problem=problem,
    )


def execute(notebook: Path, report: Path, environment: Mapping[str, str]) -> Outcome:
    """Run one notebook; keep it and its HTML in the report."""
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    target = report / notebook.name
    began = time.monotonic()
    problem = ""
    os.environ.update(environment)
    try:
        papermill.execute_notebook(
            str(notebook), str(target), cwd=str(notebook.parent), progress_bar=False,
            execution_timeout=CELL_SECONDS, start_timeout=START_SECONDS,
            # Over TCP kernels race for ports, and each says that anyone could listen.
            config=Config({"KernelManager": {"transport": "ipc"}}),
        )  # fmt: skip
    except PapermillExecutionError as error:
        problem = f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except (RuntimeError, TimeoutError) as error:
        problem = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - began
    executed = nbformat.read(target if target.exists() else notebook, as_version=4)
    _write_html(executed, target.with_suffix(".html"))
    return judge(notebook.stem, executed, seconds, problem)


def _write_html(notebook: Any, target: Path) -> None:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True)
    # No network: formulas and diagrams, which the labs do not use, would be loaded from afar.
    exporter.mathjax_url = ""
    exporter.require_js_url = ""
    body, _ = exporter.from_notebook_node(notebook)
    target.write_text(body)


def index(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the report's first page."""
    rows = "".join(
        f"<tr><td>{'✓' if o.passed else '✗'}</td>"
        f"<td><a href='{o.notebook}.html'>{html.escape(o.notebook)}</a></td>"
        f"<td>{o.seconds:.1f} s</td><td>{o.reached} of {o.expected}</td><td>{o.charts}</td>"
        f"<td>{html.escape(o.problem)}</td></tr>"
        for o in outcomes
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>meshlab labs</title>"
        "<style>:root{color-scheme:light dark}body{font-family:system-ui;margin:2em}"
        "td,th{padding:.3em 1em;text-align:left;border-bottom:1px solid #8886}</style>"
        f"<h1>The labs, in {seconds:.0f} s</h1><table><tr><th></th><th>lab</th><th>time</th>"
        f"<th>checkpoints</th><th>charts</th><th></th></tr>{rows}</table></html>"
    )


def notebooks(labs: Path, only: Sequence[str]) -> list[Path]:
    """Return the lessons' notebooks in order; `only`: their numbers."""
    found = sorted(labs.glob("[0-9][0-9]_*.ipynb"))
    return [path for path in found if not only or path.name[:2] in only]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m meshlab.lab.run`; the status tells whether all passed."""
    parser = argparse.ArgumentParser(prog="python -m meshlab.lab.run", description=__doc__)
    parser.add_argument("lessons", nargs="*", help="numbers; none: all")
    parser.add_argument("--name", default=CLUSTER, help=f"the cluster (default: {CLUSTER})")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report goes")
    options = parser.parse_args(argv)
    report: Path = options.report
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    environment = {
        "MESHLAB_CLUSTER_NAME": options.name,
        "MESHLAB_DISPLAY": "static",
        "MESHLAB_STRICT": "1",
    }
    began = time.monotonic()
    outcomes: list[Outcome] = []
    try:
        ml.up(name=options.name)
        for notebook in notebooks(LABS, [number.zfill(2) for number in options.lessons]):
            outcomes.append(execute(notebook, report, environment))
            _say(outcomes[-1].line())
    except MeshlabError as error:
        _say(f"make labs: {error}")
        return 1
    finally:
        seconds = time.monotonic() - began
        (report / "index.html").write_text(index(outcomes, seconds))
        if not options.keep:
            ml.down(options.name)
    failed = [outcome.notebook for outcome in outcomes if not outcome.passed]
    passed = f"{len(outcomes) - len(failed)} of {len(outcomes)} labs passed"
    _say(f"{passed} in {seconds:.0f} s; see {report}/index.html")
    return 1 if failed or not outcomes else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

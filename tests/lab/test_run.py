import json
from pathlib import Path
from typing import Any

import pytest

from meshlab.lab.checkpoint import MIME
from meshlab.lab.run import LABS, index, judge, notebooks

SVG = {"data": {"image/svg+xml": "<svg/>"}}


def cell(*outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"metadata": {"tags": list(tags)}, "outputs": list(outputs)}


def checkpoint(passed: bool = True) -> dict[str, Any]:
    return cell({"data": {MIME: {"name": "a.b", "passed": passed}}}, tags=("checkpoint",))


@pytest.mark.parametrize(
    ("cells", "problem", "passed"),
    [
        pytest.param([checkpoint(), cell(SVG)], "", True, id="all reached"),
        pytest.param([checkpoint(), cell(tags=("checkpoint",))], "", False, id="one was skipped"),
        pytest.param([checkpoint(passed=False)], "", False, id="one did not pass"),
        pytest.param([checkpoint()], "cell 3: KeyError", False, id="it did not end"),
        pytest.param(
            [cell({"data": {"application/vnd.jupyter.widget-view+json": {}}})], "", False,
            id="a widget that nobody will see",
        ),
        pytest.param(
            [cell({"data": {"image/svg+xml": "x" * 300_001}})], "", False, id="a heavy chart"
        ),
    ],
)  # fmt: skip
def test_judge(cells: list[dict[str, Any]], problem: str, passed: bool) -> None:
    assert judge("04_x", {"cells": cells}, 1.0, problem).passed == passed


def test_index_names_each_and_its_problem() -> None:
    page = index([judge("04_x", {"cells": [checkpoint()]}, 1.0, "cell <3>")], 1.0)
    assert "<a href='04_x.html'>04_x</a>" in page
    assert "cell &lt;3&gt;" in page


def test_notebooks_by_number() -> None:
    assert [p.name for p in notebooks(LABS, ["04"])] == ["04_traffic_shift.ipynb"]
    assert len(notebooks(LABS, [])) == 6


@pytest.mark.parametrize("path", sorted(LABS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_lab_is_committed_without_outputs(path: Path) -> None:
    found = json.loads(path.read_text())
    code = [c for c in found["cells"] if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    tags = [tag for c in code for tag in c["metadata"].get("tags", ())]
    assert tags[0] == "parameters"
    assert "predict" in tags
    lines = sum(len("".join(c["source"]).splitlines()) for c in code)
    assert lines <= 30
    assert max(len("".join(c["source"]).splitlines()) for c in code) <= 5


@pytest.mark.parametrize("path", sorted(LABS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_a_lab_names_is_there(path: Path) -> None:
    """Its checkpoints, its manifests, and the source at its end."""
    from meshlab.lab.lesson.catalogue import find

    lesson = find(path.name[:2])
    cells = json.loads(path.read_text())["cells"]
    text = "".join("".join(c["source"]) for c in cells)
    checks = ["".join(c["source"]) for c in cells if "checkpoint" in c["metadata"].get("tags", ())]
    assert checks == [f'lab.check("{name}")' for name in lesson.checkpoints]
    root = LABS.parent
    named = [word.strip("`()\"'") for word in text.replace("`", " ").replace('"', " ").split()]
    files = [w for w in named if w.startswith(("manifests/", "meshlab/")) and "." in w]
    assert [f for f in files if not (LABS / f).exists() and not (root / f).exists()] == []
    assert [source for source in lesson.source if not (root / source).exists()] == []

"""Every lesson as a learner would run it, from its top."""

from __future__ import annotations

import sys

import pytest

from .conftest import ROOT, Cluster

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_every_lab_by_papermill(cluster: Cluster) -> None:
    """`make labs`: all cells run, all checkpoints pass, all charts are in the report."""
    lessons = sorted((ROOT / "labs").glob("[0-9][0-9]_*.ipynb"))
    done = cluster.run(
        sys.executable, "-m", "meshlab.lab.run", "--name", cluster.name, "--keep", timeout=600
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert [line.split()[1] for line in lines] == [lesson.stem for lesson in lessons]
    for lesson in lessons:
        report = (ROOT / "build" / "labs" / f"{lesson.stem}.html").read_text()
        assert "<svg" in report or "image/svg+xml" in report

"""Named steps and their way back."""

import pytest

from meshlab.cluster.phase import Phase, Step, run, silent
from meshlab.errors import ClusterError


def test_phases_in_order_with_progress() -> None:
    steps: list[Step] = []
    done: list[str] = []
    run(
        [Phase(name=name, do=lambda name=name: done.append(name)) for name in ("one", "two")],  # type: ignore[misc]
        steps.append,
    )
    assert done == ["one", "two"]
    assert [(step.name, step.done) for step in steps] == [
        ("one", False),
        ("one", True),
        ("two", False),
        ("two", True),
    ]


def test_a_failed_phase_undoes_all_before_it_last_first() -> None:
    undone: list[str] = []

    def fail() -> None:
        raise ClusterError("no room")

    phases = [
        Phase(name="one", do=lambda: None, undo=lambda: undone.append("one")),
        Phase(name="two", do=fail, undo=lambda: undone.append("two")),
        Phase(name="three", do=lambda: undone.append("three was done")),
    ]
    with pytest.raises(ClusterError, match="two: no room"):
        run(phases, silent)
    assert undone == ["two", "one"]

from typing import Any

import pytest

from meshlab.lab.lesson.base import NAMESPACES
from meshlab.lab.lesson.catalogue import LESSONS, find
from meshlab.lab.state import superfluous, wanted


def obj(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, **metadata}}


def test_superfluous() -> None:
    present = [
        obj("Deployment", "blue"),
        obj("Deployment", "mine"),
        obj("Service", "blue"),
        obj("Pod", "blue-1", ownerReferences=[{"kind": "ReplicaSet"}]),
        obj("Pod", "loose"),
        obj("Pod", "leaving", deletionTimestamp="2026-01-01T00:00:00Z"),
    ]
    keep = [obj("Deployment", "blue")]
    assert [(o["kind"], o["metadata"]["name"]) for o in superfluous(present, keep)] == [
        ("Deployment", "mine"),
        ("Service", "blue"),
        ("Pod", "loose"),
    ]


@pytest.mark.parametrize("number", LESSONS)
def test_a_start_state_stays_in_the_lessons_own_namespaces(number: str) -> None:
    lesson = find(number)
    places = {
        o["metadata"]["name"] if o["kind"] == "Namespace" else o["metadata"].get("namespace")
        for o in wanted(lesson)
    }
    assert places <= {lesson.namespace}
    assert lesson.namespace in (*NAMESPACES, "")


@pytest.mark.parametrize("number", ["4", 4, "04"])
def test_find(number: str | int) -> None:
    assert find(number).title == "Shift traffic"


def test_checkpoints_have_a_ladder_and_stable_names() -> None:
    for lesson in LESSONS.values():
        for step in lesson.steps:
            assert len(step.checkpoint.hints) == 3
            assert step.checkpoint.name.count(".") == 1

"""What a lesson is: its start state, its steps with their checkpoints, and who it is for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshlab.lab.checkpoint import Checkpoint, Finding
from meshlab.lab.share import Verdict

if TYPE_CHECKING:
    from meshlab.lab.lab import Lab

MANIFESTS = Path(__file__).parents[3] / "labs" / "manifests"
"""The originals: a start state does not depend on a learner's edits."""

HOST = "bluegreen.example.com"
URL = f"http://{HOST}/api/color"
NAMESPACES = ("bluegreen", "buggygreen", "manual")
"""Namespaces that the lessons own: the only ones in which anything is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a lesson and how the lab does it itself."""

    checkpoint: Checkpoint
    solve: Callable[["Lab"], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One notebook.

    Attributes:
        number: two digits, as in the notebook's name.
        title: what it is about.
        minutes: how long it takes a learner.
        after: lessons whose ideas it builds on; their state is not needed.
        namespace: where it plays; "": nowhere.
        start: manifests of the start state, below `labs/manifests`.
        sidecars: whether the pods of the start state have one.
        source: files that did the work, named at the end.
    """

    number: str
    title: str
    minutes: int
    goal: str
    namespace: str = ""
    after: Sequence[str] = ()
    start: Sequence[str] = ()
    sidecars: bool = False
    steps: Sequence[Step] = ()
    source: Sequence[str] = ()

    @property
    def checkpoints(self) -> Mapping[str, Step]:
        return {step.checkpoint.name: step for step in self.steps}


def get(lab: "Lab", resource: str, name: str, namespace: str | None = None) -> Any:
    """Return an object of the lesson's namespace, or None."""
    return lab.mesh.kube.get(resource, name, namespace or lab.lesson.namespace)


def shares(verdicts: Sequence[Verdict]) -> tuple[str, str]:
    """Return what was counted and what was expected, for a finding."""
    observed = ", ".join(f"{v.name} {v.count} of {v.of} ({v.share:.1%})" for v in verdicts)
    expected = ", ".join(f"{v.name} {v.expected:.0%} ({v.low} to {v.high})" for v in verdicts)
    return observed, expected


def missing(what: str, expected: str) -> Finding:
    """Return the finding that something is not there, which does not come by itself."""
    return Finding(
        passed=False,
        observed=f"no {what}",
        expected=expected,
        cause=f"there is no {what}",
        again=False,
    )


def lacking(problem: str, expected: str) -> Finding:
    """Return the finding that pods are missing (see `unready`); only those that start may come."""
    return Finding(
        passed=False,
        observed=problem,
        expected=expected,
        cause=problem,
        again="there is no" not in problem and "scaled to 0" not in problem,
    )


def weights(virtual_service: Mapping[str, Any], rule: int = -1) -> dict[str, int]:
    """Return the weights of one rule's destinations, by subset where there are subsets."""
    http = (virtual_service.get("spec") or {}).get("http") or [{}]
    routes = http[rule].get("route") or ()
    alone = len(routes) == 1
    found: dict[str, int] = {}
    for route in routes:
        destination = route["destination"]
        name = destination.get("subset") or destination["host"].partition(".")[0]
        found[name] = found.get(name, 0) + int(route.get("weight", 100 if alone else 0))
    return found


def unready(lab: "Lab", *deployments: str) -> str:
    """Return which Deployments are not there or not ready, "" when all are."""
    problems = []
    for name in deployments:
        found = get(lab, "deployments.apps", name)
        if found is None:
            problems.append(f"there is no Deployment {name}")
            continue
        status = found.get("status") or {}
        wanted = found["spec"].get("replicas", 1)
        ready = status.get("readyReplicas", 0)
        if wanted == 0:
            problems.append(f"Deployment {name} is scaled to 0")
        elif ready < wanted:
            problems.append(f"Deployment {name} has {ready} of {wanted} pods ready")
    return "; ".join(problems)

"""Lesson 1: two versions behind one Service, and why ten percent takes ten pods."""

from typing import TYPE_CHECKING

from meshlab.lab.chart import Staircase
from meshlab.lab.checkpoint import Checkpoint, Finding
from meshlab.lab.lesson.base import Lesson, Step, get, lacking, missing, shares, unready
from meshlab.lab.load import Sample

if TYPE_CHECKING:
    from meshlab.lab.lab import Lab

CALLS = 300
ADDRESS = "http://bluegreen/api/color"


def call(lab: "Lab", calls: int = CALLS) -> Sample:
    """Call the Service from the client's pod, each time on a new connection.

    The Service picks a pod for a connection, not for a request: one that is kept would stay with
    its pod for good.
    """
    return lab.client().load(ADDRESS, requests=calls, keepalive=False).sample()


def replicas(lab: "Lab", name: str) -> int:
    """Return how many ready pods a Deployment has."""
    found = get(lab, "deployments.apps", name) or {}
    return int((found.get("status") or {}).get("readyReplicas", 0))


def measure(lab: "Lab", calls: int = CALLS) -> Sample:
    """Call the Service and keep the point for the staircase."""
    sample = call(lab, calls)
    point = Staircase(
        replicas(lab, "blue"), replicas(lab, "green"), sample.counts["blue"], len(sample)
    )
    points = lab.memory.setdefault("staircase", {})
    points[(point.replicas, point.others)] = point
    return sample


def deployed(lab: "Lab") -> Finding:
    """Look whether both versions run behind one Service."""
    expected = "blue and green ready, one Service bluegreen over both"
    if problem := unready(lab, "blue", "green"):
        return lacking(problem, expected)
    service = get(lab, "services", "bluegreen")
    if service is None:
        return missing("Service bluegreen", expected)
    selector = service["spec"].get("selector") or {}
    if "version" in selector:
        return Finding(
            passed=False,
            observed=f"the Service selects version {selector['version']}",
            expected=expected,
            cause="the Service's selector names a version, so it has the pods of that one only",
            again=False,
        )
    return Finding(
        passed=True, observed="blue and green ready behind one Service", expected=expected
    )


def share_of_blue(lab: "Lab", expected: float) -> Finding:
    """Count answers against a share; names the replicas when they explain another one."""
    if problem := unready(lab, "blue", "green"):
        return lacking(problem, "two versions")
    if get(lab, "services", "bluegreen") is None:
        return missing("Service bluegreen", "one Service over both versions")
    blue, green = replicas(lab, "blue"), replicas(lab, "green")
    sample = call(lab)
    judged = sample.check_share(blue=expected, green=1 - expected)
    observed, wanted = shares(judged.verdicts)
    if judged:
        return Finding(passed=True, observed=f"{blue}+{green} pods: {observed}", expected=wanted)
    if sample.failed:
        cause = f"{sample.failed} of {len(sample)} calls failed"
    elif abs(blue / (blue + green) - expected) > 1e-9:
        cause = f"the Service has {blue} pods of blue and {green} of green, each with equal chance"
    else:
        cause = "the replicas are right, but the calls do not reach the pods evenly"
    return Finding(passed=False, observed=observed, expected=wanted, cause=cause, again=False)


def solve_deploy(lab: "Lab") -> None:
    for name in ("01-bluegreen", "02-service"):
        lab.apply_original(f"01_two_versions/{name}.yaml")
    lab.namespace.wait()


LESSON = Lesson(
    number="01",
    title="Two versions, no mesh",
    minutes=10,
    goal="See what a Service can do with two versions, and what it cannot.",
    after=["00"],
    namespace="bluegreen",
    start=["01_two_versions/00-namespace.yaml", "01_two_versions/03-fortio.yaml"],
    steps=[
        Step(
            checkpoint=Checkpoint(
                name="versions.deployed",
                covers="Deployments blue and green, and the selector of Service bluegreen",
                look=deployed,
                hints=(
                    "A Service picks pods by labels: which labels do both versions share?",
                    "Compare the labels of the two pods with the Service's selector.",
                    "kubectl -n bluegreen get pods --show-labels; "
                    "kubectl -n bluegreen get service bluegreen -o yaml",
                ),
                timeout=20,
            ),
            solve=solve_deploy,
        ),
        Step(
            checkpoint=Checkpoint(
                name="versions.half",
                covers=f"{CALLS} calls from a pod, each on a connection of its own",
                look=lambda lab: share_of_blue(lab, 0.5),
                hints=(
                    "Every ready pod has the same chance. Count the pods.",
                    "How many replicas do blue and green have?",
                    "kubectl -n bluegreen get deployments",
                ),
                timeout=20,
            ),
            solve=lambda lab: (lab.namespace.scale("blue", 1), lab.namespace.scale("green", 1)),
        ),
        Step(
            checkpoint=Checkpoint(
                name="versions.tenth",
                covers=f"{CALLS} calls from a pod, each on a connection of its own",
                look=lambda lab: share_of_blue(lab, 0.1),
                hints=(
                    "Ten percent is one pod in ten.",
                    "One of blue, and how many of green?",
                    "kubectl -n bluegreen scale deployment green --replicas=…",
                ),
                timeout=20,
            ),
            solve=lambda lab: (lab.namespace.scale("blue", 1), lab.namespace.scale("green", 9)),
        ),
    ],
    source=["meshlab/cluster/embedded/network/service.py"],
)

"""Lesson 4: weights are a dial. Shift traffic under load, lose nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshlab.lab.checkpoint import Checkpoint, Finding
from meshlab.lab.lesson.base import (
    URL,
    Lesson,
    Step,
    get,
    lacking,
    missing,
    shares,
    unready,
    weights,
)
from meshlab.lab.lesson.gateway import gateway_problem
from meshlab.lab.load import Judged, Load, Sample
from meshlab.observe.table import Table

if TYPE_CHECKING:
    from meshlab.lab.lab import Lab

CALLS = 300
RAMP = (0, 20, 50, 80, 100)
"""Weights of blue, in percent."""
VIRTUAL_SERVICES = "virtualservices.networking.istio.io"


@dataclass(frozen=True, slots=True)
class RampStep:
    """One weight, and what came after it was acknowledged."""

    blue: int
    judged: Judged
    seconds: float
    """From the apply to the last proxy's acknowledgement."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """All steps; shows itself as a table."""

    steps: Sequence[RampStep]
    failed: int
    """Calls of the whole ramp that got no good answer."""
    requests: int

    @property
    def passed(self) -> bool:
        return not self.failed and all(step.judged for step in self.steps)

    def table(self) -> Table:
        rows = [
            [
                f"{step.blue} %",
                "✓" if step.judged else "✗",
                f"{step.judged.verdicts[0].share:.1%}",
                f"{step.judged.verdicts[0].count} of {step.judged.verdicts[0].of}",
                f"{step.judged.verdicts[0].low} to {step.judged.verdicts[0].high}",
                f"{step.seconds * 1000:.0f} ms",
            ]
            for step in self.steps
        ]
        headers = ["weight of blue", "", "share", "counted", "exact band", "acknowledged after"]
        note = f"{self.failed} of {self.requests} requests failed while the weights changed"
        return Table(headers, rows, note=note)

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return self.table()._repr_mimebundle_()


def ramp(lab: "Lab", load: Load, weights_of_blue: Sequence[int], calls: int) -> Ramp:
    """Set one weight after the other under load; judge each by the calls sent after it held."""
    failed, sent = load.failed, load.sent
    steps = []
    for blue in weights_of_blue:
        route = lab.namespace.route("bluegreen").split(blue=blue, green=100 - blue)
        change = route.apply().changes[0]
        seconds = change.acknowledged.seconds if change.acknowledged else 0.0
        judged = load.next(calls).check_share(blue=blue / 100, green=1 - blue / 100)
        steps.append(RampStep(blue, judged, seconds))
    found = Ramp(steps, load.failed - failed, load.sent - sent)
    lab.memory["ramp"] = found
    return found


def call(lab: "Lab", calls: int = CALLS) -> Sample:
    """Call through the front door."""
    return lab.mesh.load(URL, requests=calls).sample()


def split(lab: "Lab", expected: Mapping[str, int] | None) -> Finding:
    """Count answers against weights; None: against whatever the VirtualService says."""
    if problem := gateway_problem(lab) or unready(lab, "blue", "green"):
        return lacking(problem, "an open front door")
    found = get(lab, VIRTUAL_SERVICES, "bluegreen")
    if found is None:
        return missing("VirtualService bluegreen", f"weights {expected or 'of your choice'}")
    told = weights(found)
    said = ", ".join(f"{name} {weight}" for name, weight in told.items())
    wanted = dict(expected or told)
    if {name: told.get(name, 0) for name in wanted} != wanted:
        return Finding(
            passed=False,
            observed=f"weights {said}",
            expected=", ".join(f"{name} {weight}" for name, weight in wanted.items()),
            cause=f"the VirtualService says {said}",
            again=False,
        )
    sample = call(lab)
    judged = sample.check_share(**{name: weight / 100 for name, weight in wanted.items()})
    observed, band = shares(judged.verdicts)
    cause = "" if judged else "the weights are right, but the answers are not shared like that"
    if sample.failed:
        cause = f"{sample.failed} of {len(sample)} calls failed"
    passed = bool(judged) and not sample.failed
    return Finding(passed=passed, observed=observed, expected=band, cause=cause, again=False)


def ramped(lab: "Lab") -> Finding:
    """Look at the ramp that was run last."""
    expected = "each weight's share in its band, no failed request"
    found: Ramp | None = lab.memory.get("ramp")
    if found is None:
        return Finding(
            passed=False, observed="no ramp", expected=expected, again=False,
            cause="no ramp was run in this lab yet",
        )  # fmt: skip
    outside = [f"{step.blue} %" for step in found.steps if not step.judged]
    causes = [f"outside the band: {', '.join(outside)}"] if outside else []
    causes += [f"{found.failed} requests failed"] if found.failed else []
    observed = ", ".join(f"{s.blue} % → {s.judged.verdicts[0].share:.0%}" for s in found.steps)
    return Finding(
        passed=found.passed,
        observed=f"{observed}; {found.failed} of {found.requests} failed",
        expected=expected,
        cause="; ".join(causes),
        again=False,
    )


def scaled(lab: "Lab") -> Finding:
    """Look whether the versions differ in pods and the share is still that of the weights."""
    counts = {}
    for name in ("blue", "green"):
        found = get(lab, "deployments.apps", name) or {}
        counts[name] = int((found.get("status") or {}).get("readyReplicas", 0))
    pods = ", ".join(f"{name} {count}" for name, count in counts.items())
    if counts["blue"] == counts["green"]:
        return Finding(
            passed=False,
            observed=f"pods: {pods}",
            expected="more pods of one version than of the other",
            cause=f"both versions have {counts['blue']} pods: that would not show a difference",
            again=False,
        )
    finding = split(lab, None)
    return Finding(
        passed=finding.passed,
        observed=f"pods: {pods}; {finding.observed}",
        expected=finding.expected,
        cause=finding.cause,
        again=finding.again,
    )


def solve_ramp(lab: "Lab") -> object:
    with lab.mesh.load(URL, qps=100) as load:
        return ramp(lab, load, RAMP, 150)


def solve_scale(lab: "Lab") -> object:
    lab.namespace.scale("blue", 1)
    return lab.namespace.scale("green", 3)


LESSON = Lesson(
    number="04",
    title="Shift traffic",
    minutes=15,
    goal="Move traffic from green to blue in steps, under load, and lose no request.",
    after=["03"],
    namespace="bluegreen",
    start=["04_traffic_shift/01-bluegreen.yaml", "04_traffic_shift/02-gateway.yaml"],
    sidecars=True,
    steps=[
        Step(
            checkpoint=Checkpoint(
                name="shift.half",
                covers=f"{CALLS} calls through the ingress gateway",
                look=lambda lab: split(lab, {"blue": 50, "green": 50}),
                hints=(
                    "The front door is open; who decides where a request goes?",
                    "Look at the weights of the VirtualService.",
                    "kubectl apply -f manifests/04_traffic_shift/03-split-50-50.yaml",
                ),
            ),
            solve=lambda lab: lab.apply_original("04_traffic_shift/03-split-50-50.yaml"),
        ),
        Step(
            checkpoint=Checkpoint(
                name="shift.ramp",
                covers="the last ramp: calls sent after each weight was acknowledged",
                look=ramped,
                hints=(
                    "One weight is a picture, a ramp is the film.",
                    "The lab has a verb that sets one weight after the other under a load.",
                    "lab.ramp(load, blue=(0, 20, 50, 80, 100))",
                ),
            ),
            solve=solve_ramp,
        ),
        Step(
            checkpoint=Checkpoint(
                name="shift.eighty",
                covers=f"{CALLS} calls through the ingress gateway",
                look=lambda lab: split(lab, {"blue": 80, "green": 20}),
                hints=(
                    "Four of five: which two numbers add up to a hundred?",
                    "Change the weights, nothing else.",
                    'ns.route("bluegreen").split(blue=80, green=…).apply()',
                ),
            ),
            solve=lambda lab: lab.apply_original("04_traffic_shift/04-split-80-20.yaml"),
        ),
        Step(
            checkpoint=Checkpoint(
                name="shift.scale",
                covers=f"ready pods, and {CALLS} calls through the ingress gateway",
                look=scaled,
                hints=(
                    "In lesson 1 the number of pods made the share. Does it here?",
                    "Give one version more pods than the other and count again.",
                    'ns.scale("green", 3)',
                ),
                timeout=10,
            ),
            solve=solve_scale,
        ),
    ],
    source=["meshlab/proxy/core/weighted_cluster.py", "meshlab/control/translate/route.py"],
)

"""Lesson 9: retries hide a fault, and the server pays."""

from typing import TYPE_CHECKING

from meshlab.lab import chart
from meshlab.lab.chart import Cost
from meshlab.lab.checkpoint import Checkpoint, Finding
from meshlab.lab.display import Chart
from meshlab.lab.lesson.base import Lesson, Step, get, lacking, missing, unready
from meshlab.lab.load import FAILED, Sample
from meshlab.lab.share import accepted_retries, judge
from meshlab.observe.metrics import total

if TYPE_CHECKING:
    from meshlab.lab.lab import Lab

ADDRESS = "http://buggygreen/api/color"
CALLS = 500
FAIL_SHARE = 1 / 8
"""Half of the calls go to the buggy version, a quarter of those fail."""
BUGGY_SHARE = 1 / 4
ATTEMPTS_PER_CALL = 1 + 1 / 6
"""1 + ½·(¼ + ¼² + …): who drew the buggy version stays with it."""
VIRTUAL_SERVICE = "buggygreen-vsvc"
VIRTUAL_SERVICES = "virtualservices.networking.istio.io"


def call(lab: "Lab", calls: int = CALLS) -> Sample:
    """Call from the client's pod, through its sidecar."""
    return lab.client().load(ADDRESS, requests=calls).sample()


def arrived(lab: "Lab") -> int:
    """Return how many requests arrived at the pods, as their own sidecars counted them."""
    return round(
        sum(
            total(lab.mesh.metrics(pod), "istio_requests_total", reporter="destination")
            for pod in lab.namespace.pods(app="buggygreen-app")
        )
    )


def measure(lab: "Lab", name: str, calls: int = CALLS) -> Cost:
    """Call and count the attempts that it took; nothing else may call meanwhile."""
    before = arrived(lab)
    sample = call(lab, calls)
    found = Cost(name=name, sample=sample, attempts=arrived(lab) - before)
    lab.memory.setdefault("cost", {})[name] = found
    return found


def compare(before: Cost, after: Cost) -> Chart:
    """Show both side by side."""
    return Chart(chart.cost(before, after))


def policy(lab: "Lab") -> dict[str, object] | None:
    """Return the retries of the VirtualService; None where there is no VirtualService."""
    found = get(lab, VIRTUAL_SERVICES, VIRTUAL_SERVICE)
    if found is None:
        return None
    return dict(found["spec"]["http"][0].get("retries") or {})


def baseline(lab: "Lab") -> Finding:
    """Look whether one in eight calls fails, as it should without retries."""
    expected = f"{FAIL_SHARE:.1%} of the calls fail"
    if problem := unready(lab, "buggy", "green", "fortio-deploy"):
        return lacking(problem, expected)
    retries = policy(lab)
    if retries is None:
        return missing(f"VirtualService {VIRTUAL_SERVICE}", expected)
    if retries:
        return Finding(
            passed=False,
            observed=f"retries: {retries.get('attempts')}",
            expected=f"no retry, and {expected}",
            cause="the VirtualService retries already: that is no baseline",
            again=False,
        )
    sample = call(lab)
    verdict = judge(FAILED, sample.failed, len(sample), FAIL_SHARE)
    return Finding(
        passed=verdict.passed,
        observed=f"{sample.failed} of {len(sample)} failed ({verdict.share:.1%})",
        expected=f"{verdict.low} to {verdict.high} ({FAIL_SHARE:.1%})",
        cause="" if verdict.passed else _odd(sample),
        again=False,
    )


def _odd(sample: Sample) -> str:
    answers = ", ".join(f"{name} {count}" for name, count in sample.counts.most_common())
    return f"the answers are not those of half green, half buggy: {answers}"


def healed(lab: "Lab") -> Finding:
    """Look whether no call fails any more, by retries."""
    expected = f"0 of {CALLS} calls fail"
    retries = policy(lab)
    if retries is None:
        return missing(f"VirtualService {VIRTUAL_SERVICE}", expected)
    if not retries.get("attempts"):
        return Finding(
            passed=False, observed="no retries", expected=expected,
            cause="the VirtualService says nothing of retries", again=False,
        )  # fmt: skip
    told = str(retries.get("retryOn", ""))
    if not {"gateway-error", "5xx", "502"} & {word.strip() for word in told.split(",")}:
        return Finding(
            passed=False, observed=f"retryOn: {told or 'the default'}", expected=expected,
            cause="these conditions do not cover the 502 that the buggy version answers",
            again=False,
        )  # fmt: skip
    sample = call(lab)
    cause = f"{retries['attempts']} attempts were not enough" if sample.failed else ""
    return Finding(
        passed=not sample.failed,
        observed=f"{sample.failed} of {len(sample)} failed, with {retries['attempts']} attempts",
        expected=expected,
        cause=cause,
        again=False,
    )


def cost(lab: "Lab") -> Finding:
    """Look whether the attempts are what theory says, and not more."""
    retries = policy(lab)
    low, high = accepted_retries(CALLS, first_fails=FAIL_SHARE, again_fails=BUGGY_SHARE)
    expected = f"{CALLS + low} to {CALLS + high} attempts for {CALLS} calls"
    if not (retries or {}).get("attempts"):
        return Finding(
            passed=False, observed="no retries", expected=expected,
            cause="without retries each call is one attempt: there is no cost to see", again=False,
        )  # fmt: skip
    found = measure(lab, "checkpoint")
    passed = low <= found.attempts - CALLS <= high
    return Finding(
        passed=passed,
        observed=f"{found.attempts} attempts, {found.per_call:.3f} a call",
        expected=f"{expected}, about {ATTEMPTS_PER_CALL:.3f} a call",
        cause="" if passed else "somebody else calls, too: stop other loads and look again",
        again=False,
    )


LESSON = Lesson(
    number="09",
    title="Retry in action",
    minutes=20,
    goal="Hide a fault from the callers, and see who pays for it.",
    after=["04"],
    namespace="buggygreen",
    start=["09_retry/01-buggygreen.yaml", "09_retry/02-fortio.yaml"],
    sidecars=True,
    steps=[
        Step(
            checkpoint=Checkpoint(
                name="retry.baseline",
                covers=f"{CALLS} calls from the client's pod",
                look=baseline,
                hints=(
                    "First see the fault as it is.",
                    "Which VirtualService splits, and says nothing of retries?",
                    "kubectl apply -f manifests/09_retry/03-no-retry.yaml",
                ),
                timeout=10,
            ),
            solve=lambda lab: lab.apply_original("09_retry/03-no-retry.yaml"),
        ),
        Step(
            checkpoint=Checkpoint(
                name="retry.healed",
                covers=f"{CALLS} calls from the client's pod",
                look=healed,
                hints=(
                    "The caller's sidecar can send a request again before the caller knows.",
                    "How often, how long each try, and on which answers?",
                    "kubectl apply -f manifests/09_retry/04-retry.yaml",
                ),
                timeout=10,
            ),
            solve=lambda lab: lab.apply_original("09_retry/04-retry.yaml"),
        ),
        Step(
            checkpoint=Checkpoint(
                name="retry.cost",
                covers=f"{CALLS} calls, and what the called pods' sidecars counted",
                look=cost,
                hints=(
                    "Nothing is free: who did the work of the calls that did not fail?",
                    "Count the requests that arrive at the pods, not those that were sent.",
                    'lab.measure("with retries")',
                ),
                timeout=10,
            ),
            solve=lambda lab: lab.apply_original("09_retry/04-retry.yaml"),
        ),
    ],
    source=["meshlab/proxy/core/retry.py", "meshlab/control/translate/retry.py"],
)

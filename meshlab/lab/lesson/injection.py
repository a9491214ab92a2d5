"""Lesson 2: a mesh without a change to the code. Sidecars come in, and a request shows its way."""

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from meshlab import workload
from meshlab.errors import ClusterError
from meshlab.lab import chart
from meshlab.lab.checkpoint import Checkpoint, Finding
from meshlab.lab.display import Chart
from meshlab.lab.lesson.base import Lesson, Step, get
from meshlab.mesh import INJECTION
from meshlab.observe.metrics import total
from meshlab.wait import until

if TYPE_CHECKING:
    from meshlab.lab.lab import Lab
    from meshlab.namespace import Pod

ADDRESS = "http://bluegreen/api/color"
CALLS = 20
DEPLOYMENTS = ("blue", "green", "fortio-deploy")
LOG_SECONDS = 10.0
"""How long an access log entry may take to the control plane."""
NO_DEPLOYMENT = "bluegreen has no pod of a Deployment"


def owned(lab: "Lab") -> "Sequence[Pod]":
    """Return the pods that belong to a Deployment: the control pod belongs to nobody."""
    return [
        pod
        for pod in lab.namespace.pods()
        if pod.object["metadata"].get("ownerReferences")
        and not pod.object["metadata"].get("deletionTimestamp")
    ]


def labelled(lab: "Lab") -> Finding:
    """Look whether the namespace asks for sidecars."""
    found = get(lab, "namespaces", "bluegreen") or {"metadata": {}}
    value = (found["metadata"].get("labels") or {}).get(INJECTION)
    return Finding(
        passed=value == "enabled",
        observed=f"label {INJECTION}: {value or 'not there'}",
        expected=f"{INJECTION}: enabled",
        cause="nothing asks the webhook to inject into this namespace",
        again=False,
    )


def injected(lab: "Lab") -> Finding:
    """Look whether every pod of the Deployments has its sidecar, ready."""
    expected = "each pod 2/2, with the container istio-proxy"
    pods = owned(lab)
    if not pods:
        return Finding(passed=False, observed="no pods", expected=expected, cause=NO_DEPLOYMENT)
    without = [pod.name for pod in pods if not workload.has_sidecar(pod.object)]
    counts = {pod.name: workload.ready_count(pod.object) for pod in pods}
    unready = [name for name, (ready, wanted) in counts.items() if ready < wanted]
    cause = ""
    if without:
        asked = labelled(lab).passed
        why = "made before the label was there" if asked else "no label asks for one"
        cause = f"without a sidecar: {', '.join(without)} ({why})"
    elif unready:
        cause = f"not ready yet: {', '.join(unready)}"
    return Finding(
        passed=not cause,
        observed=", ".join(f"{name} {r}/{w}" for name, (r, w) in counts.items()),
        expected=expected,
        cause=cause,
        again=not without or bool(_leaving(lab)),
    )


def _leaving(lab: "Lab") -> list[str]:
    """Return the pods that are about to be gone: new ones take their place."""
    pods = lab.namespace.pods()
    return [pod.name for pod in pods if pod.object["metadata"].get("deletionTimestamp")]


def control(lab: "Lab") -> Finding:
    """Look whether the control pod stayed without."""
    found = get(lab, "pods", "control")
    if found is None or found["metadata"].get("deletionTimestamp"):
        return Finding(
            passed=False, observed="no pod control", expected="control 1/1",
            cause="there is no control pod to compare with", again=False,
        )  # fmt: skip
    ready, wanted = workload.ready_count(found)
    sidecar = workload.has_sidecar(found)
    return Finding(
        passed=not sidecar and (ready, wanted) == (1, 1),
        observed=f"control {ready}/{wanted}" + (", with istio-proxy" if sidecar else ""),
        expected="control 1/1, although its namespace is labelled",
        cause="it got a sidecar: its label does not say false" if sidecar else "it is not ready",
    )


def counted(lab: "Lab") -> tuple[float, float]:
    """Return the requests that the caller's and the called pods' sidecars counted."""
    out = into = 0.0
    for pod in owned(lab):
        if not workload.has_sidecar(pod.object):
            continue
        samples = lab.mesh.metrics(pod)
        out += total(samples, "istio_requests_total", reporter="source")
        into += total(samples, "istio_requests_total", reporter="destination")
    return out, into


def captured(lab: "Lab") -> Finding:
    """Look whether both sides' sidecars saw requests."""
    expected = "requests counted by the caller's sidecar and by the called one's"
    bare = [pod.name for pod in owned(lab) if not workload.has_sidecar(pod.object)]
    out, into = counted(lab)
    cause = ""
    if not (out and into):
        cause = "no request was sent yet" if not bare else f"no sidecar: {', '.join(bare)}"
        if out and not into:
            cause = "the called pods' sidecars counted nothing"
        if into and not out:
            cause = "the caller's sidecar counted nothing: requests left the pod another way"
    return Finding(
        passed=bool(out and into),
        observed=f"out {out:.0f}, in {into:.0f}",
        expected=expected,
        cause=cause,
    )


def secured(lab: "Lab") -> Finding:
    """Look whether the edge from the client to a colour was mutual TLS, and never plain text."""
    expected = "fortio-deploy → blue or green by mutual TLS only"
    report = lab.mesh.mtls()
    seen = [e for name in ("blue", "green") for e in report.edge("fortio-deploy", name)]
    plain = [str(e.destination) for e in seen if not e.mutual_tls]
    if not seen:
        others = [e for e in report.edges if e.destination.namespace == "bluegreen"]
        cause = "no connection seen from fortio-deploy"
        if any(not edge.mutual_tls for edge in others):
            cause += "; plain text came from a caller without a sidecar"
        return Finding(passed=False, observed="no connection", expected=expected, cause=cause)
    return Finding(
        passed=not plain,
        observed=", ".join(
            f"{e.source} → {e.destination} {'mutual TLS' if e.mutual_tls else 'plain text'}"
            for e in seen
        ),
        expected=expected,
        cause=f"plain text to {', '.join(plain)}" if plain else "",
    )


def manual(lab: "Lab") -> Finding:
    """Look whether the Deployment of the namespace without a label carries its sidecar itself."""
    expected = "Deployment blue in namespace manual with istio-proxy in its template"
    found = get(lab, "deployments.apps", "blue", "manual")
    if found is None:
        return Finding(
            passed=False, observed="no Deployment", expected=expected,
            cause="namespace manual has no Deployment blue", again=False,
        )  # fmt: skip
    template = {"spec": found["spec"]["template"]["spec"]}
    ready = (found.get("status") or {}).get("readyReplicas", 0)
    inside = workload.has_sidecar(template)
    cause = "" if inside else "it was applied as it stands: nobody injected it"
    if inside and not ready:
        cause = "injected, but its pod is not ready"
    return Finding(
        passed=inside and bool(ready),
        observed=f"template {'with' if inside else 'without'} istio-proxy, {ready} pod ready",
        expected=expected,
        cause=cause,
        again=inside,
    )


# The way of one request


def trace(lab: "Lab", *, timeout: float = LOG_SECONDS) -> Chart:
    """Send one request from the client's pod and show its way, from both sidecars' access logs.

    Raises:
        ClusterError: the entries did not arrive; says which are missing.
    """
    name = str(uuid.uuid4())
    log = lab.mesh.access_log()
    log.read()
    load = lab.client().load(ADDRESS, requests=1, connections=1, headers={"x-request-id": name})
    (request,) = load.sample().requests
    found: dict[str, Mapping[str, Any]] = {}
    deadline = time.monotonic() + timeout
    while len(found) < 2 and time.monotonic() < deadline:
        for entry in log.read().entries:
            if entry.get("request_id") == name:
                found[_side(entry)] = entry
        if len(found) < 2:
            time.sleep(0.1)
    if len(found) < 2:
        missing = {"outbound", "inbound"} - set(found)
        raise ClusterError(
            f"no access log entry came from the {' and '.join(sorted(missing))} side",
            object=f"request {name}",
            fix="Are both pods 2/2? See lab.namespace.pods().",
        )
    title = f"One request, two sidecars: GET {ADDRESS} → {request.status} {request.body}"
    steps = way(request.sent, request.seconds, found["outbound"], found["inbound"])
    return Chart(chart.waterfall(steps, title=title))


def _side(entry: Mapping[str, Any]) -> str:
    return str(entry.get("upstream_cluster", "")).partition("|")[0]


def way(
    sent: float, seconds: float, outbound: Mapping[str, Any], inbound: Mapping[str, Any]
) -> list[chart.Step]:
    """Return the stops of a request.

    Each stop lies within the one before it. Lengths are measured at each proxy; starts are told to
    the millisecond, and moved by less than that where the stop before would not hold them.
    """
    stops = [
        ("app: fortio", sent, seconds, "app", "asks for http://bluegreen"),
        ("sidecar of fortio, out", began(outbound), _seconds(outbound), "client",
         f"route {outbound.get('route_name') or '-'}, picks {outbound.get('upstream_host', '-')}"),
        ("sidecar of the called pod, in", began(inbound), _seconds(inbound), "server",
         f"mutual TLS, SNI {inbound.get('requested_server_name') or '-'}"),
        ("app: bluegreen", began(inbound), _upstream_seconds(inbound), "app",
         f"answers {inbound.get('response_code')}"),
    ]  # fmt: skip
    steps: list[chart.Step] = []
    start, length = sent, seconds
    for name, at, own, kind, detail in stops:
        own = min(own, length)  # clocks are read in different processes
        start = min(max(at, start), start + length - own)
        length = own
        steps.append(chart.Step(name, start, start + own, detail, kind))
    return steps


def _seconds(entry: Mapping[str, Any]) -> float:
    return float(entry.get("duration") or 0) / 1000


def _upstream_seconds(entry: Mapping[str, Any]) -> float:
    told = entry.get("upstream_service_time")
    return float(told) / 1000 if told not in (None, "", "-") else _seconds(entry)


def began(entry: Mapping[str, Any]) -> float:
    """Return an entry's start in unix seconds."""
    return datetime.fromisoformat(str(entry["start_time"])).timestamp()


def padlocks(lab: "Lab") -> Chart:
    """Show who called whom in the namespace, as the called pods' sidecars counted it."""
    report = lab.mesh.mtls()
    here = [e for e in report.edges if e.destination.namespace == lab.lesson.namespace]
    sources = sorted({str(e.source) for e in here})
    names = {pod.workload.name for pod in report.proxies if pod.namespace == lab.lesson.namespace}
    destinations = sorted(names & {"blue", "green"} | {e.destination.name for e in here})
    found: dict[tuple[str, str], bool | None] = {}
    for edge in here:
        pair = str(edge.source), edge.destination.name
        found[pair] = edge.mutual_tls and found.get(pair, True)
    return Chart(chart.padlocks(found, sources=sources, destinations=destinations))


def restart(lab: "Lab") -> object:
    """Replace all pods, as `kubectl rollout restart deployment` does."""
    stamp = datetime.now().astimezone().isoformat()
    note = {"kubectl.kubernetes.io/restartedAt": stamp}
    for name in DEPLOYMENTS:
        if get(lab, "deployments.apps", name):
            patch = {"spec": {"template": {"metadata": {"annotations": note}}}}
            lab.mesh.kube.patch("deployments.apps", name, patch, lab.namespace.name)
    return lab.namespace.wait()


def solve_control(lab: "Lab") -> object:
    until(
        lambda: ", ".join(name for name in _leaving(lab) if name == "control"),
        what="the old control pod is gone",
        timeout=30,
    )
    lab.apply_original("02_injection/04-control.yaml")
    return lab.namespace.pod(app="control")


def solve_traffic(lab: "Lab") -> object:
    return lab.client().load(ADDRESS, requests=CALLS)


def solve_manual(lab: "Lab") -> object:
    lab.mesh.apply(lab.injected("02_injection/05-manual.yaml"))
    return lab.mesh.namespace("manual").wait("blue")


def _solve_sidecars(lab: "Lab") -> object:
    lab.apply_original("02_injection/03-namespace.yaml")
    return restart(lab)


LESSON = Lesson(
    number="02",
    title="Inject the sidecar",
    minutes=15,
    goal="Put every pod into the mesh without touching its code, and see what a request meets.",
    after=["01"],
    namespace="bluegreen",
    start=["02_injection/01-bluegreen.yaml", "02_injection/02-fortio.yaml"],
    steps=[
        Step(
            checkpoint=Checkpoint(
                name="inject.label",
                covers="the labels of namespace bluegreen",
                look=labelled,
                hints=(
                    "The webhook looks at the namespace before it looks at the pod.",
                    "Which label asks for injection? `03-namespace.yaml` has it.",
                    "kubectl label namespace bluegreen istio-injection=enabled",
                ),
            ),
            solve=lambda lab: lab.apply_original("02_injection/03-namespace.yaml"),
        ),
        Step(
            checkpoint=Checkpoint(
                name="inject.sidecars",
                covers="all pods of the Deployments in namespace bluegreen",
                look=injected,
                hints=(
                    "A webhook sees a pod once: when it is made.",
                    "When were these pods made, and when did the label come?",
                    "kubectl -n bluegreen rollout restart deployment",
                ),
                timeout=30,
            ),
            solve=_solve_sidecars,
        ),
        Step(
            checkpoint=Checkpoint(
                name="inject.control",
                covers="the pod control",
                look=control,
                hints=(
                    "An experiment needs a control: one pod that stays outside.",
                    "A pod can opt out by a label of its own.",
                    "kubectl apply -f manifests/02_injection/04-control.yaml",
                ),
                timeout=20,
            ),
            solve=solve_control,
        ),
        Step(
            checkpoint=Checkpoint(
                name="inject.captured",
                covers="istio_requests_total of all sidecars in namespace bluegreen",
                look=captured,
                hints=(
                    "Counters move when requests do.",
                    "Call the Service from the client's pod.",
                    f"kubectl -n bluegreen exec deploy/fortio-deploy -- fortio curl {ADDRESS}",
                ),
                timeout=5,
            ),
            solve=solve_traffic,
        ),
        Step(
            checkpoint=Checkpoint(
                name="inject.mtls",
                covers="what the sidecars of blue and green counted",
                look=secured,
                hints=(
                    "A padlock is a connection that happened, not a setting.",
                    "Who called blue and green, and did the caller have a sidecar?",
                    "mesh.mtls().connections()",
                ),
                timeout=5,
            ),
            solve=solve_traffic,
        ),
        Step(
            checkpoint=Checkpoint(
                name="inject.manual",
                covers="Deployment blue in namespace manual",
                look=manual,
                hints=(
                    "Where no label asks, you can ask: before you apply.",
                    "Inject the file itself and apply the result.",
                    "meshlab kube-inject -f manifests/02_injection/05-manual.yaml"
                    " | kubectl apply -f -",
                ),
                timeout=20,
            ),
            solve=solve_manual,
        ),
    ],
    source=["meshlab/control/inject.py", "meshlab/agent/capture.py"],
)

"""Lesson 3: the front door. A Gateway opens a port, a VirtualService says where to go."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from meshlab.lab.checkpoint import Checkpoint, Finding
from meshlab.lab.lesson.base import HOST, Lesson, Step, get, unready

if TYPE_CHECKING:
    from meshlab.lab.lab import Lab

HOSTS = (HOST, "other.example.com")
PATHS = ("/api/color", "/api/other")
REFUSED = 0


def ask(lab: "Lab", host: str, path: str) -> int:
    """Return the status of one request through the front door; 0: nobody took the connection."""
    try:
        answer = httpx.get(
            f"{lab.mesh.ingress}{path}", headers={"Host": host}, timeout=5, trust_env=False
        )
    except httpx.TransportError:
        return REFUSED
    return answer.status_code


def statuses(
    lab: "Lab", hosts: Sequence[str] = HOSTS, paths: Sequence[str] = PATHS
) -> Mapping[tuple[str, str], int]:
    """Return the status of each host and path."""
    return {(host, path): ask(lab, host, path) for host in hosts for path in paths}


def gateway_problem(lab: "Lab") -> str:
    """Return what keeps the front door shut, "" when the Gateway should open it."""
    found = get(lab, "gateways.networking.istio.io", "bluegreen-gateway")
    if found is None:
        return "no Gateway tells the ingress gateway to listen"
    selector = found["spec"].get("selector") or {}
    if selector != {"istio": "ingressgateway"}:
        return f"the Gateway selects {selector}: no pod has these labels"
    hosts = [host for server in found["spec"].get("servers", ()) for host in server["hosts"]]
    if HOST not in hosts and "*" not in hosts:
        return f"the Gateway takes {', '.join(hosts)}, not {HOST}"
    return ""


def opened(lab: "Lab") -> Finding:
    """Look whether somebody answers at the front door."""
    status = ask(lab, HOST, "/api/color")
    port = urlsplit(lab.mesh.ingress).port
    return Finding(
        passed=status != REFUSED,
        observed=f"{status or 'refused'} for {HOST}/api/color",
        expected="an answer, whatever it says",
        cause=gateway_problem(lab) or f"the Gateway is there, but port {port} takes no connection",
    )


def routed(lab: "Lab") -> Finding:
    """Look whether this host and path, and only they, lead to blue."""
    wanted = {
        (host, path): 200 if (host, path) == (HOST, "/api/color") else 404
        for host in HOSTS
        for path in PATHS
    }
    seen = statuses(lab)
    wrong = [(host, path) for host, path in wanted if seen[(host, path)] != wanted[(host, path)]]
    return Finding(
        passed=not wrong,
        observed=", ".join(f"{h}{p}: {s or 'refused'}" for (h, p), s in seen.items()),
        expected=f"200 for {HOST}/api/color, 404 for all others",
        cause=_route_problem(lab, wrong) if wrong else "",
    )


def _route_problem(lab: "Lab", wrong: Sequence[tuple[str, str]]) -> str:
    if problem := gateway_problem(lab):
        return problem
    found = get(lab, "virtualservices.networking.istio.io", "bluegreen")
    if found is None:
        return "nothing says where a request goes that came in: no VirtualService is bound"
    spec = found["spec"]
    if HOST not in spec.get("hosts", ()):
        return f"the VirtualService is for {', '.join(spec.get('hosts', ()))}, not {HOST}"
    if "bluegreen-gateway" not in spec.get("gateways", ()):
        return "the VirtualService names no Gateway of yours, so it holds inside the mesh only"
    if problem := unready(lab, "blue"):
        return problem
    return f"the VirtualService takes too much or too little: see {wrong[0][0]}{wrong[0][1]}"


LESSON = Lesson(
    number="03",
    title="The front door",
    minutes=15,
    goal="Tell a Gateway (who listens) from a VirtualService (where it goes).",
    after=["02"],
    namespace="bluegreen",
    start=["03_gateway/01-bluegreen.yaml"],
    sidecars=True,
    steps=[
        Step(
            checkpoint=Checkpoint(
                name="gateway.open",
                covers="one request through the ingress gateway",
                look=opened,
                hints=(
                    "A port is open only where somebody listens.",
                    "Which object tells the ingress gateway to listen, on what port, for whom?",
                    "kubectl apply -f manifests/03_gateway/02-gateway.yaml",
                ),
            ),
            solve=lambda lab: lab.apply_original("03_gateway/02-gateway.yaml"),
        ),
        Step(
            checkpoint=Checkpoint(
                name="gateway.route",
                covers="two hosts by two paths, one request each",
                look=routed,
                hints=(
                    "404 is an answer: somebody listens who knows no way.",
                    "Which object binds a host and a path to a Service, and to which Gateway?",
                    "kubectl apply -f manifests/03_gateway/03-virtual-service.yaml",
                ),
            ),
            solve=lambda lab: lab.apply_original("03_gateway/03-virtual-service.yaml"),
        ),
    ],
    source=["meshlab/control/translate/gateway.py", "meshlab/control/translate/route.py"],
)

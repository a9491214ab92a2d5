"""The talk's demo and its workshop with kubectl and curl alone, from the manifests as published."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from meshlab.lab.share import accepted

from .conftest import MANIFESTS, Cluster

pytestmark = [pytest.mark.root, pytest.mark.cluster]

WORKSHOP = MANIFESTS / "workshop"
CALLS = 500


@pytest.fixture(scope="module")
def bluegreen(cluster: Cluster):
    cluster.kubectl("apply", "-f", f"{WORKSHOP}/lab09/01-green.yaml")
    cluster.kubectl("apply", "-f", f"{WORKSHOP}/lab09/02-blue.yaml")
    for color in ("blue", "green"):
        cluster.kubectl(
            "-n", "bluegreen", "rollout", "status", f"deployment/{color}", "--timeout=60s"
        )
    yield
    cluster.kubectl("delete", "namespace", "bluegreen", "--timeout=60s")


@pytest.fixture
def applied(cluster: Cluster, request: pytest.FixtureRequest):
    """Apply a file of the workshop, and delete it afterwards, as its text says."""
    path = f"{WORKSHOP}/{request.param}"
    cluster.kubectl("-n", "bluegreen", "apply", "-f", path)
    yield path
    cluster.kubectl("-n", "bluegreen", "delete", "-f", path)


def colors(cluster: Cluster, host: str, *headers: str, path: str = "/api/color") -> Counter[str]:
    """Ask `CALLS` times through the ingress, by one curl, and count `status body`."""
    url = f"{cluster.ingress}{path}?[1-{CALLS}]"
    extra = [part for header in headers for part in ("-H", header)]
    done = cluster.run("curl", "-s", "-H", f"Host: {host}", *extra, "-w", " %{http_code}\n", url)
    return Counter(done.stdout.splitlines())


def answers(cluster: Cluster, host: str, path: str = "/api/color") -> str:
    return cluster.curl("-H", f"Host: {host}", f"{cluster.ingress}{path}")[0]


def test_pods_have_their_sidecar_without_a_change_to_them(
    cluster: Cluster, bluegreen: None
) -> None:
    pods = json.loads(cluster.kubectl("-n", "bluegreen", "get", "pods", "-o", "json"))["items"]
    assert len(pods) == 6
    for pod in pods:
        names = [c["name"] for c in pod["spec"]["initContainers"] + pod["spec"]["containers"]]
        assert {"istio-init", "istio-proxy"} < set(names)
    rows = cluster.kubectl("-n", "bluegreen", "get", "pods", "--no-headers").splitlines()
    assert [row.split()[1] for row in rows] == ["2/2"] * 6


def test_refused_then_404_then_the_service(cluster: Cluster, bluegreen: None) -> None:
    """Before the Gateway nobody listens; with the Gateway alone nothing is routed."""
    assert answers(cluster, "bluegreen.example.com") == "000"
    whole = (WORKSHOP / "lab10" / "02-TrafficShift.yaml").read_text()
    gateway, service = whole.split("\n---\n", 1)
    cluster.kubectl("-n", "bluegreen", "apply", "-f", "-", stdin=gateway)
    cluster.until("404 by the Gateway", lambda: answers(cluster, "bluegreen.example.com") == "404")
    cluster.kubectl("-n", "bluegreen", "apply", "-f", "-", stdin=service)
    cluster.until("200 by the route", lambda: answers(cluster, "bluegreen.example.com") == "200")
    assert answers(cluster, "other.example.com") == "404"
    assert answers(cluster, "bluegreen.example.com", "/api/other") == "404"
    cluster.kubectl("-n", "bluegreen", "delete", "-f", "-", stdin=whole)
    cluster.until("nobody there", lambda: answers(cluster, "bluegreen.example.com") == "000")


@pytest.mark.parametrize(
    ("applied", "host", "share"),
    [
        pytest.param("lab10/01-RegularIngress.yaml", "blue.example.com", {"blue": 1.0}, id="blue"),
        pytest.param(
            "lab10/02-TrafficShift.yaml",
            "bluegreen.example.com",
            {"blue": 0.5, "green": 0.5},
            id="50/50",
        ),
        pytest.param(
            "lab10/03-DestinationRule.yaml",
            "versions.example.com",
            {"green": 0.8, "blue": 0.2},
            id="80/20",
        ),
    ],
    indirect=["applied"],
)
def test_shares(
    cluster: Cluster, bluegreen: None, applied: str, host: str, share: dict[str, float]
) -> None:
    cluster.until("the route is live", lambda: answers(cluster, host) == "200")
    seen = colors(cluster, host)
    assert set(seen) == {f"{color} 200" for color in share}
    for color, part in share.items():
        low, high = accepted(CALLS, part, alpha=1e-4)
        assert low <= seen[f"{color} 200"] <= high


@pytest.mark.parametrize("applied", ["lab10/04-Canary.yaml"], indirect=True)
def test_header_canary(cluster: Cluster, bluegreen: None, applied: str) -> None:
    cluster.until("the route is live", lambda: answers(cluster, "versions.example.com") == "200")
    assert colors(cluster, "versions.example.com", "foo: bar") == {"blue 200": CALLS}
    assert colors(cluster, "versions.example.com", "foo: baz") == {"green 200": CALLS}
    assert colors(cluster, "versions.example.com") == {"green 200": CALLS}


def fortio(cluster: Cluster, namespace: str, *flags: str) -> dict:
    """Run fortio in the namespace's fortio pod and return its JSON result."""
    command = ("fortio", "load", "-json", "-", "-quiet", *flags)
    out = cluster.kubectl(
        "-n", namespace, "exec", "deploy/fortio-deploy", "-c", "fortio", "--", *command
    )
    return json.loads(out[out.index("{") : out.rindex("}") + 1])


def failed(result: dict) -> int:
    return sum(count for code, count in result["RetCodes"].items() if code != "200")


def test_retry_hides_the_buggy_version(cluster: Cluster) -> None:
    namespace, url = "buggygreen", "http://buggygreen/api/color"
    lab = WORKSHOP / "lab11"
    try:
        for name in ("02-NoRetry.yaml", "03-Fortio.yaml"):
            cluster.kubectl("apply", "-f", f"{lab}/{name}")
        for name in ("buggy", "green", "fortio-deploy"):
            cluster.kubectl("-n", namespace, "rollout", "status", f"deploy/{name}", "--timeout=60s")
        without = failed(fortio(cluster, namespace, "-c", "4", "-qps", "0", "-n", "2000", url))
        low, high = accepted(2000, 0.125, alpha=1e-4)
        assert low <= without <= high
        cluster.kubectl("-n", namespace, "apply", "-f", f"{lab}/04-Retry.yaml")
        cluster.until(
            "retries in force",
            lambda: (
                failed(fortio(cluster, namespace, "-c", "4", "-qps", "0", "-n", "200", url)) == 0
            ),
        )
        with_retries = fortio(cluster, namespace, "-c", "4", "-qps", "0", "-n", "2000", url)
        assert with_retries["RetCodes"] == {"200": 2000}
        log = cluster.kubectl(
            "-n", namespace, "logs", "deploy/buggy", "-c", "istio-proxy", "--tail=2000"
        )
        assert re.search(r'"GET /api/color HTTP/1\.1" 502 .*inbound\|8080\|\|', log)
        assert "outbound_.80_.v2_.buggygreen.buggygreen.svc.cluster.local" in log
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--timeout=60s", check=False)


def overflow(cluster: Cluster) -> int:
    """Requests the blue pod's inbound proxy turned away, by its own counter."""
    stats = cluster.kubectl(
        "-n", "blue", "exec", "deploy/blue", "-c", "istio-proxy", "--",
        "pilot-agent", "request", "GET", "stats?filter=inbound.8080.*upstream_rq_pending_overflow",
    )  # fmt: skip
    return sum(int(line.rsplit(": ")[1]) for line in stats.splitlines() if ": " in line)


def test_a_pool_of_one_is_met_by_a_client_without_a_sidecar(cluster: Cluster) -> None:
    """Workshop lab 11: the 503s come from the server's inbound proxy."""
    url = "http://blue/api/color"
    circuit_breaker = str(WORKSHOP / "lab11" / "01-CircuitBreaker.yaml")
    try:
        cluster.apply(cluster.meshlab("kube-inject", "-f", circuit_breaker))
        client = (WORKSHOP / "lab11" / "03-Fortio.yaml").read_text()
        cluster.kubectl("apply", "-f", "-", stdin=client.replace("buggygreen", "blue"))
        for name in ("blue", "fortio-deploy"):
            cluster.kubectl("-n", "blue", "rollout", "status", f"deploy/{name}", "--timeout=60s")
        pods = cluster.kubectl("-n", "blue", "get", "pods", "--no-headers")
        assert re.search(r"^blue\S*\s+2/2", pods, re.MULTILINE)
        assert re.search(r"^fortio\S*\s+1/1", pods, re.MULTILINE)
        one = fortio(cluster, "blue", "-c", "1", "-qps", "0", "-n", "100", url)
        assert one["RetCodes"] == {"200": 100}
        before = overflow(cluster)
        four = fortio(cluster, "blue", "-c", "4", "-qps", "0", "-n", "400", url)
        assert set(four["RetCodes"]) == {"200", "503"}
        assert overflow(cluster) - before == four["RetCodes"]["503"]
    finally:
        cluster.kubectl("delete", "namespace", "blue", "--timeout=60s", check=False)

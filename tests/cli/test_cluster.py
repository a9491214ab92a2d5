"""The verbs against a cluster with its mesh, in the order in which one would meet them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.cluster]

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "labs" / "manifests" / "04_traffic_shift"
URL = "http://bluegreen.example.com/api/color"


class Machine:
    """A home of its own for clusters, and the command line."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "MESHLAB_HOME": str(home),
            "HOME": str(home.parent / "user"),
        }

    def run(self, *words: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "meshlab", *words],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"meshlab {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def out(self, verb: str, *words: str) -> str:
        return self.run(verb, "--name", "cli", *words).stdout.strip()

    def kubectl(self, *words: str) -> str:
        line = ["kubectl", "--kubeconfig", str(self.home / "cli" / "kubeconfig"), *words]
        done = subprocess.run(
            line, capture_output=True, text=True, env=self.environment, check=True, timeout=60
        )
        return done.stdout.strip()

    def pod(self, app: str) -> str:
        line = ("-n", "bluegreen", "get", "pods", "-l", f"app={app}", "-o", "name")
        return self.kubectl(*line).splitlines()[0].removeprefix("pod/")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with cluster `cli`, the mesh, and blue and green behind its gateway."""
    found = Machine(tmp_path_factory.mktemp("machine") / "home")
    try:
        shown = found.run("up", "--name", "cli").stdout
        assert shown.startswith("export KUBECONFIG=$(meshlab kubeconfig --name cli)\n# ingress")
        found.kubectl("create", "namespace", "bluegreen")
        found.kubectl("label", "namespace", "bluegreen", "istio-injection=enabled")
        found.out("apply", "-n", "bluegreen", "-f", str(MANIFESTS))
        for name in ("blue", "green"):
            found.kubectl("-n", "bluegreen", "rollout", "status", f"deployment/{name}")
        yield found
    finally:
        found.run("down", "--name", "cli")
        assert not (found.home / "cli").exists()


def test_status_and_kubeconfig(machine: Machine) -> None:
    assert machine.out("kubeconfig") == str(machine.home / "cli" / "kubeconfig")
    [row] = json.loads(machine.out("status", "-o", "json"))
    assert (row["name"], row["state"], row["ingress"]) == (
        "cli",
        "running",
        machine.out("ingress"),
    )
    assert row["mesh"] == "3 proxies"
    assert not (machine.home.parent / "user" / ".kube" / "config").exists()


def test_up_again_is_harmless(machine: Machine) -> None:
    before = machine.kubectl("get", "pods", "-A", "-o", "name")
    machine.out("up")
    assert machine.kubectl("get", "pods", "-A", "-o", "name") == before


def test_apply_waits_for_the_proxies(machine: Machine, tmp_path: Path) -> None:
    split = (MANIFESTS / "04-split-80-20.yaml").read_text()
    (tmp_path / "a.yaml").write_text(split.replace("weight: 80", "weight: -1"))
    refused = machine.run("apply", "--name", "cli", "-f", str(tmp_path / "a.yaml"), code=1).stderr
    assert refused.startswith("error: VirtualService bluegreen/bluegreen: spec.http[0]")
    (tmp_path / "a.yaml").write_text(
        split.replace("weight: 80", "weight: 30").replace("weight: 20", "weight: 70")
    )
    shown = machine.out("apply", "-f", str(tmp_path / "a.yaml"))
    assert "virtualservice.networking.istio.io/bluegreen configured" in shown
    assert "1 proxy acknowledged" in shown
    assert "unchanged" in machine.out("apply", "-f", str(tmp_path / "a.yaml"))


def test_load_goes_through_the_gateway(machine: Machine) -> None:
    result = json.loads(machine.out("load", "-n", "50", "-qps", "0", "-o", "json", URL))
    assert result["RetCodes"] == {"200": 50}
    lines = machine.out("logs", "-n", "bluegreen", "-l", "app=bluegreen-app", "-c", "istio-proxy")
    assert '"GET /api/color HTTP/1.1" 200' in lines


def test_proxy_status_and_config(machine: Machine) -> None:
    rows = json.loads(machine.out("proxy-status", "-o", "json"))
    assert [(r["cds"], r["lds"], r["eds"], r["rds"]) for r in rows] == [("SYNCED",) * 4] * 3
    pod = f"{machine.pod('bluegreen-app')}.bluegreen"
    assert "default" in machine.out("proxy-config", "secret", pod)
    clusters = machine.out("proxy-config", "clusters", pod, "--fqdn", "blue.bluegreen")
    assert clusters.splitlines()[1].split() == [
        "blue.bluegreen.svc.cluster.local", "80", "-", "outbound", "EDS",
    ]  # fmt: skip
    everything = json.loads(machine.out("proxy-config", "all", pod, "-o", "json"))
    assert set(everything) == {"clusters", "listeners", "routes", "endpoints", "secret"}
    assert "virtualInbound" in {listener["name"] for listener in everything["listeners"]}


def test_errors_are_one_line(machine: Machine) -> None:
    done = machine.run("proxy-config", "routes", "--name", "cli", "nobody", code=1)
    assert done.stderr == "error: Pod default/nobody: no such pod. See: kubectl get pods -A\n"
    done = machine.run("ingress", "--name", "other", code=1)
    assert done.stderr == "error: there is no cluster 'other'. Make it: meshlab up --name other\n"


def test_stop_keeps_the_state(machine: Machine) -> None:
    machine.out("stop")
    assert "stopped" in machine.run("status", "--name", "cli", code=1).stdout
    done = machine.run("proxy-status", "--name", "cli", code=1)
    assert "cannot be reached" in done.stderr
    machine.out("up")
    for name in ("blue", "green"):
        machine.kubectl(
            "-n", "bluegreen", "wait", f"deployment/{name}", "--for=condition=Available"
        )
    deadline = time.monotonic() + 20
    codes: dict[str, int] = {}
    while codes != {"200": 20} and time.monotonic() < deadline:
        line = ("load", "-n", "20", "-qps", "0", "-allow-initial-errors", "-o", "json", URL)
        codes = json.loads(machine.out(*line))["RetCodes"]
    assert codes == {"200": 20}


def test_two_clusters_side_by_side(machine: Machine) -> None:
    machine.run("up", "--name", "two", "--no-mesh")
    try:
        assert machine.run("status", "-q").stdout.split() == ["cli", "two"]
    finally:
        machine.run("down", "--name", "two")
    assert machine.run("status", "-q").stdout.split() == ["cli"]


def test_uninstall_leaves_the_cluster(machine: Machine) -> None:
    machine.out("uninstall")
    assert "istio-system" not in machine.kubectl("get", "namespaces", "-o", "name")
    machine.out("install")
    assert machine.out("ingress").startswith("http://127.0.0.1:")

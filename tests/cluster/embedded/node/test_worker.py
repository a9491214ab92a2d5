"""Pods in a real cluster: order, probes, hooks, restarts, and what is said about them."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.stream import stream

from meshlab.cluster.embedded.backend import Embedded
from meshlab.cluster.phase import silent

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SLEEP = ["sleep", "1000"]
UNTIL_TERM = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


class Pods:
    """The pods of one cluster's default namespace."""

    def __init__(self, api: client.CoreV1Api) -> None:
        self.api = api

    def create(self, name: str, spec: dict[str, Any]) -> None:
        spec = {"terminationGracePeriodSeconds": 5, **spec}
        self.api.create_namespaced_pod("default", {"metadata": {"name": name}, "spec": spec})

    def get(self, name: str) -> dict[str, Any]:
        found = self.api.read_namespaced_pod(name, "default")
        pod: dict[str, Any] = self.api.api_client.sanitize_for_serialization(found)
        return pod

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.get(name)["status"]
        return status

    def wait(self, name: str, good: Callable[[dict[str, Any]], Any], what: str) -> Any:
        deadline = time.monotonic() + 15
        while not (found := good(self.status(name))):
            if time.monotonic() > deadline:
                pytest.fail(f"{name} not {what} within 15 s: {self.status(name)}")
            time.sleep(0.02)
        return found

    def events(self, name: str) -> list[str]:
        about = f"involvedObject.name={name}"
        found = self.api.list_namespaced_event("default", field_selector=about).items
        return [event.reason for event in found]

    def logs(self, name: str, **options: Any) -> str:
        return str(self.api.read_namespaced_pod_log(name, "default", **options))

    def run(self, name: str, *command: str) -> str:
        session = stream(
            self.api.connect_get_namespaced_pod_exec,
            name,
            "default",
            command=list(command),
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
        try:
            session.run_forever(timeout=10)
            return str(session.read_all())
        finally:
            session.close()
            session.sock.sock.close()  # close() sends the frame and leaves the socket


def ready(status: dict[str, Any]) -> bool:
    return {"Ready": "True"}.items() <= {
        entry["type"]: entry["status"] for entry in status.get("conditions") or []
    }.items()


def container(name: str = "app", command: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": command or SLEEP, **fields}


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESHLAB_HOME", str(tmp_path_factory.mktemp("home")))
        backend = Embedded()
        backend.up("pods", silent)
        api = client.CoreV1Api(config.new_client_from_config(str(backend.kubeconfig("pods"))))
        yield Pods(api)
        api.api_client.close()
        backend.down("pods", silent)


def test_init_then_sidecar_then_app(pods: Pods) -> None:
    write = ["sh", "-c", f"echo $0 >> /shared/order; {UNTIL_TERM}"]
    shared = [{"name": "shared", "mountPath": "/shared"}]
    pods.create(
        "order",
        {
            "initContainers": [
                container("init", ["sh", "-c", "echo init >> /shared/order"], volumeMounts=shared),
                container(
                    "side",
                    [*write, "side"],
                    restartPolicy="Always",
                    volumeMounts=shared,
                    startupProbe={"exec": {"command": ["test", "-e", "/shared/order"]}},
                ),
            ],
            "containers": [container(command=[*write, "app"], volumeMounts=shared)],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        },
    )
    pods.wait("order", ready, "ready")
    status = pods.status("order")
    assert [c["ready"] for c in status["initContainerStatuses"]] == [True, True]
    assert pods.run("order", "cat", "/shared/order").split() == ["init", "side", "app"]
    assert {"Scheduled", "Pulled", "Created", "Started"} <= set(pods.events("order"))


def test_a_crashing_container_is_restarted_at_once_and_then_later(pods: Pods) -> None:
    command = ["sh", "-c", "echo run; exit 3"]
    pods.create("crash", {"containers": [container(command=command)]})

    def backing_off(status: dict[str, Any]) -> Any:
        entry = (status.get("containerStatuses") or [{}])[0]
        reason = (entry.get("state", {}).get("waiting") or {}).get("reason")
        return entry if reason == "CrashLoopBackOff" else None

    entry = pods.wait("crash", backing_off, "backing off")
    assert entry["restartCount"] == 1
    assert entry["lastState"]["terminated"]["exitCode"] == 3
    assert "back-off 10s restarting failed container=app" in entry["state"]["waiting"]["message"]
    assert pods.logs("crash", previous=True) == "run\n"
    assert "BackOff" in pods.events("crash")


def test_an_unknown_image_is_named_with_the_known_ones(pods: Pods) -> None:
    pods.create("image", {"containers": [{"name": "app", "image": "nosuch:1"}]})

    def refused(status: dict[str, Any]) -> Any:
        entry = (status.get("containerStatuses") or [{"state": {}}])[0]
        waiting = entry["state"].get("waiting") or {}
        return waiting if "message" in waiting else None

    waiting = pods.wait("image", refused, "refused")
    assert waiting["reason"] in {"ErrImagePull", "ImagePullBackOff"}
    assert "busybox" in waiting["message"]


def test_a_missing_config_map_holds_the_pod_until_it_is_there(pods: Pods) -> None:
    env = [{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}]
    pods.create("config", {"containers": [container(env=env)]})

    def refused(status: dict[str, Any]) -> bool:
        entry = (status.get("containerStatuses") or [{"state": {}}])[0]
        reason: str = (entry["state"].get("waiting") or {}).get("reason", "")
        return reason == "CreateContainerConfigError"

    pods.wait("config", refused, "refused")
    late = {"metadata": {"name": "late"}, "data": {"k": "v"}}
    pods.api.create_namespaced_config_map("default", late)
    pods.wait("config", ready, "ready")
    assert pods.run("config", "printenv", "V") == "v\n"


def test_a_failing_liveness_probe_restarts_and_readiness_does_not(pods: Pods) -> None:
    well = {"exec": {"command": ["test", "-e", "/tmp/well"]}}
    probe = {**well, "periodSeconds": 1, "failureThreshold": 1}
    app = container(command=["sh", "-c", "touch /tmp/well; exec sleep 1000"])
    pods.create("live", {"containers": [{**app, "livenessProbe": probe}]})
    pods.create("unready", {"containers": [{**app, "readinessProbe": probe}]})
    for name in ("live", "unready"):
        pods.wait(name, ready, "ready")
        pods.run(name, "rm", "/tmp/well")
    pods.wait("live", lambda now: now["containerStatuses"][0]["restartCount"] == 1, "restarted")
    pods.wait("unready", lambda status: not ready(status), "unready")
    assert pods.status("unready")["containerStatuses"][0]["restartCount"] == 0
    assert "Unhealthy" in pods.events("live")


def test_a_pod_that_ends_keeps_its_log_and_its_code(pods: Pods) -> None:
    command = ["sh", "-c", "echo out; echo why > /dev/termination-log; exit 4"]
    pods.create("once", {"restartPolicy": "Never", "containers": [container(command=command)]})
    pods.wait("once", lambda status: status.get("phase") == "Failed", "failed")
    end = pods.status("once")["containerStatuses"][0]["state"]["terminated"]
    assert (end["exitCode"], end["reason"], end["message"]) == (4, "Error", "why\n")
    assert pods.logs("once") == "out\n"


def test_hooks_and_grace_at_the_end(pods: Pods) -> None:
    hook = {"exec": {"command": ["sh", "-c", "sleep 0.3; echo stopping > /proc/1/fd/1 || true"]}}
    app = container(
        command=["sh", "-c", UNTIL_TERM],
        lifecycle={"preStop": hook, "postStart": {"exec": {"command": ["touch", "/tmp/begun"]}}},
    )
    pods.create("hooks", {"containers": [app]})
    pods.wait("hooks", ready, "ready")
    assert pods.run("hooks", "ls", "/tmp/begun") == "/tmp/begun\n"
    began = time.monotonic()
    pods.api.delete_namespaced_pod("hooks", "default")
    while any(p.metadata.name == "hooks" for p in pods.api.list_namespaced_pod("default").items):
        time.sleep(0.02)
    assert 0.3 <= time.monotonic() - began < 3


def test_names_services_and_the_api_from_inside(pods: Pods) -> None:
    pods.create("inside", {"containers": [container()]})
    pods.wait("inside", ready, "ready")
    script = (
        "cd /var/run/secrets/kubernetes.io/serviceaccount; "
        'curl -sS --cacert ca.crt -H "Authorization: Bearer $(cat token)" '
        "-o /dev/null -w '%{http_code}' https://kubernetes.default/version; "
        "getent hosts nothing.example || echo ' no such name'"
    )
    assert pods.run("inside", "sh", "-c", script) == "200 no such name\n"

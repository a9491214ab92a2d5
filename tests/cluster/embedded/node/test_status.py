"""A pod's status as kubectl shows it."""

from typing import Any

import pytest

from meshlab.cluster.embedded.node.pod import Container, Kind, Terminated
from meshlab.cluster.embedded.node.status import Facts, crash_loop, pod_status, qos_class, rfc3339

POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
    "spec": {"containers": [{"name": "app", "image": "busybox"}]},
}
FACTS = Facts(now=100.0, address="10.244.0.2", sandbox=True, started=50.0)


def app(**state: Any) -> Container:
    return Container(name="app", kind=Kind.APP, always=True, never=False, **state)


def status(container: Container, pod: dict[str, Any] = POD) -> dict[str, Any]:
    return pod_status(pod, [container], FACTS)


def test_a_running_pod() -> None:
    assert status(app(running_since=60.0, started=True, ready=True)) == {
        "phase": "Running",
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": rfc3339(100.0),
            }
            for kind in (
                "PodReadyToStartContainers",
                "Initialized",
                "Ready",
                "ContainersReady",
                "PodScheduled",
            )
        ],
        "hostIP": "10.244.0.1",
        "hostIPs": [{"ip": "10.244.0.1"}],
        "podIP": "10.244.0.2",
        "podIPs": [{"ip": "10.244.0.2"}],
        "startTime": rfc3339(50.0),
        "qosClass": "BestEffort",
        "containerStatuses": [
            {
                "name": "app",
                "state": {"running": {"startedAt": rfc3339(60.0)}},
                "lastState": {},
                "ready": True,
                "restartCount": 0,
                "image": "busybox",
                "imageID": "meshlab://busybox",
                "containerID": "meshlab://u1/app/0",
                "started": True,
            }
        ],
    }


END = Terminated(code=137, reason="Error", started=60.0, finished=70.0)
END_SHOWN = {
    "exitCode": 137,
    "reason": "Error",
    "signal": 9,
    "startedAt": rfc3339(60.0),
    "finishedAt": rfc3339(70.0),
}


@pytest.mark.parametrize(
    ("container", "state", "last"),
    [
        pytest.param(app(), {"waiting": {"reason": "ContainerCreating"}}, {}, id="new"),
        pytest.param(app(ended=END), {"terminated": END_SHOWN}, {}, id="ended"),
        pytest.param(
            app(ended=END, waiting="CrashLoopBackOff", waiting_message="m"),
            {"waiting": {"reason": "CrashLoopBackOff", "message": "m"}},
            {"terminated": END_SHOWN},
            id="waits for its next run",
        ),
        pytest.param(
            app(running_since=80.0, previous=END),
            {"running": {"startedAt": rfc3339(80.0)}},
            {"terminated": END_SHOWN},
            id="runs again",
        ),
    ],
)
def test_states(container: Container, state: dict[str, Any], last: dict[str, Any]) -> None:
    entry = status(container)["containerStatuses"][0]
    assert (entry["state"], entry["lastState"]) == (state, last)


def test_an_unready_container_is_named() -> None:
    conditions = {entry["type"]: entry for entry in status(app(running_since=1.0))["conditions"]}
    assert conditions["Ready"]["reason"] == "ContainersNotReady"
    assert conditions["Ready"]["message"] == "containers with unready status: [app]"


def test_what_does_not_change_keeps_its_time_and_foreign_conditions_stay() -> None:
    foreign = {"type": "example.com/gate", "status": "True", "lastTransitionTime": "t1"}
    old = {"type": "Ready", "status": "False", "lastTransitionTime": "t0"}
    pod = {**POD, "status": {"conditions": [old, foreign]}}
    conditions = status(app(), pod)["conditions"]
    assert [c["lastTransitionTime"] for c in conditions if c["type"] == "Ready"] == ["t0"]
    assert conditions[-1] == foreign


def test_readiness_gates_are_waited_for() -> None:
    spec = {**POD["spec"], "readinessGates": [{"conditionType": "example.com/gate"}]}
    conditions = status(app(running_since=1.0, ready=True), {**POD, "spec": spec})["conditions"]
    ready = {entry["type"]: entry for entry in conditions}
    assert (ready["Ready"]["status"], ready["ContainersReady"]["status"]) == ("False", "True")
    assert ready["Ready"]["reason"] == "ReadinessGatesNotReady"


def test_crash_loop_says_which_and_how_long() -> None:
    text = "back-off 40s restarting failed container=app pod=web_shop(u1)"
    assert crash_loop(app(), POD, 40.0) == text
    assert crash_loop(app(), POD, 300.0).startswith("back-off 5m0s ")


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_qos_class(resources: dict[str, Any], expected: str) -> None:
    assert qos_class({"spec": {"containers": [{"name": "a", "resources": resources}]}}) == expected

from datetime import UTC, datetime
from typing import Any

import pytest

from meshlab import workload

Object = dict[str, Any]


def pod(**status: Any) -> Object:
    return {
        "metadata": {"name": "blue-1", "creationTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {
            "initContainers": [
                {"name": "istio-init"},
                {"name": "istio-proxy", "restartPolicy": "Always"},
            ],
            "containers": [{"name": "blue"}],
        },
        "status": {"phase": "Running", "podIP": "10.244.0.5", **status},
    }


RUNNING = pod(
    initContainerStatuses=[
        {"name": "istio-init", "ready": True},
        {"name": "istio-proxy", "ready": True, "restartCount": 1},
    ],
    containerStatuses=[{"name": "blue", "ready": True}],
    conditions=[{"type": "Ready", "status": "True"}],
)
WAITING = {"waiting": {"reason": "CrashLoopBackOff"}}


def test_the_sidecar_counts_the_other_init_containers_do_not() -> None:
    assert workload.ready_count(RUNNING) == (2, 2)
    assert workload.has_sidecar(RUNNING)
    assert workload.app_container(RUNNING) == "blue"
    table = workload.pods_table([RUNNING], datetime(2024, 1, 1, 0, 5, tzinfo=UTC))
    assert table.rows == [["blue-1", "2/2", "Running", 1, "5m", "10.244.0.5"]]


@pytest.mark.parametrize(
    ("status", "word"),
    [
        pytest.param({}, "Running", id="phase"),
        pytest.param(
            {"containerStatuses": [{"name": "blue", "state": WAITING}]},
            "CrashLoopBackOff",
            id="a container waits",
        ),
        pytest.param(
            {"initContainerStatuses": [{"name": "istio-init", "state": WAITING}]},
            "Init:CrashLoopBackOff",
            id="an init container waits",
        ),
        pytest.param({"phase": "Succeeded"}, "Succeeded", id="ended"),
    ],
)
def test_state(status: Object, word: str) -> None:
    assert workload.state(pod(**status)) == word


def test_a_pod_that_is_going_is_not_ready() -> None:
    going = {**RUNNING, "metadata": {**RUNNING["metadata"], "deletionTimestamp": "now"}}
    assert workload.is_ready(RUNNING)
    assert not workload.is_ready(going)
    assert workload.state(going) == "Terminating"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        pytest.param({}, "deployment blue: not looked at yet", id="new"),
        pytest.param(
            {"observedGeneration": 2, "updatedReplicas": 1},
            "deployment blue: 1 of 3 new pods made",
            id="making",
        ),
        pytest.param(
            {"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4},
            "deployment blue: 1 old pods left",
            id="old ones left",
        ),
        pytest.param(
            {"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2},
            "deployment blue: 2 of 3 pods ready",
            id="not ready",
        ),
        pytest.param(
            {"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3},
            "",
            id="done",
        ),
    ],
)
def test_missing_of(status: Object, text: str) -> None:
    deployment = {
        "metadata": {"name": "blue", "generation": 2},
        "spec": {"replicas": 3},
        "status": status,
    }
    assert workload.missing_of(deployment) == text

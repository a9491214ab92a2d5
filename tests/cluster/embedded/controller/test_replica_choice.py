from typing import Any

import pytest

from meshlab.cluster.embedded.controller.replica_choice import (
    Availability,
    availability,
    choose_to_delete,
    next_status,
)

Object = dict[str, Any]


def pod(
    name: str,
    *,
    node: str = "node",
    phase: str = "Running",
    ready: int | None = 0,
    cost: str = "0",
    restarts: int = 0,
    born: int = 0,
) -> Object:
    """`ready` and `born` in seconds after midnight; None: not ready."""
    since = {"lastTransitionTime": f"2024-01-01T00:00:{ready or 0:02}Z"}
    return {
        "metadata": {
            "name": name,
            "labels": {"app": "web"},
            "creationTimestamp": f"2024-01-01T00:00:{born:02}Z",
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost},
        },
        "spec": {"nodeName": node},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready is not None), **since}],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


@pytest.mark.parametrize(
    "goes",
    [
        pytest.param(pod("x", node=""), id="not on a node"),
        pytest.param(pod("x", phase="Pending"), id="pending"),
        pytest.param(pod("x", ready=None), id="not ready"),
        pytest.param(pod("x", cost="-1"), id="cheap by annotation"),
        pytest.param(pod("x", ready=9), id="ready for a shorter time"),
        pytest.param(pod("x", restarts=1), id="restarted more often"),
        pytest.param(pod("x", born=9), id="younger"),
    ],
)
def test_the_one_that_is_missed_least_goes(goes: Object) -> None:
    assert choose_to_delete([pod("a"), goes, pod("b")], 1) == [goes]


NOON = 1704067200.0  # 2024-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("wait", "found"),
    [
        pytest.param(0, Availability(2, 2, None), id="at once"),
        pytest.param(10, Availability(2, 1, 5.0), id="one has 5 s to go"),
        pytest.param(30, Availability(2, 0, 15.0), id="none yet; look when the first is due"),
    ],
)
def test_availability(wait: float, found: Availability) -> None:
    pods = [pod("a", ready=0), pod("b", ready=10), pod("c", ready=None)]
    assert availability(pods, wait, NOON + 15) == found


def test_status() -> None:
    replica_set = {
        "metadata": {"generation": 3},
        "spec": {"template": {"metadata": {"labels": {"app": "web"}}}},
    }
    assert next_status(replica_set, [pod("a"), pod("b")], Availability(1, 0, None), None) == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "observedGeneration": 3,
    }

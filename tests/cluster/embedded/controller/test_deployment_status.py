from typing import Any

import pytest

from meshlab.cluster.embedded.controller.deployment_status import deadline_left, next_status
from meshlab.cluster.embedded.controller.rollout import Limits

Object = dict[str, Any]

T0, T1, LATE = "2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z", "2024-01-01T01:00:00Z"
LIMITS = Limits(replicas=2, max_surge=1, max_unavailable=0)


def replica_set(name: str, replicas: int, ready: int, created: int | None = None) -> Object:
    status = {"replicas": replicas if created is None else created}
    status |= {"readyReplicas": ready, "availableReplicas": ready}
    return {"metadata": {"name": name}, "spec": {"replicas": replicas}, "status": status}


def deployment(status: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "generation": 4},
        "spec": {"replicas": 2, "progressDeadlineSeconds": 600, **spec},
        "status": status or {},
    }


def progressing(reason: str, status: str = "True") -> Object:
    return {
        "conditions": [
            {
                "type": "Progressing",
                "status": status,
                "reason": reason,
                "message": "before",
                "lastUpdateTime": T0,
                "lastTransitionTime": T0,
            }
        ]
    }


def test_a_complete_rollout() -> None:
    new = replica_set("web-2", 2, 2)
    before = deployment(progressing("ReplicaSetUpdated"))
    assert next_status(before, LIMITS, new, [replica_set("web-1", 0, 0), new], T1) == {
        "observedGeneration": 4,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "conditions": [
            {
                "type": "Available",
                "status": "True",
                "lastUpdateTime": T1,
                "lastTransitionTime": T1,
                "reason": "MinimumReplicasAvailable",
                "message": "Deployment has minimum availability.",
            },
            {
                "type": "Progressing",
                "status": "True",
                "lastUpdateTime": T1,
                "lastTransitionTime": T0,
                "reason": "NewReplicaSetAvailable",
                "message": 'ReplicaSet "web-2" has successfully progressed.',
            },
        ],
    }


OLD, HALF = replica_set("web-1", 2, 2), replica_set("web-2", 1, 0)


@pytest.mark.parametrize(
    ("before", "sets", "now", "created", "condition"),
    [
        pytest.param(
            deployment(), [OLD, HALF], T1, True, ("True", "NewReplicaSetCreated", T1), id="created"
        ),
        pytest.param(
            deployment(progressing("NewReplicaSetCreated")),
            [OLD, HALF],
            T1,
            False,
            ("True", "ReplicaSetUpdated", T1),
            id="more of the new: told anew",
        ),
        pytest.param(
            deployment(
                progressing("ReplicaSetUpdated")
                | {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2}
            ),
            [OLD, HALF],
            T1,
            False,
            ("True", "ReplicaSetUpdated", T0),
            id="nothing moved: the deadline goes on",
        ),
        pytest.param(
            deployment(
                progressing("ReplicaSetUpdated")
                | {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2}
            ),
            [OLD, HALF],
            LATE,
            False,
            ("False", "ProgressDeadlineExceeded", LATE),
            id="stuck",
        ),
        pytest.param(
            deployment(progressing("ReplicaSetUpdated"), paused=True),
            [OLD, HALF],
            T1,
            False,
            ("Unknown", "DeploymentPaused", T1),
            id="paused",
        ),
        pytest.param(
            deployment(progressing("DeploymentPaused", "Unknown")),
            [OLD, HALF],
            T1,
            False,
            ("Unknown", "DeploymentResumed", T1),
            id="resumed",
        ),
        pytest.param(
            deployment(progressing("NewReplicaSetAvailable")),
            [replica_set("web-2", 2, 1)],
            LATE,
            False,
            ("True", "NewReplicaSetAvailable", T0),
            id="complete, a pod restarts: not a rollout",
        ),
        pytest.param(
            deployment(), [replica_set("web-2", 2, 0, 0)], T1, False,
            ("True", "FoundNewReplicaSet", T1), id="adopted",
        ),
    ],
)  # fmt: skip
def test_progressing(
    before: Object,
    sets: list[Object],
    now: str,
    created: bool,
    condition: tuple[str, str, str],
) -> None:
    status = next_status(before, LIMITS, sets[-1], sets, now, created=created)
    found = next(c for c in status["conditions"] if c["type"] == "Progressing")
    assert (found["status"], found["reason"], found["lastUpdateTime"]) == condition


@pytest.mark.parametrize(
    ("limits", "available"),
    [
        pytest.param(Limits(replicas=2, max_unavailable=1), "True", id="one may be missing"),
        pytest.param(Limits(replicas=2), "False", id="none may"),
    ],
)
def test_available(limits: Limits, available: str) -> None:
    new = replica_set("web-2", 2, 1)
    status = next_status(deployment(), limits, new, [new], T1)
    assert next(c["status"] for c in status["conditions"] if c["type"] == "Available") == available
    assert status["unavailableReplicas"] == 1


def test_a_failing_replica_set_shows() -> None:
    new = replica_set("web-2", 2, 0)
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "denied",
        "lastTransitionTime": T0,
    }
    new["status"]["conditions"] = [failure]
    status = next_status(deployment(), LIMITS, new, [new], T1)
    assert status["conditions"][-1] == {**failure, "lastUpdateTime": T0}
    healed = replica_set("web-2", 2, 2)
    after = next_status(deployment(status), LIMITS, healed, [healed], T1)
    assert [c["type"] for c in after["conditions"]] == ["Available", "Progressing"]


@pytest.mark.parametrize(
    ("reason", "deadline", "left"),
    [
        pytest.param("ReplicaSetUpdated", 600, 540.0, id="counts from the last progress"),
        pytest.param("NewReplicaSetAvailable", 600, None, id="complete"),
        pytest.param("ProgressDeadlineExceeded", 600, None, id="over"),
        pytest.param("ReplicaSetUpdated", 2**31 - 1, None, id="no deadline"),
    ],
)
def test_deadline_left(reason: str, deadline: int, left: float | None) -> None:
    one = deployment(progressDeadlineSeconds=deadline)
    assert deadline_left(one, progressing(reason), T1) == left

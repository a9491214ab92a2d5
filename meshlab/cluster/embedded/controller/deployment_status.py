"""What a Deployment's status says: its counts and the conditions Available and Progressing.

Pure, after Kubernetes' deployment controller: the ReplicaSets in, the status out; the time is an
argument (RFC 3339).
"""

from collections.abc import Sequence
from typing import Any

from meshlab.cluster.embedded.controller.replica_choice import seconds
from meshlab.cluster.embedded.controller.rollout import Limits

Object = dict[str, Any]

COMPLETE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
NO_DEADLINE = 2**31 - 1
"""`progressDeadlineSeconds` that switches the Progressing condition off."""


def condition_of(status: Object, kind: str) -> Object | None:
    return next((c for c in status.get("conditions") or () if c["type"] == kind), None)


def set_condition(
    conditions: list[Object], kind: str, status: str, reason: str, message: str, now: str
) -> list[Object]:
    """Return the conditions with this one; its times move only with what they tell of."""
    old = next((c for c in conditions if c["type"] == kind), None)
    if old and (old["status"], old["reason"]) == (status, reason):
        return conditions
    new = {
        "type": kind,
        "status": status,
        "lastUpdateTime": now,
        "lastTransitionTime": old["lastTransitionTime"] if old and old["status"] == status else now,
        "reason": reason,
        "message": message,
    }
    return [*(c for c in conditions if c["type"] != kind), new]


def counts(new: Object | None, all_sets: Sequence[Object]) -> Object:
    """Return the numbers of a Deployment's status; a zero is left out, as Kubernetes prints it."""
    wanted = sum(s["spec"].get("replicas", 0) for s in all_sets)
    available = _total(all_sets, "availableReplicas")
    numbers = {
        "replicas": _total(all_sets, "replicas"),
        "updatedReplicas": _total([new] if new else [], "replicas"),
        "readyReplicas": _total(all_sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted - available),
    }
    return {name: number for name, number in numbers.items() if number}


def _total(sets: Sequence[Object], field: str) -> int:
    return sum(s.get("status", {}).get(field, 0) for s in sets)


def is_complete(deployment: Object, status: Object) -> bool:
    """Every wished pod is of the new revision and available, and none is left of an old one."""
    wanted = deployment["spec"]["replicas"]
    return all(
        status.get(field, 0) == wanted
        for field in ("updatedReplicas", "replicas", "availableReplicas")
    )


def is_progressing(old: Object, new: Object) -> bool:
    """Since the last status: more of the new revision, fewer of the old, or more of them useful."""

    def outdated(status: Object) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    grew = any(
        new.get(field, 0) > old.get(field, 0)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return grew or outdated(new) < outdated(old)


def deadline_left(deployment: Object, status: Object, now: str) -> float | None:
    """Return the seconds until this rollout counts as stuck; None: nothing to wait for."""
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    progressing = condition_of(status, "Progressing")
    if (
        deadline == NO_DEADLINE
        or progressing is None
        or progressing["reason"] in (COMPLETE, TIMED_OUT, "DeploymentPaused")
    ):
        return None
    return float(seconds(progressing["lastUpdateTime"]) + deadline - seconds(now))


def next_status(
    deployment: Object,
    limits: Limits,
    new: Object | None,
    all_sets: Sequence[Object],
    now: str,
    *,
    created: bool = False,
) -> Object:
    """Return the status that follows from the ReplicaSets as they are.

    Args:
        deployment: with its present status.
        limits: what its strategy allows.
        new: the ReplicaSet of its present template, if there is one.
        all_sets: all of its ReplicaSets, `new` among them.
        now: RFC 3339.
        created: `new` was made just now.
    """
    old = deployment.get("status") or {}
    status = {"observedGeneration": deployment["metadata"]["generation"], **counts(new, all_sets)}
    if old.get("collisionCount"):
        status["collisionCount"] = old["collisionCount"]
    conditions = [c for c in old.get("conditions") or () if c["type"] != "ReplicaFailure"]
    conditions = _available(conditions, limits, status, now)
    conditions = _progressing(conditions, deployment, status, new, now, created=created)
    failures = (condition_of(s.get("status", {}), "ReplicaFailure") for s in all_sets)
    failure = next((f for f in failures if f), None)
    if failure:
        failure = {**failure, "lastUpdateTime": failure["lastTransitionTime"]}
        conditions = [*conditions, failure]
    return {**status, "conditions": conditions}


def _available(conditions: list[Object], limits: Limits, status: Object, now: str) -> list[Object]:
    if status.get("availableReplicas", 0) >= limits.min_available:
        return set_condition(
            conditions,
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            now,
        )
    return set_condition(
        conditions,
        "Available",
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
        now,
    )


def _progressing(
    conditions: list[Object],
    deployment: Object,
    status: Object,
    new: Object | None,
    now: str,
    *,
    created: bool,
) -> list[Object]:
    spec = deployment["spec"]
    if spec.get("progressDeadlineSeconds", 600) == NO_DEADLINE:
        return [c for c in conditions if c["type"] != "Progressing"]
    current = next((c for c in conditions if c["type"] == "Progressing"), None)
    reason = current["reason"] if current else ""
    old = deployment.get("status") or {}
    name = f'ReplicaSet "{new["metadata"]["name"]}"' if new else "Deployment"

    def told(value: str, why: str, message: str) -> list[Object]:
        return set_condition(conditions, "Progressing", value, why, message, now)

    if spec.get("paused"):
        if reason == TIMED_OUT:
            return conditions
        return told("Unknown", "DeploymentPaused", "Deployment is paused")
    if reason == "DeploymentPaused":
        return told("Unknown", "DeploymentResumed", "Deployment is resumed")
    if created and new:
        message = f'Created new replica set "{new["metadata"]["name"]}"'
        return told("True", "NewReplicaSetCreated", message)
    if reason == COMPLETE and status.get("replicas", 0) == status.get("updatedReplicas", 0):
        return conditions
    if is_complete(deployment, status):
        return told("True", COMPLETE, f"{name} has successfully progressed.")
    if is_progressing(old, status):
        # Told anew each time: its lastUpdateTime is what the deadline counts from.
        kept = current["lastTransitionTime"] if current and current["status"] == "True" else now
        fresh = {
            "type": "Progressing",
            "status": "True",
            "lastUpdateTime": now,
            "lastTransitionTime": kept,
            "reason": "ReplicaSetUpdated",
            "message": f"{name} is progressing.",
        }
        return [*(c for c in conditions if c["type"] != "Progressing"), fresh]
    left = deadline_left(deployment, {"conditions": conditions}, now)
    if left is not None and left <= 0:
        return told("False", TIMED_OUT, f"{name} has timed out progressing.")
    if current is None and new:
        message = f'Found new replica set "{new["metadata"]["name"]}"'
        return told("True", "FoundNewReplicaSet", message)
    return conditions

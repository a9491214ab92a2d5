"""Which pods a ReplicaSet makes or lets go, and what its status says of the rest.

Pure, after Kubernetes' replica set controller; times are seconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Object = dict[str, Any]

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def seconds(timestamp: str) -> float:
    """Return an RFC 3339 time as seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()


def is_active(pod: Object) -> bool:
    """Say whether a pod counts: neither finished nor being deleted."""
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def ready_since(pod: Object) -> float | None:
    """Return when the pod became ready; None: it is not."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return seconds(condition.get("lastTransitionTime") or "1970-01-01T00:00:00Z")
    return None


def choose_to_delete(pods: Sequence[Object], count: int) -> list[Object]:
    """Return the pods that are missed least.

    In this order: not on a node, not running, not ready, cheap by annotation
    `pod-deletion-cost`, ready for a shorter time, restarted more often, younger.
    """
    return sorted(pods, key=_worth)[:count]


def _worth(pod: Object) -> tuple[float, ...]:
    status = pod.get("status", {})
    since = ready_since(pod)
    restarts = sum(c.get("restartCount", 0) for c in status.get("containerStatuses") or ())
    cost = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0")
    return (
        1 if pod["spec"].get("nodeName") else 0,
        PHASES.get(status.get("phase", "Pending"), 1),
        0 if since is None else 1,
        int(cost) if cost.removeprefix("-").isdigit() else 0,
        -(since or 0),
        -restarts,
        -seconds(pod["metadata"]["creationTimestamp"]),
    )


@dataclass(frozen=True, slots=True)
class Availability:
    """How many of the pods are of use, and when to look again."""

    ready: int
    available: int
    next_in: float | None
    """Seconds until the next pod has been ready for `minReadySeconds`; None: none is waiting."""


def availability(pods: Sequence[Object], min_ready_seconds: float, now: float) -> Availability:
    """Count ready pods, and those ready for `minReadySeconds`."""
    since = [s for pod in pods if (s := ready_since(pod)) is not None]
    waits = [s + min_ready_seconds - now for s in since] if min_ready_seconds else []
    waiting = [wait for wait in waits if wait > 0]
    return Availability(
        ready=len(since), available=len(since) - len(waiting), next_in=min(waiting, default=None)
    )


def next_status(
    replica_set: Object, pods: Sequence[Object], found: Availability, failure: Object | None
) -> Object:
    """Return the status for these pods; a zero is left out, but for `replicas`.

    Args:
        replica_set: the object.
        pods: its active ones.
        found: their availability.
        failure: condition ReplicaFailure, where pods could not be made or deleted.
    """
    labels = (replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}
    labelled = sum(labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in pods)
    numbers = {
        "fullyLabeledReplicas": labelled,
        "readyReplicas": found.ready,
        "availableReplicas": found.available,
    }
    status = {
        "replicas": len(pods),
        **{name: number for name, number in numbers.items() if number},
        "observedGeneration": replica_set["metadata"]["generation"],
    }
    if failure:
        status["conditions"] = [failure]
    return status

"""What a pod or a Deployment is doing, in kubectl's words. Pure: objects in, words out."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from meshlab.observe.certificate import duration
from meshlab.observe.table import Table

Object = Mapping[str, Any]

SIDECAR = "istio-proxy"


def containers(pod: Object) -> list[Object]:
    """Return the containers that run all the time: the pod's own and native sidecars."""
    spec = pod["spec"]
    native = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return [*native, *spec["containers"]]


def has_sidecar(pod: Object) -> bool:
    """Say whether a mesh proxy runs in the pod, beside an app or as a gateway."""
    return any(container["name"] == SIDECAR for container in containers(pod))


def app_container(pod: Object) -> str:
    """Return the first container that is not the mesh's, for logs and exec."""
    names = [c["name"] for c in pod["spec"]["containers"]]
    return str(next((name for name in names if name != SIDECAR), names[0]))


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    names = {container["name"] for container in containers(pod)}
    both = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [s for s in both if s["name"] in names]


def ready_count(pod: Object) -> tuple[int, int]:
    """Return kubectl's READY: how many containers are, of how many."""
    return sum(bool(s.get("ready")) for s in _statuses(pod)), len(containers(pod))


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def state(pod: Object) -> str:
    """Return kubectl's STATUS: the phase, or what keeps a container from running."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for status in (pod.get("status") or {}).get("initContainerStatuses") or ():
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return str(waiting["reason"])
    return str((pod.get("status") or {}).get("phase", "Pending"))


def age(obj: Object, now: datetime) -> str:
    created = datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
    return duration((now - created).total_seconds())


def pods_table(pods: Sequence[Object], now: datetime, note: str = "") -> Table:
    """Return pods as `kubectl get pods -o wide` does."""
    rows = []
    for pod in pods:
        ready, wanted = ready_count(pod)
        restarts = sum(s.get("restartCount", 0) for s in _statuses(pod))
        ip = (pod.get("status") or {}).get("podIP", "<none>")
        rows.append(
            [
                pod["metadata"]["name"],
                f"{ready}/{wanted}",
                state(pod),
                restarts,
                age(pod, now),
                ip,
            ]
        )
    return Table(["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"], rows, note=note)


def missing_of(deployment: Object) -> str:
    """Return what a Deployment's rollout still lacks, as `kubectl rollout status`; "": done."""
    name = deployment["metadata"]["name"]
    wanted = deployment["spec"].get("replicas", 1)
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return f"deployment {name}: not looked at yet"
    updated = status.get("updatedReplicas", 0)
    if updated < wanted:
        return f"deployment {name}: {updated} of {wanted} new pods made"
    old = status.get("replicas", 0) - updated
    if old > 0:
        return f"deployment {name}: {old} old pods left"
    available = status.get("availableReplicas", 0)
    if available < wanted:
        return f"deployment {name}: {available} of {wanted} pods ready"
    return ""

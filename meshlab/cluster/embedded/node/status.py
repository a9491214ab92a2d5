"""A pod's `status` as kubelet writes it, made from what the worker knows. Pure."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.network.ipam import NODE_ADDRESS
from meshlab.cluster.embedded.node.pod import (
    BACKOFF_MAX,
    Container,
    Kind,
    Terminated,
    incomplete,
    initialized,
    phase,
    unready,
)

Object = dict[str, Any]


def rfc3339(seconds: float) -> str:
    """Return a time as the Kubernetes API writes it: UTC, whole seconds."""
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a status needs beside the containers' states."""

    now: float
    address: str
    """The pod's; "" before it has one."""
    sandbox: bool
    """It has its network namespace."""
    started: float
    """When the node took the pod on."""


def pod_status(pod: Object, containers: Sequence[Container], facts: Facts) -> Object:
    """Return the whole status; times of unchanged conditions are those of `pod`."""
    old = pod.get("status") or {}
    status: Object = {
        "phase": phase(containers),
        "conditions": conditions(old.get("conditions") or [], pod, containers, facts),
        "hostIP": NODE_ADDRESS,
        "hostIPs": [{"ip": NODE_ADDRESS}],
        "startTime": old.get("startTime") or rfc3339(facts.started),
        "qosClass": old.get("qosClass") or qos_class(pod),
        "containerStatuses": statuses(pod["spec"]["containers"], containers, pod),
    }
    if pod["spec"].get("initContainers"):
        status["initContainerStatuses"] = statuses(pod["spec"]["initContainers"], containers, pod)
    if facts.address:
        status |= {"podIP": facts.address, "podIPs": [{"ip": facts.address}]}
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    return status


def statuses(specs: Iterable[Object], containers: Iterable[Container], pod: Object) -> list[Object]:
    known = {container.name: container for container in containers}
    return [container_status(spec, known[spec["name"]], pod) for spec in specs]


def container_status(spec: Object, c: Container, pod: Object) -> Object:
    status: Object = {
        "name": c.name,
        "state": state(c, pod),
        "lastState": {"terminated": terminated(c.previous)} if c.previous else {},
        "ready": c.succeeded if c.kind is Kind.INIT else c.ready,
        "restartCount": c.restarts,
        "image": spec["image"],
        "imageID": f"meshlab://{spec['image']}" if c.ever else "",
        "started": c.running and c.started,
    }
    if c.ever:
        status["containerID"] = f"meshlab://{pod['metadata']['uid']}/{c.name}/{c.restarts}"
    if not c.running and c.waiting and c.ended:
        status["lastState"] = {"terminated": terminated(c.ended)}
    return status


def state(c: Container, pod: Object) -> Object:
    if c.running_since is not None:
        return {"running": {"startedAt": rfc3339(c.running_since)}}
    if c.waiting:
        entry = {"reason": c.waiting}
        if c.waiting_message:
            entry["message"] = c.waiting_message
        return {"waiting": entry}
    if c.ended:
        return {"terminated": terminated(c.ended)}
    has_init = bool(pod["spec"].get("initContainers"))
    return {"waiting": {"reason": "PodInitializing" if has_init else "ContainerCreating"}}


def terminated(end: Terminated) -> Object:
    entry: Object = {
        "exitCode": end.code,
        "reason": end.reason,
        "startedAt": rfc3339(end.started) if end.started else None,
        "finishedAt": rfc3339(end.finished) if end.finished else None,
        "message": end.message,
    }
    if end.code > 128 and end.reason == "Error":
        entry["signal"] = end.code - 128
    return {key: value for key, value in entry.items() if value not in {None, ""}}


def crash_loop(c: Container, pod: Object, seconds: float) -> str:
    """Return kubelet's message while a container waits for its next run."""
    metadata = pod["metadata"]
    span = "5m0s" if seconds >= BACKOFF_MAX else go_duration(seconds)
    return (
        f"back-off {span} restarting failed container={c.name} "
        f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
    )


def go_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def conditions(
    old: list[Object], pod: Object, containers: Sequence[Container], facts: Facts
) -> list[Object]:
    """Return all conditions; the time of one that keeps its status is its old one."""
    times = {entry["type"]: entry for entry in old}
    done = phase(containers) in {"Succeeded", "Failed"}
    missing, waiting = incomplete(containers), unready(containers)
    contained = not waiting and not done
    uninitialized = f"containers with incomplete status: {go_list(missing)}"
    unready_why = ("ContainersNotReady", f"containers with unready status: {go_list(waiting)}")
    if done:
        unready_why = ("PodCompleted", "")
    closed = closed_gate(pod, times)
    not_ready = ("ReadinessGatesNotReady", closed) if contained else unready_why
    wanted = {
        "PodReadyToStartContainers": (facts.sandbox and not done, ("", "")),
        "Initialized": (initialized(containers), ("ContainersNotInitialized", uninitialized)),
        "Ready": (contained and not closed, not_ready),
        "ContainersReady": (contained, unready_why),
        "PodScheduled": (True, ("", "")),
    }
    entries = [
        condition(kind, holds, why, times.get(kind), facts.now)
        for kind, (holds, why) in wanted.items()
    ]
    return entries + [entry for entry in old if entry["type"] not in wanted]


def closed_gate(pod: Object, conditions: Mapping[str, Object]) -> str:
    """Return what to say of the first readiness gate that is not open, "" when all are."""
    for gate in pod["spec"].get("readinessGates") or []:
        kind = gate["conditionType"]
        if conditions.get(kind, {}).get("status") != "True":
            return f'the status of pod readiness gate "{kind}" is not "True"'
    return ""


def condition(
    kind: str, holds: bool, why: tuple[str, str], old: Object | None, now: float
) -> Object:
    value = "True" if holds else "False"
    entry: Object = {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(now),
    }
    if old is not None and old.get("status") == value:
        entry["lastTransitionTime"] = old["lastTransitionTime"]
    if not holds:
        entry |= {key: text for key, text in zip(("reason", "message"), why, strict=True) if text}
    return entry


def go_list(names: Iterable[str]) -> str:
    return f"[{' '.join(names)}]"


def qos_class(pod: Object) -> str:
    """Return `Guaranteed`, `Burstable` or `BestEffort` by requests and limits of CPU and memory."""
    specs = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    resources = [spec.get("resources") or {} for spec in specs]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    equal = all(limits_are_requests(r) for r in resources)
    return "Guaranteed" if equal else "Burstable"


def limits_are_requests(resources: Object) -> bool:
    limits = resources.get("limits") or {}
    requests = {**limits, **(resources.get("requests") or {})}
    return all(name in limits and limits[name] == requests[name] for name in ("cpu", "memory"))

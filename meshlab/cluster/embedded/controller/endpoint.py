"""The EndpointSlices a Service should have: which pods, in what condition, on which ports.

Pure, after Kubernetes' endpoint slice controller: pods of one Service whose named target port
differs (8080 in the old version, 9090 in the new) go to slices of their own.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from meshlab.cluster.embedded.controller.revision import owner_reference

Object = dict[str, Any]

MAX_ENDPOINTS = 100
"""Endpoints in one slice (Kubernetes' default)."""
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"


def sends_to(service: Object, labels: Mapping[str, str] | None) -> bool:
    """Say whether the Service sends traffic to pods with these labels; without selector to none."""
    selector: Mapping[str, str] | None = service["spec"].get("selector")
    return bool(selector) and (selector or {}).items() <= (labels or {}).items()


def wanted_slices(service: Object, pods: Sequence[Object]) -> list[Object]:
    """Return the slices (labels, ports, endpoints; no names) for the pods that it selects."""
    groups: dict[str, tuple[list[Object], list[Object]]] = {}
    for pod in sorted(pods, key=_age):
        if not has_endpoint(pod):
            continue
        ports = ports_of(service, pod)
        group = groups.setdefault(json.dumps(ports), (ports, []))
        group[1].append(endpoint(service, pod))
    if not groups:
        groups = {"": ([], [])}
    return [
        _slice(service, ports, endpoints[start : start + MAX_ENDPOINTS])
        for ports, endpoints in groups.values()
        for start in range(0, max(1, len(endpoints)), MAX_ENDPOINTS)
    ]


def _age(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]


def has_endpoint(pod: Object) -> bool:
    """Say whether a pod has an address that may be talked to; a finished one has none."""
    status = pod.get("status", {})
    return bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Object) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod.get("status", {}).get("conditions") or ()
    )


def endpoint(service: Object, pod: Object) -> Object:
    """Return the endpoint of a pod with its three conditions.

    A terminating pod is not `ready` (no new connections) but `serving` while its probe still
    passes; `publishNotReadyAddresses` makes every pod `ready`.
    """
    metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
    serving = is_ready(pod)
    terminating = bool(metadata.get("deletionTimestamp"))
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    result: Object = {
        "addresses": [status["podIP"]],
        "conditions": {
            "ready": always or (serving and not terminating),
            "serving": serving or always,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }
    if spec.get("nodeName"):
        result["nodeName"] = spec["nodeName"]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        result["hostname"] = spec["hostname"]
    return result


def ports_of(service: Object, pod: Object) -> list[Object]:
    """Return the Service's ports as they are in this pod; a name that it lacks leaves one out."""
    result = []
    for port in service["spec"].get("ports") or ():
        number = target_number(port, pod)
        if number is None:
            continue
        found = {"name": port.get("name", ""), "port": number, "protocol": _protocol(port)}
        if port.get("appProtocol"):
            found["appProtocol"] = port["appProtocol"]
        result.append(found)
    return result


def target_number(port: Object, pod: Object) -> int | None:
    """Return the port number behind a Service port; None: the pod has no port of that name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    containers = [*pod["spec"]["containers"], *sidecars(pod)]
    for container in containers:
        for candidate in container.get("ports") or ():
            if candidate.get("name") == target and _protocol(candidate) == _protocol(port):
                return int(candidate["containerPort"])
    return None


def sidecars(pod: Object) -> list[Object]:
    """Return the native sidecars: init containers that stay."""
    init = pod["spec"].get("initContainers") or ()
    return [container for container in init if container.get("restartPolicy") == "Always"]


def _protocol(port: Object) -> str:
    return str(port.get("protocol") or "TCP")


def _slice(service: Object, ports: list[Object], endpoints: list[Object]) -> Object:
    metadata = service["metadata"]
    labels = {
        **(metadata.get("labels") or {}),
        SERVICE_NAME: metadata["name"],
        MANAGED_BY: CONTROLLER,
    }
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return {
        "metadata": {
            "labels": labels,
            "namespace": metadata["namespace"],
            "ownerReferences": [owner_reference(service, "v1", "Service")],
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }


def pair(
    wanted: Sequence[Object], present: Sequence[Object]
) -> tuple[list[Object], list[tuple[Object, Object]], list[Object]]:
    """Match wished slices to those there: (to create, to change as (present, wished), to delete).

    One that is right already is in none of them. Slices are kept where their ports agree, so that
    who follows one sees its endpoints change rather than a slice come and go.
    """
    left = list(present)
    create: list[Object] = []
    change: list[tuple[Object, Object]] = []
    unmatched: list[Object] = []
    for wish in wanted:
        same = next((s for s in left if (s.get("ports") or []) == wish["ports"]), None)
        if same is None:
            unmatched.append(wish)
            continue
        left.remove(same)
        if _differs(same, wish):
            change.append((same, wish))
    for wish in unmatched:
        if left:
            change.append((left.pop(0), wish))
        else:
            create.append(wish)
    return create, change, left


def _differs(present: Object, wish: Object) -> bool:
    return bool(
        (present.get("endpoints") or []) != wish["endpoints"]
        or (present.get("ports") or []) != wish["ports"]
        or present["metadata"].get("labels") != wish["metadata"]["labels"]
    )

"""Pods as workloads: address, labels, whose they are, whether they have a sidecar."""

from collections.abc import Mapping
from typing import Literal

from meshlab.control.registry.api import Json
from meshlab.control.snapshot import Workload

TLS_MODE = "security.istio.io/tlsMode"
_OVER = frozenset({"Succeeded", "Failed"})


def workload(obj: Json, localities: Mapping[str, str]) -> Workload | None:
    """Read a Pod; None while it has no address of its own, or has no more.

    `localities`: node name → `region/zone/subzone`. Pods in the host's network share the node's
    address, so they are nobody's in particular.
    """
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    ip = status.get("podIP") or ""
    if not ip or status.get("phase") in _OVER or spec.get("hostNetwork"):
        return None
    node = spec.get("nodeName") or ""
    labels = dict(meta.get("labels") or {})
    return Workload(
        name=meta["name"],
        namespace=meta["namespace"],
        ip=ip,
        labels=labels,
        annotations=dict(meta.get("annotations") or {}),
        service_account=spec.get("serviceAccountName") or "default",
        workload=owner_name(meta),
        node=node,
        locality=localities.get(node, ""),
        container_ports=_named_ports(spec),
        tls_mode=_tls_mode(labels),
    )


def owner_name(meta: Json) -> str:
    """Return the workload's name: the Deployment's, not its ReplicaSet's, not the pod's."""
    for owner in meta.get("ownerReferences") or ():
        if not owner.get("controller"):
            continue
        name: str = owner["name"]
        template_hash = (meta.get("labels") or {}).get("pod-template-hash")
        if owner.get("kind") == "ReplicaSet" and template_hash:
            return name.removesuffix(f"-{template_hash}")
        return name
    own: str = meta.get("name") or meta.get("generateName", "").rstrip("-")
    return own


def locality(node: Json) -> str:
    """Return a node's `region/zone/subzone`; "" when it has no labels for it."""
    labels = node["metadata"].get("labels") or {}
    parts = [
        labels.get("topology.kubernetes.io/region", ""),
        labels.get("topology.kubernetes.io/zone", ""),
        labels.get("topology.istio.io/subzone", ""),
    ]
    return "/".join(parts).rstrip("/")


def _tls_mode(labels: Mapping[str, str]) -> Literal["istio", "disabled"]:
    return "istio" if labels.get(TLS_MODE) == "istio" else "disabled"


def _named_ports(spec: Json) -> dict[str, int]:
    # A native sidecar stands among the init containers and may own a named port, too.
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return {
        port["name"]: port["containerPort"]
        for container in containers
        for port in container.get("ports") or ()
        if port.get("name")
    }

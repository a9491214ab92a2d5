"""A lesson's start state from whatever the last one, or a learner, left behind.

Only the lessons' own namespaces are touched. What is there and wanted stays as it is, so that going
back to a start takes seconds; what is removed is said.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshlab import manifest, workload
from meshlab.lab.lesson.base import MANIFESTS, NAMESPACES, Lesson
from meshlab.mesh import INJECTION, Mesh
from meshlab.observe.table import Table
from meshlab.wait import until

Object = dict[str, Any]
Say = Callable[[str], None]

MESH_KINDS = {
    "VirtualService": "virtualservices.networking.istio.io",
    "Gateway": "gateways.networking.istio.io",
    "DestinationRule": "destinationrules.networking.istio.io",
    "PeerAuthentication": "peerauthentications.security.istio.io",
}
KINDS = {"Deployment": "deployments.apps", "Service": "services", "Pod": "pods"}
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StartState:
    """What was done to get there; shows itself."""

    lesson: str
    removed: Sequence[str]
    applied: Sequence[str]
    seconds: float

    def text(self) -> str:
        removed = ", ".join(self.removed) or "nothing"
        applied = ", ".join(self.applied) or "nothing, all was there"
        return (
            f"start of lab {self.lesson} in {self.seconds:.1f} s\n"
            f"  removed: {removed}\n  made or changed: {applied}"
        )

    def __repr__(self) -> str:
        return self.text()

    def table(self) -> Table:
        rows = [["removed", name] for name in self.removed]
        rows += [["made or changed", name] for name in self.applied]
        return Table(["did", "object"], rows or [["nothing", "all was there"]])


def wanted(lesson: Lesson) -> list[Object]:
    """Return the objects of the start state, in order."""
    return [obj for name in lesson.start for obj in manifest.read(MANIFESTS / name)]


def key(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Return kind and name."""
    return str(obj["kind"]), str(obj["metadata"]["name"])


def superfluous(present: Iterable[Object], keep: Iterable[Object]) -> list[Object]:
    """Return what is there, not wanted, and nobody else's: owned objects go with their owners."""
    names = {key(obj) for obj in keep}
    return [
        obj
        for obj in present
        if key(obj) not in names
        and not obj["metadata"].get("ownerReferences")
        and not obj["metadata"].get("deletionTimestamp")
    ]


def build(mesh: Mesh, lesson: Lesson, *, say: Say) -> StartState:
    """Bring the cluster into the lesson's start state and wait until it is ready.

    Raises:
        ClusterError: something did not become ready; says what.
    """
    began = time.monotonic()
    objects = wanted(lesson)
    say("looking at what is there")
    removed = _remove_namespaces(mesh, lesson)
    if lesson.namespace:
        removed += _remove_objects(mesh, lesson.namespace, objects)
    say("applying the start state")
    applied = _apply(mesh, objects)
    if lesson.namespace:
        applied += _right_sidecars(mesh, lesson)
        mesh.namespace(lesson.namespace).wait(timeout=READY_SECONDS)
        _settled(mesh, lesson.namespace)
    return StartState(lesson.number, removed, applied, time.monotonic() - began)


def _remove_namespaces(mesh: Mesh, lesson: Lesson) -> list[str]:
    """Ask for the end of the other lessons' namespaces; nobody waits for it."""
    removed = []
    for name in NAMESPACES:
        if name == lesson.namespace:
            continue
        found = mesh.kube.get("namespaces", name)
        if found and not found["metadata"].get("deletionTimestamp"):
            mesh.kube.delete("namespaces", name)
            removed.append(f"namespace/{name}")
    return removed


def _remove_objects(mesh: Mesh, namespace: str, objects: Sequence[Object]) -> list[str]:
    found = mesh.kube.get("namespaces", namespace)
    if found is None:
        return []
    if found["metadata"].get("deletionTimestamp"):
        until(
            lambda: f"namespace {namespace}" if mesh.kube.get("namespaces", namespace) else "",
            what=f"the old namespace {namespace} is gone",
            timeout=READY_SECONDS,
        )
        return []
    removed = []
    for kind, resource in _resources(mesh).items():
        present = [obj | {"kind": kind} for obj in mesh.kube.list(resource, namespace)]
        for obj in superfluous(present, objects):
            mesh.kube.delete(resource, obj["metadata"]["name"], namespace)
            removed.append(f"{kind.lower()}/{obj['metadata']['name']}")
    return removed + _remove_label(mesh, found, objects)


def _resources(mesh: Mesh) -> dict[str, str]:
    return {**(MESH_KINDS if mesh.has_control_plane() else {}), **KINDS}


def _remove_label(mesh: Mesh, namespace: Object, objects: Sequence[Object]) -> list[str]:
    """Take the injection label off a namespace that starts without.

    Apply would leave it: it removes only what it once set.
    """
    name = namespace["metadata"]["name"]
    labels = namespace["metadata"].get("labels") or {}
    plain = next((obj for obj in objects if key(obj) == ("Namespace", name)), None)
    keeps = plain is not None and INJECTION in (plain["metadata"].get("labels") or {})
    if INJECTION not in labels or keeps:
        return []
    mesh.kube.patch("namespaces", name, {"metadata": {"labels": {INJECTION: None}}})
    return [f"label {INJECTION} of namespace/{name}"]


def _apply(mesh: Mesh, objects: Sequence[Object]) -> list[str]:
    changes = mesh.apply(objects).changes if objects else ()
    return [change.reference for change in changes if change.verb != "unchanged"]


def _right_sidecars(mesh: Mesh, lesson: Lesson) -> list[str]:
    """Delete pods that have a sidecar where there should be none, or none where there should be."""
    wrong = [
        pod
        for pod in mesh.kube.list("pods", lesson.namespace)
        if workload.has_sidecar(pod) != lesson.sidecars
        and not pod["metadata"].get("deletionTimestamp")
    ]
    for pod in wrong:
        mesh.kube.delete("pods", pod["metadata"]["name"], lesson.namespace)
    return [f"pod/{pod['metadata']['name']} (made again)" for pod in wrong]


def _settled(mesh: Mesh, namespace: str) -> None:
    """Wait until pods that were deleted are gone: they answer as long as they are not."""

    def leaving() -> str:
        pods = mesh.kube.list("pods", namespace)
        return ", ".join(
            f"pod {pod['metadata']['name']}"
            for pod in pods
            if pod["metadata"].get("deletionTimestamp")
        )

    until(leaving, what=f"old pods of {namespace} are gone", timeout=READY_SECONDS)

"""A Deployment's ReplicaSets as its revisions: names, hashes, numbers, annotations, what to keep.

What `kubectl rollout history|undo` reads: annotation `deployment.kubernetes.io/revision`, a
ReplicaSet per pod template, told apart by the label `pod-template-hash`.
"""

import json
from collections.abc import Sequence
from typing import Any

from meshlab.cluster.embedded.controller.rollout import Limits, Revision

Object = dict[str, Any]

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
}
"""Annotations of a Deployment that its ReplicaSets do not get."""
SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' letters for generated names: no vowels, so no words."""


def template_hash(template: Object, collision_count: int) -> str:
    """Return the name's last part: FNV-1a over the template, in letters that form no words."""
    data = json.dumps(template, sort_keys=True, separators=(",", ":")).encode()
    if collision_count:
        data += str(collision_count).encode()
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "".join(SAFE_ALPHABET[ord(c) % len(SAFE_ALPHABET)] for c in str(value))


def same_template(one: Object, other: Object) -> bool:
    """Compare two pod templates; the hash label is ours and does not count."""
    return _bare(one) == _bare(other)


def _bare(template: Object) -> Object:
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v}
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def revision_of(replica_set: Object) -> int:
    text = (replica_set["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def find_new(deployment: Object, sets: Sequence[Object]) -> Object | None:
    """Return the ReplicaSet of the present template; the oldest, should there be two."""
    template = deployment["spec"]["template"]
    same = [s for s in sets if same_template(s["spec"]["template"], template)]
    return min(same, key=_created, default=None)


def _created(replica_set: Object) -> tuple[str, str]:
    metadata = replica_set["metadata"]
    return metadata["creationTimestamp"], metadata["name"]


def view(replica_set: Object) -> Revision:
    """Return what `rollout` needs to know of a ReplicaSet."""
    metadata = replica_set["metadata"]
    maximum = (metadata.get("annotations") or {}).get(MAXIMUM, "")
    return Revision(
        name=metadata["name"],
        replicas=replica_set["spec"].get("replicas", 0),
        available=replica_set.get("status", {}).get("availableReplicas", 0),
        max_replicas=int(maximum) if maximum.isdigit() else 0,
        created=metadata["creationTimestamp"],
    )


def scaled_since(deployment: Object, sets: Sequence[Object]) -> bool:
    """Say whether `spec.replicas` changed since the active ReplicaSets were last scaled."""
    wanted = str(deployment["spec"]["replicas"])
    return any(
        (s["metadata"].get("annotations") or {}).get(DESIRED, wanted) != wanted
        for s in sets
        if s["spec"].get("replicas", 0) > 0
    )


def size_annotations(limits: Limits) -> dict[str, str]:
    """Return what a ReplicaSet remembers of the Deployment's size at its last scaling."""
    return {DESIRED: str(limits.replicas), MAXIMUM: str(limits.max_total)}


def revision_annotations(deployment: Object, new: Object | None, number: int) -> dict[str, str]:
    """Return the annotations of the new ReplicaSet that follow from the Deployment's.

    A revision that comes back (undo) gets the next number and remembers those it had.
    """
    given = deployment["metadata"].get("annotations") or {}
    copied = {key: value for key, value in given.items() if key not in NOT_COPIED}
    if new is None:
        return {**copied, REVISION: str(number)}
    before = new["metadata"].get("annotations") or {}
    had = revision_of(new)
    if had >= number:
        return {**copied, REVISION: str(had)}
    if not had:
        return {**copied, REVISION: str(number)}
    history = [*filter(None, before.get(HISTORY, "").split(",")), str(had)]
    return {**copied, REVISION: str(number), HISTORY: ",".join(history)}


def replica_set_for(
    deployment: Object, limits: Limits, size: int, annotations: dict[str, str]
) -> Object:
    """Return the ReplicaSet of the Deployment's present template."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    collisions = (deployment.get("status") or {}).get("collisionCount", 0)
    digest = template_hash(spec["template"], collisions)
    template = spec["template"]
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH: digest}
    selector = spec["selector"]
    result = {
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {**annotations, **size_annotations(limits)},
            "ownerReferences": [owner_reference(deployment, "apps/v1", "Deployment")],
        },
        "spec": {
            "replicas": size,
            "selector": {
                **selector,
                "matchLabels": {**(selector.get("matchLabels") or {}), HASH: digest},
            },
            "template": {
                **template,
                "metadata": {**template.get("metadata", {}), "labels": labels},
            },
        },
    }
    if spec.get("minReadySeconds"):
        result["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return result


def owner_reference(owner: Object, api_version: str, kind: str) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def surplus(deployment: Object, old: Sequence[Object]) -> list[Object]:
    """Return the old ReplicaSets beyond `revisionHistoryLimit` that hold no pods, oldest first."""
    limit = deployment["spec"].get("revisionHistoryLimit", 10)
    idle = [
        s
        for s in sorted(old, key=revision_of)
        if not s["metadata"].get("deletionTimestamp")
        and not s["spec"].get("replicas", 0)
        and not s.get("status", {}).get("replicas", 0)
        and s.get("status", {}).get("observedGeneration", 0) >= s["metadata"]["generation"]
    ]
    return idle[: max(0, len(old) - limit)]

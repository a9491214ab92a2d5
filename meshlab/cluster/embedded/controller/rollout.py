"""How many pods each revision of a Deployment may have now (Kubernetes' deployment controller).

Pure numbers: the next step of a rolling update, of a scale in the middle of one, and what
`maxSurge` and `maxUnavailable` allow. `deployment.py` does what is decided here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a decision needs to know of a ReplicaSet."""

    name: str
    replicas: int = 0
    """`spec.replicas`."""
    available: int = 0
    """`status.availableReplicas`."""
    max_replicas: int = 0
    """Annotation `deployment.kubernetes.io/max-replicas` of its last scaling; 0: none."""
    created: str = ""
    """RFC 3339, orders revisions of one size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`spec.replicas` and how far a rolling update may leave it, as pods."""

    replicas: int
    max_surge: int = 0
    max_unavailable: int = 0

    @property
    def min_available(self) -> int:
        return self.replicas - self.max_unavailable

    @property
    def max_total(self) -> int:
        return self.replicas + self.max_surge


def resolve_limits(replicas: int, max_surge: int | str, max_unavailable: int | str) -> Limits:
    """Turn pods or percents ("25%") into pods: surge rounds up, unavailable down.

    Where both come to nothing, one pod may be unavailable, else nothing could ever move.
    """
    surge = _pods(max_surge, replicas, math.ceil)
    unavailable = _pods(max_unavailable, replicas, math.floor)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Limits(replicas=replicas, max_surge=surge, max_unavailable=min(unavailable, replicas))


def _pods(value: int | str, replicas: int, rounded: Callable[[float], int]) -> int:
    if isinstance(value, int):
        return value
    return rounded(int(value.removesuffix("%")) * replicas / 100)


def new_revision_size(limits: Limits, new: Revision, old: Sequence[Revision]) -> int:
    """Return how many pods the new revision may have now, within `maxSurge`."""
    if new.replicas >= limits.replicas:
        return limits.replicas
    room = limits.max_total - new.replicas - sum(r.replicas for r in old)
    return new.replicas + max(0, min(room, limits.replicas - new.replicas))


def rolling_update(limits: Limits, new: Revision, old: Sequence[Revision]) -> dict[str, int]:
    """Return the next step: sizes to set by name; empty: wait, or done.

    Up first, then down, and never both in one step: what goes down is worked out from pods that
    are really available, which after a step up is known only when the new pods report.
    """
    size = new_revision_size(limits, new, old)
    if size != new.replicas:
        return {new.name: size}
    return _scale_down_old(limits, new, sorted(old, key=lambda r: r.created))


def _scale_down_old(limits: Limits, new: Revision, old: Sequence[Revision]) -> dict[str, int]:
    total = new.replicas + sum(r.replicas for r in old)
    may_go = total - limits.min_available - (new.replicas - new.available)
    sizes: dict[str, int] = {}
    if may_go <= 0:
        return sizes
    # Pods that do not work yet anyway go first: nobody misses them, and were they kept, a broken
    # revision would hold the places that its successor needs.
    for revision in old:
        broken = min(may_go, revision.replicas - revision.available)
        if broken > 0:
            sizes[revision.name] = revision.replicas - broken
            may_go -= broken
    spare = new.available + sum(r.available for r in old) - limits.min_available
    for revision in old:
        size = sizes.get(revision.name, revision.replicas)
        working = min(spare, size)
        if working > 0:
            sizes[revision.name] = size - working
            spare -= working
    return sizes


def proportional_scale(
    limits: Limits, revisions: Sequence[Revision], status_replicas: int
) -> dict[str, int]:
    """Spread a change of `spec.replicas` in the middle of a rollout over the active revisions.

    Each gets its share, so that a half-done canary stays half done; the remainder goes to the
    largest (newer first when growing, older first when shrinking).

    Args:
        limits: with the wished replicas.
        revisions: those with `replicas` above zero.
        status_replicas: the Deployment's `status.replicas`, used where a revision has no
            `max_replicas` from an earlier scaling.
    """
    allowed = limits.max_total if limits.replicas > 0 else 0
    to_add = allowed - sum(r.replicas for r in revisions)
    if to_add == 0 or not revisions:
        return {}
    newest_first = sorted(revisions, key=lambda r: r.created, reverse=to_add > 0)
    ordered = sorted(newest_first, key=lambda r: r.replicas, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for revision in ordered:
        share = _fraction(limits, revision, status_replicas)
        share = min(share, to_add - added) if to_add > 0 else max(share, to_add - added)
        sizes[revision.name] = revision.replicas + share
        added += share
    sizes[ordered[0].name] = max(0, sizes[ordered[0].name] + to_add - added)
    return sizes


def _fraction(limits: Limits, revision: Revision, status_replicas: int) -> int:
    if limits.replicas == 0:
        return -revision.replicas
    before = revision.max_replicas or status_replicas or revision.replicas
    return math.floor(revision.replicas * limits.max_total / before + 0.5) - revision.replicas

"""What differs between what a proxy was sent and what it should have."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from meshlab.control.translate.cache import Resource


@dataclass(slots=True)
class Subscription:
    """What a proxy wants of one type, what it was sent, what it said to that."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)
    """Resource name → version the proxy was sent last."""
    kept: dict[str, Resource] = field(default_factory=dict)
    """State of the world only: the resources behind `sent`, to leave some in for a moment."""
    nonce: str = ""
    """Of the last response; "" before there was one."""
    sent_at: float = 0.0
    """Unix seconds."""
    acked_nonce: str = ""
    acked_at: float = 0.0
    error: str = ""
    """The proxy's words when it refused the last response."""

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    @property
    def answered(self) -> bool:
        return self.nonce == self.acked_nonce


@dataclass(frozen=True, slots=True)
class Difference:
    changed: list[Resource]
    removed: list[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def difference(
    subscription: Subscription,
    resources: Mapping[str, Resource],
    *,
    again: Collection[str] = (),
) -> Difference:
    """Return what to send; names in `again` are sent even when they are equal."""
    wanted = resources if subscription.wildcard else _subset(resources, subscription.names)
    sent = subscription.sent
    changed = [
        resource
        for name, resource in wanted.items()
        if sent.get(name) != resource.version or name in again
    ]
    return Difference(changed, sorted(name for name in sent if name not in wanted))


def _subset(resources: Mapping[str, Resource], names: Collection[str]) -> dict[str, Resource]:
    return {name: resources[name] for name in sorted(names) if name in resources}

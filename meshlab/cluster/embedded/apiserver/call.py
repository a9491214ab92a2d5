"""One request as the machinery sees it: who asks for what, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshlab.cluster.embedded.apiserver.resource import Resource, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is asking (`UserInfo`)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


MASTERS = "system:masters"
IN_PROCESS = Caller(name="system:apiserver", groups=(MASTERS, "system:authenticated"))
"""Controllers and node, which live in the server's own process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    resource: Resource
    version: Version
    namespace: str = ""
    """"": a resource of the cluster, or (lists only) all namespaces."""
    name: str = ""
    """"": a collection."""
    subresource: str = ""
    caller: Caller = IN_PROCESS
    dry_run: bool = False
    field_validation: str = "Warn"
    """What happens to unknown fields: Ignore, Warn or Strict."""
    warnings: list[str] = field(default_factory=list)
    """What to tell the caller besides the answer; filled on the way."""

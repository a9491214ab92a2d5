"""PeerAuthentication: whether a workload takes mutual TLS, plain text or both."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MutualTLS:
    """Mutual TLS on inbound connections."""

    mode: Mode = "UNSET"
    """UNSET inherits from the level above; PERMISSIVE when no level says anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSelector:
    """Which workloads of the namespace are meant."""

    match_labels: Mapping[str, str] = field(default_factory=dict)
    """All of them must be there; empty: every workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAuthentication:
    """Inbound mutual TLS of workloads."""

    selector: WorkloadSelector | None = None
    """Missing: the whole namespace; in the root namespace: the whole mesh."""
    mtls: MutualTLS | None = None
    port_level_mtls: Mapping[str, MutualTLS] = field(default_factory=dict)
    """By port of the workload (not of the service); needs a selector."""

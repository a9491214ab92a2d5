"""Which mutual TLS mode a workload's port is in (PeerAuthentication)."""

from collections.abc import Mapping
from typing import Literal

from meshlab.api.istio.peer_authentication import PeerAuthentication
from meshlab.api.object import ConfigObject
from meshlab.control.snapshot import World
from meshlab.control.translate.index import selects

Mode = Literal["DISABLE", "PERMISSIVE", "STRICT"]


def namespace_mode(world: World, namespace: str) -> Mode:
    """Return the mode of the namespace level, else of the mesh level, else PERMISSIVE."""
    for level in (namespace, world.mesh.root_namespace):
        for policy in world.of_kind("PeerAuthentication"):
            if policy.metadata.namespace == level and not _labels(policy):
                # The oldest of a level counts, also when it says UNSET.
                if mode := _mode(policy.spec.mtls.mode if policy.spec.mtls else "UNSET"):
                    return mode
                break
    return "PERMISSIVE"


def workload_mode(
    world: World, namespace: str, labels: Mapping[str, str], port: int | None
) -> Mode:
    """Return the mode of a workload's port; `port` None: of its ports that nobody declares."""
    inherited = namespace_mode(world, namespace)
    policy = _of_workload(world, namespace, labels)
    if policy is None:
        return inherited
    own = _mode(policy.spec.mtls.mode if policy.spec.mtls else "UNSET") or inherited
    level = policy.spec.port_level_mtls.get(str(port))
    return (_mode(level.mode) if level else None) or own


def port_levels(world: World, namespace: str, labels: Mapping[str, str]) -> list[int]:
    """Return the ports of a workload that its policy names, in order."""
    policy = _of_workload(world, namespace, labels)
    named = policy.spec.port_level_mtls if policy else ()
    return sorted(int(port) for port in named if port.isdigit())


def _of_workload(
    world: World, namespace: str, labels: Mapping[str, str]
) -> ConfigObject[PeerAuthentication] | None:
    """Return the oldest policy that selects the workload."""
    for policy in world.of_kind("PeerAuthentication"):
        wanted = _labels(policy)
        if policy.metadata.namespace == namespace and wanted and selects(wanted, labels):
            return policy
    return None


def _labels(policy: ConfigObject[PeerAuthentication]) -> Mapping[str, str]:
    return policy.spec.selector.match_labels if policy.spec.selector else {}


def _mode(mode: str) -> Mode | None:
    """Return the mode; None where it inherits."""
    return mode if mode in ("DISABLE", "PERMISSIVE", "STRICT") else None  # type: ignore[return-value]  # narrowed by the test

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
    for policy in world.of_kind("PeerAuthentication"):
        wanted = _labels(policy)
        if policy.metadata.namespace == namespace and wanted and selects(wanted, labels):
            own = _mode(policy.spec.mtls.mode if policy.spec.mtls else "UNSET") or inherited
            level = policy.spec.port_level_mtls.get(str(port))
            return (_mode(level.mode) if level else None) or own
    return inherited


def _labels(policy: ConfigObject[PeerAuthentication]) -> Mapping[str, str]:
    return policy.spec.selector.match_labels if policy.spec.selector else {}


def _mode(mode: str) -> Mode | None:
    """Return the mode; None where it inherits."""
    return mode if mode in ("DISABLE", "PERMISSIVE", "STRICT") else None  # type: ignore[return-value]  # narrowed by the test

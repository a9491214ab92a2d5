"""What every kind of cluster can do, and what it promises.

A backend makes, stops and removes clusters by name; everything else goes through the Kubernetes
API, by the kubeconfig it names. `up` on a cluster that runs is harmless, `up` after one that was
interrupted repairs it, `down` leaves nothing behind and is harmless where there is nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from meshlab.cluster.phase import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a cluster is."""

    name: str
    state: str
    """`running`, `stopped` (its state is kept), `broken` (see `problems`) or `absent`."""
    server: str = ""
    """URL of its API server; "" while it does not run."""
    kubeconfig: Path | None = None
    problems: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """More to show: process ids, directory, version."""


class Backend(Protocol):
    """A way to have clusters."""

    def up(self, name: str, progress: Progress) -> Status:
        """Make the cluster or start it again; return when its API answers and its node is ready.

        Raises:
            ClusterError: with the phase and what to do.
        """
        ...

    def down(self, name: str, progress: Progress) -> None:
        """Remove the cluster: no process, namespace, rule, mount or file is left."""
        ...

    def stop(self, name: str, progress: Progress) -> None:
        """End all its processes and keep its state for the next `up`."""
        ...

    def status(self, name: str) -> Status:
        """Look at the cluster; never fails for want of one."""
        ...

    def kubeconfig(self, name: str) -> Path:
        """Return the path of its kubeconfig.

        Raises:
            ClusterError: there is no such cluster.
        """
        ...

    def names(self) -> list[str]:
        """Return the clusters there are, running or stopped."""
        ...

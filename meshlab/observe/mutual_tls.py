"""Mutual TLS as the proxies report it: their identities and certificates, and who talks how.

Never from configuration: an edge has a padlock because the destination's proxy counted requests
over mutual TLS, and where nothing was counted it says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshlab.observe.certificate import Certificate, duration
from meshlab.observe.graph import Edge, Workload, matrix
from meshlab.observe.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A pod's sidecar or gateway."""

    pod: str
    namespace: str
    workload: Workload
    certificates: Sequence[Certificate] = ()
    problem: str = ""
    """Why it could not be asked; "" where it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MutualTls:
    """Shows itself: identities, then the matrix of edges."""

    proxies: Sequence[Proxy]
    edges: Sequence[Edge]
    commands: Sequence[str] = ()
    """The lines that ask one proxy the same."""

    def identities(self, now: datetime | None = None) -> Table:
        """Return each proxy's identity and how long its certificate lives."""
        time = now or datetime.now(UTC)
        rows = [row for proxy in self.proxies for row in _identity_rows(proxy, time)]
        return Table(
            ["POD", "NAMESPACE", "IDENTITY", "LIFETIME", "EXPIRES IN", "SERIAL NUMBER"], rows
        )

    def matrix(self) -> Table:
        """Return sources by destinations with padlocks."""
        return matrix(self.edges, {proxy.workload for proxy in self.proxies})

    def connections(self) -> Table:
        """Return the edges one by one, with the principals on both sides and their counts."""
        rows = [
            [
                edge.source,
                edge.destination,
                "mutual TLS" if edge.mutual_tls else "plain text",
                edge.source_principal,
                f"{edge.requests:.0f}",
                f"{edge.connections:.0f}",
            ]
            for edge in self.edges
        ]
        return Table(
            ["FROM", "TO", "SECURITY", "SOURCE PRINCIPAL", "REQUESTS", "TCP CONNECTIONS"], rows
        )

    def edge(self, source: str, destination: str) -> Sequence[Edge]:
        """Return what was seen between two workloads, by name; empty: no connection seen."""
        return [
            e for e in self.edges if (e.source.name, e.destination.name) == (source, destination)
        ]

    def text(self) -> str:
        grid = self.matrix()
        seen = grid.text() if grid.rows else "no connection seen"
        lines = [self.identities().text(), "", seen]
        return "\n".join([*lines, "", *(f"$ {command}" for command in self.commands)])

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        grid = self.matrix()
        commands = Table([], [], note="\n".join(f"$ {command}" for command in self.commands))
        seen = grid.html() if grid.rows else "<div>no connection seen</div>"
        return {
            "text/plain": self.text(),
            "text/html": self.identities().html() + seen + commands.html(),
        }


def _identity_rows(proxy: Proxy, now: datetime) -> list[list[str]]:
    start = [proxy.pod, proxy.namespace]
    if proxy.problem or not proxy.certificates:
        return [[*start, proxy.problem or "no certificate", "-", "-", "-"]]
    return [
        [
            *start,
            certificate.identity,
            duration((certificate.not_after - certificate.not_before).total_seconds()),
            duration(certificate.left(now)) if certificate.left(now) > 0 else "expired",
            certificate.serial,
        ]
        for certificate in proxy.certificates
    ]

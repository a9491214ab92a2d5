"""Who talks to whom, and whether under mutual TLS: edges from what the destinations' proxies count.

Only the destination knows: its proxy has seen the peer's certificate. `istio_requests_total` and
`istio_tcp_connections_opened_total` carry `connection_security_policy` and both principals.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshlab.observe.metrics import Sample
from meshlab.observe.table import Table

COUNTERS = {
    "istio_requests_total": "requests",
    "istio_tcp_connections_opened_total": "connections",
}
LOCKED, OPEN, NONE_SEEN = "🔒", "🔓", "·"


@dataclass(frozen=True, slots=True)
class Workload:
    """`unknown` where the proxy learned no name: a peer without a sidecar."""

    name: str
    namespace: str

    def __str__(self) -> str:
        return "no sidecar" if self.name == "unknown" else f"{self.name}.{self.namespace}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Traffic between two workloads, by security policy; an edge may be seen both ways."""

    source: Workload
    destination: Workload
    mutual_tls: bool
    source_principal: str
    destination_principal: str
    requests: float = 0
    connections: float = 0


def edges(samples: Iterable[Sample]) -> list[Edge]:
    """Return the edges that these scrapes of destination proxies tell of, ordered by name."""
    counts: dict[tuple[Workload, Workload, bool, str, str], dict[str, float]] = defaultdict(
        lambda: {"requests": 0.0, "connections": 0.0}
    )
    for sample in samples:
        kind = COUNTERS.get(sample.name)
        if kind is None or sample.labels.get("reporter") != "destination" or not sample.value:
            continue
        counts[_key(sample.labels)][kind] += sample.value
    found = [
        Edge(
            source=source,
            destination=destination,
            mutual_tls=mutual,
            source_principal=source_principal,
            destination_principal=destination_principal,
            requests=count["requests"],
            connections=count["connections"],
        )
        for (source, destination, mutual, source_principal, destination_principal), count in (
            counts.items()
        )
    ]
    return sorted(found, key=lambda e: (str(e.source), str(e.destination), e.mutual_tls))


def _key(labels: Mapping[str, str]) -> tuple[Workload, Workload, bool, str, str]:
    def workload(side: str) -> Workload:
        return Workload(
            labels.get(f"{side}_workload", "unknown"),
            labels.get(f"{side}_workload_namespace", "unknown"),
        )

    return (
        workload("source"),
        workload("destination"),
        labels.get("connection_security_policy") == "mutual_tls",
        labels.get("source_principal", "unknown"),
        labels.get("destination_principal", "unknown"),
    )


def matrix(found: Sequence[Edge], workloads: Iterable[Workload] = ()) -> Table:
    """Return sources by destinations with padlocks.

    🔒 only mutual TLS was seen, 🔓 only plain text, both where both were; `·`: no connection seen.

    Args:
        found: the edges.
        workloads: destinations to show in any case, also without traffic.
    """
    sources = sorted({e.source for e in found}, key=str)
    destinations = sorted({e.destination for e in found} | set(workloads), key=str)
    rows = [
        [str(source), *(_mark(found, source, destination) for destination in destinations)]
        for source in sources
    ]
    return Table(
        ["from \\ to", *map(str, destinations)],
        rows,
        note=f"{LOCKED} mutual TLS   {OPEN} plain text   {NONE_SEEN} no connection seen",
        named=True,
    )


def _mark(found: Sequence[Edge], source: Workload, destination: Workload) -> str:
    policies = {e.mutual_tls for e in found if (e.source, e.destination) == (source, destination)}
    marks = [mark for policy, mark in ((True, LOCKED), (False, OPEN)) if policy in policies]
    return "".join(marks) or NONE_SEEN

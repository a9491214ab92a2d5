"""The mesh's access log as the control plane collected it (`/debug/accesslogz`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshlab.observe.table import Table

PAGE = "debug/accesslogz"
COLUMNS = ("start_time", "proxy", "method", "path", "response_code", "response_flags", "duration")


@dataclass(frozen=True, slots=True)
class Entries:
    """Log entries with Istio's JSON keys, plus `seq` and `proxy`."""

    entries: Sequence[Mapping[str, Any]]
    next: int
    """What to ask for next time."""

    def table(self, columns: Sequence[str] = COLUMNS) -> Table:
        headers = [column.upper().replace("_", " ") for column in columns]
        rows = [[_cell(entry, column) for column in columns] for entry in self.entries]
        return Table(headers, rows)

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return self.table()._repr_mimebundle_()

    def __repr__(self) -> str:
        return self.table().text()


def _cell(entry: Mapping[str, Any], column: str) -> object:
    value = entry.get(column, "-")
    parts = str(value).split("~")  # a node id: sidecar~IP~POD.NAMESPACE~DOMAIN
    return parts[2] if column == "proxy" and len(parts) == 4 else value


class AccessLog:
    """Reads on from where it stopped.

    Args:
        fetch: takes a page of the control plane with its query, returns the decoded JSON.
        after: sequence number to begin after; 0: all that the control plane still has.
    """

    def __init__(self, fetch: Callable[[str], Mapping[str, Any]], after: int = 0) -> None:
        self._fetch = fetch
        self._next = after

    def read(self, limit: int = 1000) -> Entries:
        """Return what came since the last call, oldest first."""
        answer = self._fetch(f"{PAGE}?after={self._next}&limit={limit}")
        self._next = int(answer["next"])
        return Entries(answer["entries"], self._next)

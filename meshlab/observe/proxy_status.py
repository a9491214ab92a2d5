"""What each proxy was sent and has acknowledged, in `istioctl proxy-status`' columns.

From the control plane's `/debug/syncz`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from meshlab.observe.certificate import duration
from meshlab.observe.table import Table

TYPES = ("cds", "lds", "eds", "rds")


def table(proxies: Sequence[Mapping[str, Any]], now: float) -> Table:
    """Return a row a proxy; what one refused is told below. `now` is Unix time."""
    rows = [
        [
            f"{proxy['name']}.{proxy['namespace']}",
            *(_status(proxy["types"].get(kind)) for kind in TYPES),
            proxy["protocol"],
            duration(now - proxy["connected_since"]),
            proxy.get("istio_version") or "-",
        ]
        for proxy in proxies
    ]
    refused = [
        f"{proxy['name']}.{proxy['namespace']} refused {kind.upper()}: {state['error']}"
        for proxy in proxies
        for kind, state in proxy["types"].items()
        if state.get("error")
    ]
    headers = ["NAME", *(kind.upper() for kind in TYPES), "PROTOCOL", "CONNECTED", "VERSION"]
    return Table(headers, rows, note="\n".join(refused))


def _status(state: Mapping[str, Any] | None) -> str:
    return str(state["status"]) if state else "NOT SENT"

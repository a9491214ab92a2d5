"""The certificates a proxy uses, from its admin page `/certs` (Envoy's JSON)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    identity: str
    """SPIFFE id, the first URI among its subject alternative names; "" where it has none."""
    serial: str
    not_before: datetime
    not_after: datetime

    def left(self, now: datetime) -> float:
        """Return the seconds until it expires; negative afterwards."""
        return (self.not_after - now).total_seconds()


def own_certificates(certs: Mapping[str, Any]) -> list[Certificate]:
    """Return the leaf certificates, each once: one serves many clusters and listeners."""
    found = {}
    for entry in certs.get("certificates") or ():
        for position, item in enumerate(entry.get("cert_chain") or ()):
            if position == 0:  # what follows are the authorities above it
                found[item["serial_number"]] = _certificate(item)
    return list(found.values())


def _certificate(item: Mapping[str, Any]) -> Certificate:
    names = item.get("subject_alt_names") or ()
    return Certificate(
        identity=next((n["uri"] for n in names if n.get("uri")), ""),
        serial=item["serial_number"],
        not_before=_time(item["valid_from"]),
        not_after=_time(item["expiration_time"]),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def duration(seconds: float) -> str:
    """Return a duration as kubectl prints ages: `23h59m`, `90s`."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if whole >= 120:
        return f"{minutes}m"
    return f"{whole}s"

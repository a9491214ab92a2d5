"""Taking hosts that fail out of the choice for a while (Envoy `OutlierDetection`)."""

from collections.abc import Collection
from dataclasses import dataclass

from meshlab.proxy.core.stat import Counter, StatRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """`cluster.v3.OutlierDetection` with Envoy's defaults; times in seconds, shares 0–100."""

    consecutive_5xx: int = 5
    enforcing_consecutive_5xx: int = 100
    consecutive_gateway_failure: int = 5
    enforcing_consecutive_gateway_failure: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int = 5
    enforcing_consecutive_local_origin_failure: int = 100
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: int = 10
    always_eject_one_host: bool = False
    """One host may be ejected whatever the share."""


class Record:
    """What the detector knows of one host."""

    __slots__ = (
        "consecutive_5xx",
        "consecutive_gateway_failure",
        "consecutive_local_origin_failure",
        "ejected",
        "ejected_at",
        "ejections",
        "times",
    )

    def __init__(self) -> None:
        self.consecutive_5xx = 0
        self.consecutive_gateway_failure = 0
        self.consecutive_local_origin_failure = 0
        self.ejected = False
        self.ejected_at = 0.0
        self.ejections = 0
        """How many in all."""
        self.times = 0
        """What the ejection time is multiplied by; falls again while the host behaves."""


class OutlierDetector:
    """Counts failures in a row, ejects, and lets in again.

    The caller passes each result with the clock and a draw, and rebuilds its choice of hosts when
    a method returns True.
    """

    __slots__ = ("_active", "_prefix", "_registry", "_total", "config", "records")

    def __init__(self, config: OutlierDetection, registry: StatRegistry, prefix: str) -> None:
        self.config = config
        self.records: Collection[Record] = ()
        """Of all hosts of the cluster: the share that may be ejected is of these."""
        self._registry = registry
        self._prefix = f"{prefix}outlier_detection."
        self._active = registry.gauge(f"{self._prefix}ejections_active")
        self._total = registry.counter(f"{self._prefix}ejections_enforced_total")
        for kind in ("5xx", "gateway_failure", "local_origin_failure"):
            for word in ("detected", "enforced"):
                registry.counter(f"{self._prefix}ejections_{word}_consecutive_{kind}")
        registry.counter(f"{self._prefix}ejections_consecutive_5xx")
        registry.counter(f"{self._prefix}ejections_total")
        registry.counter(f"{self._prefix}ejections_overflow")

    def on_response(self, record: Record, status: int, now: float, draw: float) -> bool:
        """Count a response's status; True: the host has just been ejected."""
        if status < 500:
            record.consecutive_5xx = 0
            record.consecutive_gateway_failure = 0
            return False
        config = self.config
        ejected = False
        if 502 <= status <= 504:
            record.consecutive_gateway_failure += 1
            if record.consecutive_gateway_failure == config.consecutive_gateway_failure:
                record.consecutive_gateway_failure = 0
                share = config.enforcing_consecutive_gateway_failure
                ejected = self._detected(record, "gateway_failure", share, now, draw)
        else:
            record.consecutive_gateway_failure = 0
        record.consecutive_5xx += 1
        if record.consecutive_5xx == config.consecutive_5xx:
            record.consecutive_5xx = 0
            share = config.enforcing_consecutive_5xx
            ejected = self._detected(record, "5xx", share, now, draw) or ejected
        return ejected

    def on_local_origin_failure(
        self, record: Record, now: float, draw: float, *, timeout: bool = False
    ) -> bool:
        """Count a try that got no answer: no connection, a reset, a time-out."""
        config = self.config
        if not config.split_external_local_origin_errors:
            return self.on_response(record, 504 if timeout else 503, now, draw)
        record.consecutive_local_origin_failure += 1
        if record.consecutive_local_origin_failure != config.consecutive_local_origin_failure:
            return False
        record.consecutive_local_origin_failure = 0
        share = config.enforcing_consecutive_local_origin_failure
        return self._detected(record, "local_origin_failure", share, now, draw)

    def on_local_origin_success(self, record: Record) -> None:
        record.consecutive_local_origin_failure = 0

    def sweep(self, now: float) -> bool:
        """Let in again whoever has served its time (`interval` is how often); True: somebody."""
        changed = False
        config = self.config
        longest = max(config.max_ejection_time, config.base_ejection_time)
        for record in self.records:
            if not record.ejected:
                record.times = max(record.times - 1, 0)
            elif now - record.ejected_at >= min(config.base_ejection_time * record.times, longest):
                self._release(record)
                changed = True
        return changed

    def forget(self, record: Record) -> None:
        """Count out a host that left the cluster."""
        if record.ejected:
            self._release(record)

    def _release(self, record: Record) -> None:
        record.ejected = False
        record.consecutive_5xx = 0
        record.consecutive_gateway_failure = 0
        record.consecutive_local_origin_failure = 0
        self._active.value -= 1

    def _detected(self, record: Record, kind: str, share: int, now: float, draw: float) -> bool:
        self._count(f"ejections_detected_consecutive_{kind}").value += 1
        if record.ejected or draw * 100 >= share:
            return False
        after = self._active.value + 1
        allowed = 100 * after <= self.config.max_ejection_percent * len(self.records)
        if not allowed and not (self.config.always_eject_one_host and after == 1):
            self._count("ejections_overflow").value += 1
            return False
        record.ejected = True
        record.ejected_at = now
        record.ejections += 1
        record.times += 1
        self._active.value = after
        self._total.value += 1
        self._count(f"ejections_enforced_consecutive_{kind}").value += 1
        self._count("ejections_total").value += 1  # Envoy's older names, still there
        if kind == "5xx":
            self._count("ejections_consecutive_5xx").value += 1
        return True

    def _count(self, name: str) -> Counter:
        return self._registry.counter(self._prefix + name)

"""When a probe has succeeded or failed: thresholds and times. Pure; prober.py asks the container.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Probe
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe of a container; all times in seconds."""

    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3

    @classmethod
    def decode(cls, spec: dict[str, Any]) -> "Probe":
        """Take a `livenessProbe` and its kind; 0 and absent both mean the default."""
        return cls(
            initial_delay=float(spec.get("initialDelaySeconds") or 0),
            period=float(spec.get("periodSeconds") or 10),
            timeout=float(spec.get("timeoutSeconds") or 1),
            success_threshold=spec.get("successThreshold") or 1,
            failure_threshold=spec.get("failureThreshold") or 3,
        )


@dataclass(slots=True)
class Counter:
    """Results in a row, and what they amount to."""

    probe: Probe
    good: bool
    """The state so far; readiness and startup begin with False, liveness with True."""
    row: int = 0
    last: bool | None = None

    def count(self, *, success: bool) -> bool:
        """Take one result in; return the state."""
        self.row = self.row + 1 if success is self.last else 1
        self.last = success
        threshold = self.probe.success_threshold if success else self.probe.failure_threshold
        if self.row >= threshold:
            self.good = success
        return self.good

    @property
    def failed(self) -> bool:
        """Whether failures have reached the threshold: a liveness or startup probe kills then."""
        return self.last is False and self.row >= self.probe.failure_threshold

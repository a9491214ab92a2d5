"""The control plane's own metrics, under istiod's names (istio.md 4.4); only what is measured."""

import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

_TIME_BUCKETS = (0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0)

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Counter:
    """Goes up only."""

    name: str
    about: str
    values: dict[Labels, float] = field(default_factory=lambda: defaultdict(float))
    kind: str = "counter"

    def add(self, amount: float = 1.0, **labels: str) -> None:
        self.values[tuple(sorted(labels.items()))] += amount

    def render(self) -> list[str]:
        return [
            f"# HELP {self.name} {self.about}",
            f"# TYPE {self.name} {self.kind}",
            *(f"{self.name}{_labels(k)} {v:g}" for k, v in sorted(self.values.items())),
        ]


@dataclass(slots=True)
class Gauge(Counter):
    """Holds what is true now."""

    kind: str = "gauge"

    def set(self, amount: float, **labels: str) -> None:
        self.values[tuple(sorted(labels.items()))] = amount


@dataclass(slots=True)
class Histogram:
    """Durations in seconds, or other amounts, by bucket."""

    name: str
    about: str
    buckets: Sequence[float] = _TIME_BUCKETS
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.buckets) + 1)

    def observe(self, amount: float) -> None:
        self.counts[bisect.bisect_left(self.buckets, amount)] += 1
        self.total += amount

    def render(self) -> list[str]:
        lines = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} histogram"]
        running = 0
        for bound, count in zip([*self.buckets, "+Inf"], self.counts, strict=True):
            running += count
            text = bound if isinstance(bound, str) else f"{bound:g}"
            lines.append(f'{self.name}_bucket{{le="{text}"}} {running}')
        return [*lines, f"{self.name}_sum {self.total:g}", f"{self.name}_count {running}"]


class Metrics:
    """All of them, by subject."""

    def __init__(self) -> None:
        self.info = Gauge("pilot_info", "Version of the control plane.")
        self.xds = Gauge("pilot_xds", "Proxies connected over xDS.")
        self.pushes = Counter("pilot_xds_pushes", "Responses sent, by type.")
        self.rejects = Counter("pilot_total_xds_rejects", "Responses refused by proxies, by type.")
        self.push_time = Histogram("pilot_xds_push_time", "Seconds to translate and send a push.")
        self.convergence = Histogram(
            "pilot_proxy_convergence_time", "Seconds from a change until a proxy was sent it."
        )
        self.debounce = Histogram("pilot_debounce_time", "Seconds from first change to its push.")
        self.triggers = Counter("pilot_push_triggers", "Pushes, by the kind that caused them.")
        self.inbound = Counter("pilot_inbound_updates", "Changes taken from the cluster, by kind.")
        self.services = Gauge("pilot_services", "Services known.")
        self.virtual_services = Gauge("pilot_virt_services", "VirtualServices known.")
        self.certificates = Counter(
            "citadel_server_success_cert_issuance_count", "Certificates issued."
        )
        self.signing_requests = Counter("citadel_server_csr_count", "Signing requests.")
        self.authentication_failures = Counter(
            "citadel_server_authentication_failure_count", "Signing requests by nobody we know."
        )
        self.signing_errors = Counter(
            "citadel_server_csr_sign_err_count", "Signing requests that were not signed."
        )
        self.root_expiry = Gauge(
            "citadel_server_root_cert_expiry_timestamp", "When the root expires, Unix seconds."
        )
        self.injections = Counter("sidecar_injection_requests_total", "Injection reviews.")
        self.injected = Counter("sidecar_injection_success_total", "Pods that got a sidecar.")
        self.skipped = Counter("sidecar_injection_skip_total", "Pods left as they were.")
        self.injection_failures = Counter("sidecar_injection_failure_total", "Reviews that failed.")
        self.injection_time = Histogram(
            "sidecar_injection_time_seconds", "Seconds for an injection review."
        )
        self.validation_passed = Counter("galley_validation_passed", "Objects let in.")
        self.validation_failed = Counter("galley_validation_failed", "Objects refused.")

    def render(self) -> str:
        """Return the text in Prometheus' exposition format."""
        lines = [line for metric in vars(self).values() for line in metric.render()]
        return "\n".join([*lines, ""])


def _labels(pairs: Labels) -> str:
    if not pairs:
        return ""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

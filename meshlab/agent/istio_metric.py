"""Istio's standard metrics made from access logs, for data planes without `istio.stats`.

A stock Envoy reports each request over ALS through this agent, but has not the filter that counts
them under Istio's names. What it cannot know stays `unknown`: there is no metadata exchange, so a
peer is known by its SPIFFE id only.
"""

import bisect
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from envoy.service.accesslog.v3 import als_pb2

from meshlab.proto.response_flag import response_flags

UNKNOWN = "unknown"
BUCKETS = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000),
    *(60000, 300000, 600000, 1800000, 3600000),
)
"""Envoy's, for milliseconds and bytes alike (istio.md 4.1)."""
_SIDES = ("source", "destination")
_HISTOGRAMS = (
    "istio_request_duration_milliseconds",
    "istio_request_bytes",
    "istio_response_bytes",
)

Labels = tuple[tuple[str, str], ...]


class IstioMetrics:
    """Counters and histograms by Istio's labels."""

    def __init__(self, node_metadata: Mapping[str, Any], namespace: str, cluster: str) -> None:
        """`node_metadata` as in the bootstrap: LABELS, WORKLOAD_NAME."""
        labels = node_metadata.get("LABELS") or {}
        workload = str(node_metadata.get("WORKLOAD_NAME") or UNKNOWN)
        self.own = {
            "workload": workload,
            "workload_namespace": namespace,
            "app": labels.get("app") or UNKNOWN,
            "version": labels.get("version") or UNKNOWN,
            "canonical_service": labels.get("service.istio.io/canonical-name") or workload,
            "canonical_revision": labels.get("service.istio.io/canonical-revision") or "latest",
            "cluster": cluster,
        }
        self.counts: dict[tuple[str, Labels], float] = defaultdict(float)
        self.histograms: dict[tuple[str, Labels], list[int]] = {}
        self.sums: dict[tuple[str, Labels], float] = defaultdict(float)

    def take(self, message: bytes) -> None:
        """Count what one `StreamAccessLogsMessage` reports."""
        logs = als_pb2.StreamAccessLogsMessage.FromString(message)
        for entry in logs.http_logs.log_entry:
            self._http(entry)
        for entry in logs.tcp_logs.log_entry:
            self._tcp(entry)

    def _http(self, entry: Any) -> None:
        common = entry.common_properties
        labels = _sorted(
            {
                **self._peers(common),
                "request_protocol": "http",
                "response_code": str(entry.response.response_code.value),
                "grpc_response_status": "",
            }
        )
        self.counts["istio_requests_total", labels] += 1
        took = common.time_to_last_downstream_tx_byte
        request, response = entry.request, entry.response
        values = (
            took.seconds * 1000 + took.nanos / 1e6,
            request.request_headers_bytes + request.request_body_bytes,
            response.response_headers_bytes + response.response_body_bytes,
        )
        for name, value in zip(_HISTOGRAMS, values, strict=True):
            key = (name, labels)
            buckets = self.histograms.setdefault(key, [0] * (len(BUCKETS) + 1))
            buckets[bisect.bisect_left(BUCKETS, value)] += 1
            self.sums[key] += value

    def _tcp(self, entry: Any) -> None:
        labels = _sorted({**self._peers(entry.common_properties), "request_protocol": "tcp"})
        bytes_ = entry.connection_properties
        self.counts["istio_tcp_connections_opened_total", labels] += 1
        self.counts["istio_tcp_connections_closed_total", labels] += 1
        self.counts["istio_tcp_received_bytes_total", labels] += bytes_.received_bytes
        self.counts["istio_tcp_sent_bytes_total", labels] += bytes_.sent_bytes

    def _peers(self, common: Any) -> dict[str, str]:
        """Return the labels that say who called whom."""
        inbound = common.upstream_cluster.lower().startswith("inbound")
        mine, theirs = _SIDES[::-1] if inbound else _SIDES
        tls = common.tls_properties
        local, peer = (
            _principal(tls.local_certificate_properties),
            _principal(tls.peer_certificate_properties),
        )
        # On the way out ALS tells only the downstream's TLS, which is the app's: none.
        identity = {mine: local, theirs: peer} if inbound else {mine: UNKNOWN, theirs: UNKNOWN}
        names = {f"{mine}_{key}": value for key, value in self.own.items()}
        names |= {f"{theirs}_{key}": UNKNOWN for key in self.own}
        names[f"{theirs}_canonical_revision"] = "latest"
        names |= {f"{side}_principal": principal for side, principal in identity.items()}
        if peer != UNKNOWN and inbound:
            names[f"{theirs}_workload_namespace"] = _namespace(peer)
        secured = inbound and UNKNOWN not in (local, peer)
        return {
            **names,
            **self._service(common, inbound=inbound),
            "reporter": "destination" if inbound else "source",
            "response_flags": response_flags(common.response_flags),
            "connection_security_policy": (
                ("mutual_tls" if secured else "none") if inbound else UNKNOWN
            ),
        }

    def _service(self, common: Any, *, inbound: bool) -> dict[str, str]:
        cluster = common.upstream_cluster
        host = cluster.rpartition("|")[2] if "|" in cluster else ""
        name, _, rest = host.partition(".")
        if host:
            return _destination(host, name, rest.partition(".")[0])
        if inbound:
            own = self.own
            return _destination(UNKNOWN, own["canonical_service"], own["workload_namespace"])
        return _destination(UNKNOWN, cluster or UNKNOWN, UNKNOWN)

    def render(self) -> bytes:
        """Return the text in Prometheus' exposition format."""
        lines = []
        for name in sorted({name for name, _ in self.counts}):
            lines.append(f"# TYPE {name} counter")
            lines += [f"{name}{_text(k)} {v:g}" for (n, k), v in self.counts.items() if n == name]
        for name in _HISTOGRAMS if self.histograms else ():
            lines.append(f"# TYPE {name} histogram")
            for (known, labels), counts in self.histograms.items():
                if known == name:
                    lines += _histogram(name, labels, counts, self.sums[name, labels])
        return "".join(f"{line}\n" for line in lines).encode()


def _destination(service: str, name: str, namespace: str) -> dict[str, str]:
    return {
        "destination_service": service,
        "destination_service_name": name,
        "destination_service_namespace": namespace or UNKNOWN,
    }


def _histogram(name: str, labels: Labels, counts: list[int], total: float) -> list[str]:
    lines, running = [], 0
    for bound, count in zip([*BUCKETS, "+Inf"], counts, strict=True):
        running += count
        lines.append(f"{name}_bucket{_text((*labels, ('le', str(bound))))} {running}")
    return [
        *lines,
        f"{name}_sum{_text(labels)} {total:g}",
        f"{name}_count{_text(labels)} {running}",
    ]


def _principal(properties: Any) -> str:
    return next((name.uri for name in properties.subject_alt_name if name.uri), UNKNOWN)


def _namespace(principal: str) -> str:
    parts = principal.split("/ns/")[-1].split("/")
    return parts[0] if "/ns/" in principal else UNKNOWN


def _sorted(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _text(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

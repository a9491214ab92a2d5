"""Render statistics: Prometheus' text format, Envoy's plain text and JSON.

Envoy's dotted names carry values that Prometheus wants as labels: `cluster.web.upstream_rq_200`
becomes `envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="web"}`. Istio's
metrics have labels of their own and keep their names.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from meshlab.proxy.core.stat import Counter, Gauge, Histogram, Labels, StatRegistry

CLUSTER_STATS = (
    "upstream_|membership_|lb_|circuit_breakers\\.|outlier_detection\\.|ssl\\.|bind_errors"
    "|assignment_|update_|max_host_weight|retry_or_shadow_abandoned|original_dst_host_invalid"
    "|internal\\.|external\\.|default\\.|warming_state|version|init_fetch_timeout|http1\\."
    "|tcp_|metadata_exchange"
)
HTTP_STATS = (
    "downstream_|rq_|no_route|no_cluster|rs_too_large|tracing\\.|fault\\.|rbac\\.|passthrough_"
)
TCP_STATS = "downstream_|upstream_|idle_timeout|max_downstream|no_route"

TAGS: tuple[tuple["re.Pattern[str]", str, tuple[str, ...]], ...] = (
    (
        re.compile(rf"cluster\.(?!\.)(.+?);?\.({CLUSTER_STATS})(.*)"),
        r"cluster.\2\3",
        ("envoy_cluster_name",),
    ),
    (
        re.compile(r"listener\.(.+?)\.http\.(.+?);?\.(downstream_rq_.*)"),
        r"listener.http.\3",
        ("envoy_listener_address", "envoy_http_conn_manager_prefix"),
    ),
    (
        re.compile(r"listener\.(.+?)\.(downstream_|no_filter_chain|ssl\.|worker_)(.*)"),
        r"listener.\2\3",
        ("envoy_listener_address",),
    ),
    (
        re.compile(rf"http\.(.+?);?\.({HTTP_STATS})(.*)"),
        r"http.\2\3",
        ("envoy_http_conn_manager_prefix",),
    ),
    (re.compile(rf"tcp\.(.+?);?\.({TCP_STATS})(.*)"), r"tcp.\2\3", ("envoy_tcp_prefix",)),
    (
        re.compile(r"vhost\.(.+?)\.route\.(.+?)\.(upstream_.*)"),
        r"vhost.route.\3",
        ("envoy_virtual_host", "envoy_route"),
    ),
)
"""Where a dotted name holds values: pattern, name without them, their labels in group order."""

CODE = re.compile(r"_rq_(\d{3})$")
CODE_CLASS = re.compile(r"_rq_(\d)xx$")

QUANTILES = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100)
"""Envoy's, in percent."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which statistics are wanted: the query parameters of Envoy's /stats."""

    pattern: "re.Pattern[str] | None" = None
    """`filter`: searched in the dotted name."""
    used_only: bool = False
    """`usedonly`: not what was never written."""
    kinds: frozenset[str] = frozenset(("Counters", "Gauges", "Histograms"))
    """`type`."""

    def takes(self, name: str, used: bool) -> bool:
        if self.used_only and not used:
            return False
        return self.pattern is None or self.pattern.search(name) is not None


EVERYTHING = Selection()


def prometheus_name(name: str, labels: Labels) -> tuple[str, Labels]:
    """Return (metric, labels) of a dotted name; Istio's metrics stay as they are."""
    if name.startswith("istio_"):
        return name, labels
    found: list[tuple[str, str]] = list(labels)
    for pattern, plain, names in TAGS:
        match = pattern.fullmatch(name)
        if match:
            found += zip(names, match.groups(), strict=False)
            name = match.expand(plain)
            break
    if code := CODE.search(name):
        found.insert(0, ("envoy_response_code", code[1]))
        name = name[: code.start()] + "_rq"
    elif code_class := CODE_CLASS.search(name):
        found.insert(0, ("envoy_response_code_class", code_class[1]))
        name = name[: code_class.start()] + "_rq_xx"
    return "envoy_" + re.sub(r"[^A-Za-z0-9_]", "_", name), tuple(found)


def render_labels(labels: Iterable[tuple[str, str]]) -> str:
    """Return `{a="b",c="d"}`, values escaped; "" for none."""
    text = ",".join(f'{name}="{escape(value)}"' for name, value in labels)
    return f"{{{text}}}" if text else ""


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    """Return a number as Prometheus prints bounds: `0.5`, `1`, `3600000`."""
    return str(int(value)) if value == int(value) else repr(value)


def render_prometheus(registry: StatRegistry, selection: Selection = EVERYTHING) -> str:
    """Return the statistics in text exposition format 0.0.4, samples grouped by metric."""
    groups: dict[tuple[str, str], list[str]] = {}
    for kind, stat in selected(registry, selection):
        metric, labels = prometheus_name(stat.name, stat.labels)
        lines = groups.setdefault((metric, kind), [])
        if isinstance(stat, Histogram):
            lines += histogram_lines(metric, labels, stat)
        else:
            lines.append(f"{metric}{render_labels(labels)} {stat.value}\n")
    return "".join(
        f"# TYPE {metric} {kind}\n{''.join(lines)}\n"
        for (metric, kind), lines in sorted(groups.items())
    )


def selected(
    registry: StatRegistry, selection: Selection
) -> Iterator[tuple[str, Counter | Gauge | Histogram]]:
    """Yield (`counter`, `gauge` or `histogram`, statistic) of what is wanted, in order of names."""
    if "Counters" in selection.kinds:
        for key in sorted(registry.counters):
            counter = registry.counters[key]
            if selection.takes(counter.name, counter.value != 0):
                yield "counter", counter
    if "Gauges" in selection.kinds:
        for key in sorted(registry.gauges):
            gauge = registry.gauges[key]
            if selection.takes(gauge.name, gauge.value != 0):
                yield "gauge", gauge
    if "Histograms" in selection.kinds:
        for key in sorted(registry.histograms):
            histogram = registry.histograms[key]
            if selection.takes(histogram.name, histogram.count != 0):
                yield "histogram", histogram


def histogram_lines(metric: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    """Yield the cumulated buckets, sum and count."""
    total = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        total += count
        edge = "+Inf" if bound is None else number(bound)
        yield f"{metric}_bucket{render_labels((*labels, ('le', edge)))} {total}\n"
    yield f"{metric}_sum{render_labels(labels)} {number(round(histogram.sum, 6))}\n"
    yield f"{metric}_count{render_labels(labels)} {total}\n"


def full_name(stat: Counter | Gauge | Histogram) -> str:
    """Return the name for plain text; labels, where there are some, behind it."""
    return stat.name + render_labels(stat.labels)


def render_text(registry: StatRegistry, selection: Selection = EVERYTHING) -> str:
    """Return Envoy's /stats: `name: value`, counters and gauges together, histograms last."""
    plain: list[str] = []
    histograms: list[str] = []
    for _, stat in selected(registry, selection):
        if isinstance(stat, Histogram):
            histograms.append(f"{full_name(stat)}: {describe(stat)}\n")
        else:
            plain.append(f"{full_name(stat)}: {stat.value}\n")
    return "".join(sorted(plain) + sorted(histograms))


def describe(histogram: Histogram) -> str:
    """Return `P0(nan,1) P25(nan,5.1) …`: (last interval, since start); intervals are not kept."""
    if not histogram.count:
        return "No recorded values"
    return " ".join(
        f"P{percent:g}(nan,{quantile(histogram, percent / 100):g})" for percent in QUANTILES
    )


def quantile(histogram: Histogram, share: float) -> float:
    """Return the value below which `share` of the values lie, interpolated in its bucket.

    What is above the last bound counts as the last bound.
    """
    wanted = share * histogram.count
    below = 0
    lower = 0.0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        if count and below + count >= wanted:
            return lower + (bound - lower) * max(wanted - below, 0) / count
        below += count
        lower = bound
    return lower


def render_json(registry: StatRegistry, selection: Selection = EVERYTHING) -> dict[str, object]:
    """Return Envoy's `/stats?format=json`."""
    stats: list[object] = []
    histograms: list[object] = []
    for _, stat in selected(registry, selection):
        if isinstance(stat, Histogram):
            histograms.append({"name": full_name(stat), "values": json_quantiles(stat)})
        else:
            stats.append({"name": full_name(stat), "value": stat.value})
    if histograms:
        stats.append(
            {
                "histograms": {
                    "supported_quantiles": list(QUANTILES),
                    "computed_quantiles": histograms,
                }
            }
        )
    return {"stats": stats}


def json_quantiles(histogram: Histogram) -> list[dict[str, float | None]]:
    count = histogram.count
    return [
        {
            "interval": None,
            "cumulative": quantile(histogram, percent / 100) if count else None,
        }
        for percent in QUANTILES
    ]


def reset_counters(registry: StatRegistry) -> None:
    """Set counters to 0 and empty histograms, as Envoy's /reset_counters; gauges are levels."""
    for counter in registry.counters.values():
        counter.value = 0
    for histogram in registry.histograms.values():
        histogram.counts = [0] * len(histogram.counts)
        histogram.sum = 0.0


RENDERERS: dict[str, tuple[str, Callable[[StatRegistry, Selection], str]]] = {
    "text": ("text/plain; charset=UTF-8", render_text),
    "prometheus": ("text/plain; version=0.0.4; charset=UTF-8", render_prometheus),
}
"""Format → content type and function; JSON is a value, not text."""

"""Names, labels and forms of statistics."""

import pytest

from meshlab.proxy.core.stat import Labels, StatRegistry
from meshlab.proxy.telemetry.prometheus import (
    Selection,
    prometheus_name,
    quantile,
    render_json,
    render_prometheus,
    render_text,
    reset_counters,
)


@pytest.mark.parametrize(
    ("name", "metric", "labels"),
    [
        (
            "cluster.web.upstream_rq_total",
            "envoy_cluster_upstream_rq_total",
            (("envoy_cluster_name", "web"),),
        ),
        (
            "cluster.outbound|80|v1|web.shop.svc.cluster.local;.upstream_rq_200",
            "envoy_cluster_upstream_rq",
            (
                ("envoy_response_code", "200"),
                ("envoy_cluster_name", "outbound|80|v1|web.shop.svc.cluster.local"),
            ),
        ),
        (
            "cluster.web.upstream_rq_5xx",
            "envoy_cluster_upstream_rq_xx",
            (("envoy_response_code_class", "5"), ("envoy_cluster_name", "web")),
        ),
        (
            "cluster.web.circuit_breakers.default.cx_open",
            "envoy_cluster_circuit_breakers_default_cx_open",
            (("envoy_cluster_name", "web"),),
        ),
        (
            "http.outbound_0.0.0.0_80;.downstream_rq_2xx",
            "envoy_http_downstream_rq_xx",
            (
                ("envoy_response_code_class", "2"),
                ("envoy_http_conn_manager_prefix", "outbound_0.0.0.0_80"),
            ),
        ),
        (
            "http.in.fault.aborts_injected",
            "envoy_http_fault_aborts_injected",
            (("envoy_http_conn_manager_prefix", "in"),),
        ),
        (
            "listener.0.0.0.0_15006.downstream_cx_total",
            "envoy_listener_downstream_cx_total",
            (("envoy_listener_address", "0.0.0.0_15006"),),
        ),
        (
            "tcp.outbound|3306||db.a;.downstream_cx_total",
            "envoy_tcp_downstream_cx_total",
            (("envoy_tcp_prefix", "outbound|3306||db.a"),),
        ),
        ("cluster_manager.cds.update_success", "envoy_cluster_manager_cds_update_success", ()),
        ("server.live", "envoy_server_live", ()),
    ],
)
def test_envoy_names(name: str, metric: str, labels: Labels) -> None:
    assert prometheus_name(name, ()) == (metric, labels)


def registry() -> StatRegistry:
    stats = StatRegistry()
    stats.counter("cluster.b.upstream_rq_total").value = 3
    stats.counter("cluster.a.upstream_rq_total")
    stats.gauge("server.live").value = 1
    stats.counter("istio_requests_total", (("reporter", "source"), ("app", 'a"b\\c\n'))).value = 2
    histogram = stats.histogram("cluster.a.upstream_rq_time")
    for value in (0.5, 0.6, 30.0, 9e9):
        histogram.record(value)
    return stats


def test_prometheus() -> None:
    lines = render_prometheus(registry()).splitlines()
    assert lines[:5] == [
        "# TYPE envoy_cluster_upstream_rq_time histogram",
        'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="0.5"} 1',
        'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="1"} 2',
        'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="5"} 2',
        'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="10"} 2',
    ]
    assert (
        lines[19:]
        == [
            'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="3600000"} 3',
            'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a",le="+Inf"} 4',
            'envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="a"} 9000000031.1',
            'envoy_cluster_upstream_rq_time_count{envoy_cluster_name="a"} 4',
            "",
            "# TYPE envoy_cluster_upstream_rq_total counter",
            'envoy_cluster_upstream_rq_total{envoy_cluster_name="a"} 0',
            'envoy_cluster_upstream_rq_total{envoy_cluster_name="b"} 3',
            "",
            "# TYPE envoy_server_live gauge",
            "envoy_server_live 1",
            "",
            "# TYPE istio_requests_total counter",
            'istio_requests_total{reporter="source",app="a\\"b\\\\c\\n"} 2',
            "",
        ][: len(lines) - 19]
    )


def test_text_and_filter() -> None:
    import re

    pattern = re.compile("^cluster")
    assert render_text(registry(), Selection(pattern=pattern, used_only=True)) == (
        "cluster.b.upstream_rq_total: 3\n"
        "cluster.a.upstream_rq_time: P0(nan,0) P25(nan,0.5) P50(nan,1) P75(nan,50) "
        "P90(nan,3.6e+06) P95(nan,3.6e+06) P99(nan,3.6e+06) P99.5(nan,3.6e+06) "
        "P99.9(nan,3.6e+06) P100(nan,3.6e+06)\n"
    )
    assert render_text(registry(), Selection(kinds=frozenset(("Gauges",)))) == "server.live: 1\n"


def test_json() -> None:
    found = render_json(registry(), Selection(used_only=True, kinds=frozenset(("Counters",))))
    assert found == {
        "stats": [
            {"name": "cluster.b.upstream_rq_total", "value": 3},
            {"name": 'istio_requests_total{reporter="source",app="a\\"b\\\\c\\n"}', "value": 2},
        ]
    }


def test_quantiles_lie_inside_their_bucket() -> None:
    histogram = StatRegistry().histogram("h")
    for _ in range(10):
        histogram.record(7)  # the bucket from 5 to 10
    assert quantile(histogram, 0.5) == 7.5
    assert quantile(histogram, 1.0) == 10


def test_reset_leaves_levels_alone() -> None:
    stats = registry()
    reset_counters(stats)
    assert {counter.value for counter in stats.counters.values()} == {0}
    assert {histogram.count for histogram in stats.histograms.values()} == {0}
    assert stats.gauge("server.live").value == 1

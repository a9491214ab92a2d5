from meshlab.proxy.core.stat import StatRegistry


def test_same_name_is_the_same_object():
    registry = StatRegistry()
    labels = (("code", "200"),)
    registry.counter("a", labels).value += 1
    assert registry.counter("a", labels).value == 1
    assert registry.counter("a").value == 0


def test_buckets_hold_their_upper_bound():
    histogram = StatRegistry().histogram("h")
    for value in (0.5, 0.6, 1.0, 4_000_000.0):
        histogram.record(value)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-1]) == (1, 2, 1)
    assert (histogram.count, histogram.sum) == (4, 4_000_002.1)


def test_drop():
    registry = StatRegistry()
    for name in ("cluster.a.x", "cluster.a.b.x", "cluster.ab.x"):
        registry.counter(name)
        registry.gauge(name)
        registry.histogram(name)
    registry.drop("cluster.a.", keep=("cluster.a.b.",))
    for found in (registry.counters, registry.gauges, registry.histograms):
        assert [name for name, _ in found] == ["cluster.a.b.x", "cluster.ab.x"]

import pytest

from meshlab.proxy.core.outlier_detection import OutlierDetection, OutlierDetector, Record
from meshlab.proxy.core.stat import StatRegistry


def detector(hosts=1, **settings):
    settings.setdefault("max_ejection_percent", 100)
    registry = StatRegistry()
    found = OutlierDetector(OutlierDetection(**settings), registry, "cluster.c.")
    found.records = [Record() for _ in range(hosts)]
    return found, list(found.records), registry


def after(statuses, **settings):
    found, [record], _ = detector(**settings)
    return [found.on_response(record, status, 0.0, 0.0) for status in statuses][-1]


@pytest.mark.parametrize(
    ("statuses", "settings", "ejected"),
    [
        ([500] * 5, {}, True),
        ([500] * 4, {}, False),
        ([500] * 4 + [200] + [500] * 4, {}, False),
        ([500] * 4 + [404], {}, False),
        ([503] * 3, {"consecutive_gateway_failure": 3}, False),
        (
            [503] * 3,
            {"consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100},
            True,
        ),
        (
            [503, 500, 503, 503],
            {"consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100},
            False,
        ),
        ([500] * 5, {"enforcing_consecutive_5xx": 0}, False),
    ],
)
def test_consecutive(statuses, settings, ejected):
    assert after(statuses, **settings) is ejected


def test_share_that_may_be_ejected():
    found, records, registry = detector(hosts=3, consecutive_5xx=1, max_ejection_percent=34)
    assert [found.on_response(record, 500, 0.0, 0.0) for record in records] == [True, False, False]
    counters = {name: counter.value for (name, _), counter in registry.counters.items()}
    assert counters["cluster.c.outlier_detection.ejections_overflow"] == 2
    assert counters["cluster.c.outlier_detection.ejections_enforced_total"] == 1


@pytest.mark.parametrize("always", [True, False])
def test_ten_percent_of_one(always):
    found, [record], _ = detector(
        consecutive_5xx=1, max_ejection_percent=10, always_eject_one_host=always
    )
    assert found.on_response(record, 500, 0.0, 0.0) is always


def test_time_grows_and_falls():
    found, [record], registry = detector(consecutive_5xx=1, base_ejection_time=30.0)
    found.on_response(record, 500, 0.0, 0.0)
    assert not found.sweep(29.0)
    assert found.sweep(30.0)
    found.on_response(record, 500, 31.0, 0.0)
    assert not found.sweep(31.0 + 59)
    assert found.sweep(31.0 + 60)
    assert record.ejections == 2
    for _ in range(2):  # two quiet intervals forgive both
        found.sweep(100.0)
    found.on_response(record, 500, 200.0, 0.0)
    assert found.sweep(230.0)
    assert registry.gauges["cluster.c.outlier_detection.ejections_active", ()].value == 0


def test_local_origin_failures():
    found, [record], _ = detector(consecutive_5xx=2)
    assert not found.on_local_origin_failure(record, 0.0, 0.0)
    assert found.on_response(record, 500, 0.0, 0.0)
    found, [record], _ = detector(
        consecutive_5xx=1,
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=2,
    )
    assert not found.on_local_origin_failure(record, 0.0, 0.0)
    found.on_local_origin_success(record)
    assert not found.on_local_origin_failure(record, 0.0, 0.0)
    assert found.on_local_origin_failure(record, 0.0, 0.0)

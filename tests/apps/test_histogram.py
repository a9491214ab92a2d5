import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.apps.histogram import Bucket, Histogram, shortest


def filled(values: list[float], resolution: float = 0.001) -> Histogram:
    histogram = Histogram(resolution)
    for value in values:
        histogram.record(value)
    return histogram


def test_buckets_are_fortios() -> None:
    # 5 values up to 1 ms, 6 up to 2, 1 up to 3, 2 up to 4, 1 up to 5, 4 up to 45, 1 above:
    # the shape of a run of the real fortio, whose percentiles these are.
    values = [0.000386177, *[0.0009] * 4, *[0.0015] * 6, 0.0025, *[0.0035] * 2, 0.0045]
    values += [*[0.041] * 4, 0.04716438]
    histogram = filled(values)
    assert histogram.buckets() == [
        Bucket(0.000386177, 0.001, 25, 5),
        Bucket(0.001, 0.002, 55, 6),
        Bucket(0.002, 0.003, 60, 1),
        Bucket(0.003, 0.004, 70, 2),
        Bucket(0.004, 0.005, 75, 1),
        Bucket(0.04, 0.045, 95, 4),
        Bucket(0.045, 0.04716438, 100, 1),
    ]
    assert [histogram.percentile(p) for p in (50, 75, 90, 99)] == pytest.approx(
        [0.0018333333, 0.005, 0.04375, 0.046731504]
    )


def test_a_value_on_a_bound_belongs_below_it() -> None:
    assert [b.count for b in filled([1, 1, 2], 1).buckets()] == [2, 1]


def test_empty() -> None:
    assert Histogram(1).as_json([50]) == {
        "Count": 0, "Min": 0, "Max": 0, "Sum": 0, "Avg": 0, "StdDev": 0, "Data": None,
    }  # fmt: skip


@given(st.lists(st.integers(0, 200_000_000), min_size=1), st.integers(0, 50))
def test_merging_is_recording_all(microseconds: list[int], cut: int) -> None:
    values = [number / 1e6 for number in microseconds]
    merged = filled(values[:cut])
    merged.merge(filled(values[cut:]))
    assert [b.count for b in merged.buckets()] == [b.count for b in filled(values).buckets()]
    assert (merged.minimum, merged.maximum) == (min(values), max(values))
    assert merged.minimum <= merged.percentile(50) <= merged.maximum


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (124, "124"),
        (12716293.0, "1.2716293e+07"),
        (7.0073e-05, "7.0073e-05"),
        (0.5, "0.5"),
        (0, "0"),
    ],
)
def test_shortest(value: float, text: str) -> None:
    assert shortest(value) == text

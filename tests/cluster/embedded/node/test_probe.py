"""Thresholds of probes."""

import pytest

from meshlab.cluster.embedded.node.probe import Counter, Probe


def test_zero_and_absent_are_the_defaults() -> None:
    assert Probe.decode({"periodSeconds": 0, "timeoutSeconds": None}) == Probe()


@pytest.mark.parametrize(
    ("good", "results", "states", "failed"),
    [
        pytest.param(False, [True], [True], False, id="ready at the first success"),
        pytest.param(
            True,
            [False, False, False],
            [True, True, False],
            True,
            id="unready at the third failure",
        ),
        pytest.param(
            True,
            [False, False, True, False, False],
            [True] * 5,
            False,
            id="only failures in a row count",
        ),
        pytest.param(False, [False] * 3, [False] * 3, True, id="never started: failed"),
    ],
)
def test_count(*, good: bool, results: list[bool], states: list[bool], failed: bool) -> None:
    counter = Counter(Probe(), good=good)
    assert [counter.count(success=result) for result in results] == states
    assert counter.failed is failed

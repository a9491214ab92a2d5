import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.lab.share import accepted, accepted_retries, at_most, confidence, judge


def exact_at_most(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))


@given(st.integers(0, 80), st.integers(-1, 80), st.integers(0, 20))
def test_at_most_is_the_exact_sum(n: int, k: int, twentieths: int) -> None:
    k = min(k, n)
    p = Fraction(twentieths, 20)
    assert at_most(k, n, float(p)) == pytest.approx(
        float(exact_at_most(k, n, p)), rel=1e-9, abs=1e-15
    )


@pytest.mark.parametrize(
    ("n", "p", "alpha", "band"),
    [
        # by exact rational sums, e.g. P(X < 32) = 7.8e-5, P(X < 31) = 3.9e-5 > 5e-5 only from 31 on
        pytest.param(100, 0.5, 1e-4, (31, 69), id="half of a hundred"),
        pytest.param(500, 0.8, 1e-4, (364, 433), id="four fifths of 500"),
        pytest.param(500, 0.0, 1e-4, (0, 0), id="never"),
        pytest.param(500, 1.0, 1e-4, (500, 500), id="always"),
        pytest.param(10, 0.5, 1e-4, (0, 10), id="too few to tell anything"),
        pytest.param(10, 0.5, 0.05, (2, 8), id="textbook: two-sided 5 % of ten coins"),
    ],
)
def test_accepted(n: int, p: float, alpha: float, band: tuple[int, int]) -> None:
    assert accepted(n, p, alpha=alpha) == band


@given(st.integers(1, 60), st.integers(1, 19), st.sampled_from([0.05, 1e-2, 1e-4]))
def test_accepted_is_the_widest_band_that_keeps_alpha(
    n: int, twentieths: int, alpha: float
) -> None:
    p = Fraction(twentieths, 20)
    low, high = accepted(n, float(p), alpha=alpha)
    half = Fraction(alpha) / 2
    below, above = exact_at_most(low - 1, n, p), 1 - exact_at_most(high, n, p)
    assert below <= half < exact_at_most(low, n, p)
    assert above <= half < 1 - exact_at_most(high - 1, n, p)


@pytest.mark.parametrize(
    ("k", "n", "alpha", "interval"),
    [
        # published tables of Clopper-Pearson intervals
        pytest.param(0, 10, 0.05, (0.0, 0.30850), id="none of ten"),
        pytest.param(5, 10, 0.05, (0.18709, 0.81291), id="half of ten"),
        pytest.param(10, 10, 0.05, (0.69150, 1.0), id="all of ten"),
        pytest.param(10, 100, 0.05, (0.04900, 0.17622), id="ten of a hundred"),
        pytest.param(1, 20, 0.05, (0.00127, 0.24873), id="one of twenty"),
        pytest.param(0, 0, 0.05, (0.0, 1.0), id="nothing seen"),
    ],
)
def test_confidence(k: int, n: int, alpha: float, interval: tuple[float, float]) -> None:
    assert confidence(k, n, alpha=alpha) == pytest.approx(interval, abs=1e-5)


def exact_retry_distribution(requests: int, first: float, again: float, most: int) -> list[float]:
    """By convolution: one request after another."""
    one = [1 - first] + [first * again ** (j - 1) * (1 - again) for j in range(1, most)]
    total = [1.0] + [0.0] * (most - 1)
    for _ in range(requests):
        total = [sum(total[i - j] * one[j] for j in range(i + 1)) for i in range(most)]
    return total


def test_accepted_retries_by_convolution() -> None:
    alpha = 1e-2
    low, high = accepted_retries(40, first_fails=1 / 8, again_fails=1 / 4, alpha=alpha)
    chances = exact_retry_distribution(40, 1 / 8, 1 / 4, 60)
    assert sum(chances[:low]) <= alpha / 2 < sum(chances[: low + 1])
    assert sum(chances[high + 1 :]) <= alpha / 2 < sum(chances[high:])


def test_accepted_retries_of_the_retry_lab() -> None:
    """A half goes to a version that fails a quarter: one sixth of a retry a request."""
    low, high = accepted_retries(600, first_fails=1 / 8, again_fails=1 / 4)
    assert low < 100 < high
    assert 0.5 < low / 100 < 0.7
    assert 1.3 < high / 100 < 1.6


def test_verdict_says_all_its_numbers() -> None:
    verdict = judge("blue", 90, 100, 0.5)
    assert (verdict.passed, judge("blue", 50, 100, 0.5).passed) == (False, True)
    assert str(verdict) == (
        "blue: 90 of 100 = 90.0%, outside the band 31 to 69 of 50.0% "
        "(a correct split leaves it once in 10,000 runs)"
    )

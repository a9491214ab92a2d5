"""Is a share what it should be? Judged by the exact binomial distribution, not by a rule of thumb.

Of n requests that each go to blue with chance p, the number of blue ones is binomial. The band that
it leaves only once in 1/alpha runs is exact: no normal approximation, which is wrong near 0 and 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

ALPHA = 1e-4
"""A correct split fails a check once in 10,000."""


def log_pmf(k: int, n: int, p: float) -> float:
    """Return the logarithm of the chance of exactly k of n; -inf where it is impossible."""
    if not 0 <= k <= n:
        return -math.inf
    if p <= 0 or p >= 1:
        return 0.0 if k == (0 if p <= 0 else n) else -math.inf
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(p) + (n - k) * math.log1p(-p)


def at_most(k: int, n: int, p: float) -> float:
    """Return the chance of k or fewer of n."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if k > n * p:
        return 1.0 - at_most(n - k - 1, n, 1 - p)
    # Down from k, where the terms are largest: each is the one above it times a ratio below 1.
    term = math.exp(log_pmf(k, n, p))
    total = 0.0
    for i in range(k, -1, -1):
        total += term
        if term <= total * 1e-17:
            break
        term *= i / (n - i + 1) * (1 - p) / p
    return min(total, 1.0)


@lru_cache(maxsize=4096)
def accepted(n: int, p: float, *, alpha: float = ALPHA) -> tuple[int, int]:
    """Return the smallest and the largest count of n that chance p explains at level alpha.

    Below the first and above the second lies at most alpha/2 of the chance each.
    """
    if p <= 0:
        return 0, 0
    if p >= 1:
        return n, n
    low = _first(0, n, lambda k: at_most(k, n, p) > alpha / 2)
    high = n - _first(0, n, lambda k: at_most(k, n, 1 - p) > alpha / 2)
    return low, high


def confidence(k: int, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Return the shares that k of n does not rule out (Clopper and Pearson 1934)."""
    if n == 0:
        return 0.0, 1.0
    low = 0.0 if k == 0 else _root(lambda p: (1 - at_most(k - 1, n, p)) - alpha / 2)
    high = 1.0 if k == n else _root(lambda p: alpha / 2 - at_most(k, n, p))
    return low, high


def accepted_retries(
    requests: int, *, first_fails: float, again_fails: float, alpha: float = ALPHA
) -> tuple[int, int]:
    """Return the least and the most retries that n requests explain at level alpha.

    A request's first attempt fails with one chance, each retry with another, until one succeeds:
    the number of requests that retry at all is binomial, what they need together negative binomial.
    """
    low, high = accepted(requests, first_fails, alpha=alpha / 10)
    most = math.ceil((high + 10) / (1 - again_fails) * 2)
    below = 0.0
    least: int | None = None
    for retries in range(most):
        below += sum(
            math.exp(log_pmf(m, requests, first_fails) + _log_retries(retries, m, again_fails))
            for m in range(max(low - 20, 0), min(retries, high + 20) + 1)
        )
        if least is None and below > alpha / 2:
            least = retries
        if below >= 1 - alpha / 2:
            return least or 0, retries
    return least or 0, most


def _log_retries(retries: int, requests: int, fails: float) -> float:
    """Return the log chance that so many retrying requests need exactly so many retries."""
    if requests == 0:
        return 0.0 if retries == 0 else -math.inf
    extra = retries - requests
    if extra < 0:
        return -math.inf
    if fails <= 0:
        return 0.0 if extra == 0 else -math.inf
    ways = math.lgamma(retries) - math.lgamma(extra + 1) - math.lgamma(requests)
    return ways + extra * math.log(fails) + requests * math.log1p(-fails)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first number from low to high for which a condition holds that stays true."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _root(f: Callable[[float], float]) -> float:
    """Return where a rising function crosses zero between 0 and 1."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if f(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One share against what it should be."""

    name: str
    count: int
    of: int
    expected: float
    low: int
    high: int
    alpha: float = ALPHA

    @property
    def passed(self) -> bool:
        return self.low <= self.count <= self.high

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else 0.0

    def __str__(self) -> str:
        place = "inside" if self.passed else "outside"
        return (
            f"{self.name}: {self.count} of {self.of} = {self.share:.1%}, {place} the band "
            f"{self.low} to {self.high} of {self.expected:.1%} "
            f"(a correct split leaves it once in {1 / self.alpha:,.0f} runs)"
        )


def judge(name: str, count: int, of: int, expected: float, *, alpha: float = ALPHA) -> Verdict:
    """Return the verdict on `count` of `of` where the share should be `expected` (0 to 1)."""
    low, high = accepted(of, expected, alpha=alpha)
    return Verdict(
        name=name, count=count, of=of, expected=expected, low=low, high=high, alpha=alpha
    )

"""Matchers for strings, headers and query parameters (Envoy `StringMatcher`, `HeaderMatcher`).

Each is plain data; `compile_…` turns it into a closure once, when configuration arrives.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from meshlab.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StringMatch:
    """One test of a string (`type.matcher.v3.StringMatcher`)."""

    kind: Literal["exact", "prefix", "suffix", "contains", "regex"]
    value: bytes
    """The text, or the RE2 pattern, which must match the whole string."""
    ignore_case: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """One test of a request header (`route.v3.HeaderMatcher`).

    Of a header that stands several times one value must pass; commas in a value part nothing.
    """

    name: bytes
    """In lower case; `:method`, `:path`, `:authority`, `:scheme` mean what HTTP/2 means by them."""
    value: StringMatch | None = None
    """None, and no `int_range`: the header must be present."""
    int_range: tuple[int, int] | None = None
    """`range_match`: from, to (excluded)."""
    invert: bool = False
    """`invert_match`; `present_match: false` is a presence test that is inverted."""
    treat_missing_as_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryMatch:
    """One test of a query parameter (`route.v3.QueryParameterMatcher`); the first one counts."""

    name: bytes
    value: StringMatch | None = None
    """None: the parameter must be present."""


@dataclass(frozen=True, slots=True)
class Fraction:
    """A share of requests (`type.v3.FractionalPercent`)."""

    numerator: int
    denominator: Literal[100, 10_000, 1_000_000] = 100

    def hit(self, draw: float) -> bool:
        """Tell whether `draw` from [0, 1) falls into the share."""
        return draw * self.denominator < self.numerator


ALWAYS = Fraction(100)


def compile_regex(pattern: bytes, *, field: str = "", flags: int = 0) -> "re.Pattern[bytes]":
    """Return `pattern` compiled.

    Raises:
        ConfigError: no valid pattern.
    """
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise ConfigError(
            f"regular expression does not compile: {error}",
            field=field,
            found=repr(pattern.decode("utf-8", "replace")),
        ) from error


def compile_string(match: StringMatch, *, field: str = "") -> Callable[[bytes], bool]:
    """Return the test as a function of the string.

    Raises:
        ConfigError: a pattern that does not compile.
    """
    if match.kind == "regex":
        flags = re.IGNORECASE if match.ignore_case else 0
        full = compile_regex(match.value, field=field, flags=flags).fullmatch
        return lambda text: full(text) is not None
    if match.ignore_case:
        wanted = match.value.lower()
        if match.kind == "exact":
            return lambda text: text.lower() == wanted
        if match.kind == "prefix":
            return lambda text: text.lower().startswith(wanted)
        if match.kind == "suffix":
            return lambda text: text.lower().endswith(wanted)
        return lambda text: wanted in text.lower()
    value = match.value
    if match.kind == "exact":
        return lambda text: text == value
    if match.kind == "prefix":
        return lambda text: text.startswith(value)
    if match.kind == "suffix":
        return lambda text: text.endswith(value)
    return lambda text: value in text


def int_in_range(text: bytes, low: int, high: int) -> bool:
    """Tell whether `text` is a decimal number in [low, high)."""
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    return digits.isdigit() and low <= int(text) < high


def compile_header(match: HeaderMatch, *, field: str = "") -> Callable[[list[bytes]], bool]:
    """Return the test as a function of all values of the header; [] means it is not there."""
    invert = match.invert
    if match.int_range is not None:
        low, high = match.int_range

        def in_range(value: bytes) -> bool:
            return int_in_range(value, low, high)

        test: Callable[[bytes], bool] = in_range
    elif match.value is None:
        return lambda values: bool(values) != invert
    else:
        test = compile_string(match.value, field=field)
    missing_as_empty = match.treat_missing_as_empty

    def passes(values: list[bytes]) -> bool:
        if not values:
            # Envoy: a test of a value that is not there never holds, inverted or not.
            return missing_as_empty and test(b"") != invert
        return any(test(value) for value in values) != invert

    return passes


def query_parameter(query: bytes, name: bytes) -> bytes | None:
    """Return the first value of `name` in a query string as it stands (Envoy decodes nothing)."""
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == name:
            return value
    return None


def compile_query(matches: Sequence[QueryMatch], *, field: str = "") -> Callable[[bytes], bool]:
    """Return the conjunction of `matches` as a function of the query string (without `?`)."""
    tests = [
        (match.name, compile_string(match.value, field=field) if match.value else None)
        for match in matches
    ]

    def matches_all(query: bytes) -> bool:
        for name, test in tests:
            value = query_parameter(query, name)
            if value is None or (test is not None and not test(value)):
                return False
        return True

    return matches_all

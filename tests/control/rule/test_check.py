"""Checks that several kinds share."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.api.field import Problems
from meshlab.control.rule import check


def refused(function: object, value: object) -> bool:
    problems = Problems()
    function(problems, "field", value)  # type: ignore[operator]  # each check has this shape
    assert all(each.field.startswith("field") for each in problems.problems)
    return bool(problems.problems)


@pytest.mark.parametrize(
    "name", ["*", "*.example.com", "reviews", "a.b.c", "10.0.0.1", "::1", "a_b.c", "a.b."]
)
def test_host(name: str) -> None:
    assert not refused(check.host, name)


@pytest.mark.parametrize(
    "name", ["", "a..b", "*a.b", "a.*", "http://a", "a/b", "a:80", "-a", "x" * 64, "*.*"]
)
def test_no_host(name: str) -> None:
    assert refused(check.host, name)


def test_the_whole_host_is_shown() -> None:
    problems = Problems()
    check.host(problems, "spec.hosts[0]", "*.*.x")
    assert [problem.found for problem in problems.problems] == ["*.*.x"]


@pytest.mark.parametrize(
    ("seconds", "bad"),
    [
        (None, False),
        (0.001, False),
        (1.5, False),
        (0.0, True),
        (0.0005, True),
        (1.0005, True),
        (-1.0, True),
    ],
)
def test_duration(seconds: float | None, bad: bool) -> None:
    assert refused(check.duration, seconds) is bad


def test_zero_timeout_is_off() -> None:
    assert not refused(check.timeout, 0.0)
    assert refused(check.timeout, -1.0)


@pytest.mark.parametrize(
    ("namespaces", "bad"),
    [
        ((), False),
        (("*",), False),
        ((".", "shop"), False),
        (("*", "shop"), True),
        (("shop", "shop"), True),
        (("Shop",), True),
    ],
)
def test_export_to(namespaces: tuple[str, ...], bad: bool) -> None:
    assert refused(check.export_to, namespaces) is bad


@pytest.mark.parametrize(
    "text",
    [
        "/v[0-9]+/.*",
        "(?i)abc",
        "(?P<name>x)",
        "[]a+]++?"[:5],
        r"\d{1,1000}",
        r"a\+",
        "[(?=]",
        "a|b",
        r"\\1",
    ],
)
def test_regex(text: str) -> None:
    assert not refused(check.regex, text)


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("a(?=b)", "look-ahead"),
        ("a(?!b)", "look-ahead"),
        ("(?<=a)b", "look-behind"),
        ("(?<!a)b", "look-behind"),
        (r"(a)\1", "back-reference"),
        ("(?P<n>a)(?P=n)", "back-reference"),
        ("(?>a)", "atomic group"),
        ("(a)?(?(1)b|c)", "condition"),
        ("a++", "possessive repetition"),
        ("a{2}+", "possessive repetition"),
        ("a{1001}", "repetition of more than 1000"),
        ("a{1,1001}", "repetition of more than 1000"),
        ("[a-z]+", ""),
        ("[^]+]+", ""),
    ],
)
def test_foreign_to_re2(text: str, foreign: str) -> None:
    assert check.foreign_to_re2(text) == foreign
    assert refused(check.regex, text) is bool(foreign)


@pytest.mark.parametrize("text", ["", "(", "[", "a**", "[[:alpha:]]", r"\pL", "x" * 1025])
def test_no_regex(text: str) -> None:
    assert refused(check.regex, text)


@given(st.text(alphabet="ab()[]{}?*+\\^$|.1,=!<P>:", max_size=12))
def test_what_passes_compiles(text: str) -> None:
    if not refused(check.regex, text):
        re.compile(text)

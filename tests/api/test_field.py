"""Durations, paths and the decoder's words."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.api.field import (
    Bytes,
    Decoder,
    Duration,
    Port,
    child,
    document_name,
    format_duration,
    item,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("0", 0.0, id="bare zero"),
        pytest.param("1.5s", 1.5, id="fraction"),
        pytest.param(".5s", 0.5, id="no digit before the point"),
        pytest.param("100ms", 0.1, id="milliseconds"),
        pytest.param("1h30m", 5400.0, id="compound"),
        pytest.param("2µs", 2e-6, id="micro sign"),
        pytest.param("-1m", -60.0, id="negative"),
    ],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "1d", "1.s.", "ms1", "1s1"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-6, "1µs"),
        (0.025, "25ms"),
        (1.5, "1.5s"),
        (60, "1m0s"),
        (3600, "1h0m0s"),
        (-1, "-1s"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**10))
def test_printed_durations_are_read_again(millis: int) -> None:
    assert parse_duration(format_duration(millis / 1000)) == pytest.approx(millis / 1000)


@pytest.mark.parametrize(
    ("python", "document"),
    [
        ("per_try_timeout", "perTryTimeout"),
        ("consecutive_5xx_errors", "consecutive5xxErrors"),
        ("http1_max_pending_requests", "http1MaxPendingRequests"),
        ("from_", "from"),
    ],
)
def test_document_name(python: str, document: str) -> None:
    assert document_name(python) == document


def test_paths() -> None:
    assert child(item(child("spec", "http"), 0), "timeout") == "spec.http[0].timeout"
    assert item("headers", "x-user") == "headers[x-user]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    ONE_OF: ClassVar = (("port", "mode"),)
    port: Port | None = None
    mode: Literal["A", "B"] | None = None
    wait: Duration | None = None
    data: Bytes | None = None
    share: float = 0.0
    on: bool = False
    inner: tuple[Inner, ...] = ()


def test_decodes_each_type() -> None:
    decoder = Decoder()
    document = {
        "port": 80,
        "wait": "1.5s",
        "data": "aGk=",
        "share": 3,
        "on": True,
        "inner": [{"name": "x"}],
    }
    made = decoder.model(Model, document, "spec")
    assert made == Model(
        port=80, wait=1.5, data=b"hi", share=3.0, on=True, inner=(Inner(name="x"),)
    )
    assert decoder.problems == []


def test_null_is_unset() -> None:
    assert Decoder().model(Model, {"port": None, "inner": None}, "") == Model()


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        pytest.param(
            {"port": 0},
            "spec.port: is out of range (found 0; allowed: 1 to 65535)",
            id="out of range",
        ),
        pytest.param(
            {"port": "80"},
            "spec.port: must be a whole number (found 80; allowed: a whole number). "
            "Remove the quotes: 80",
            id="number as text",
        ),
        pytest.param(
            {"port": True},
            "spec.port: must be a whole number (found true; allowed: a whole number)",
            id="true is no number",
        ),
        pytest.param(
            {"mode": "C"},
            "spec.mode: is not one of the values it may have (found C; allowed: A, B)",
            id="not of the choice",
        ),
        pytest.param(
            {"port": 1, "mode": "A"},
            "spec: sets fields that exclude each other (found port and mode; "
            "allowed: one of port, mode). Keep port or mode",
            id="exclusive",
        ),
        pytest.param(
            {"wait": 3},
            "spec.wait: is not a duration (found 3; allowed: such as 1.5s, 100ms, 1h30m). Write 3s",
            id="duration without unit",
        ),
        pytest.param(
            {"data": "?"},
            "spec.data: is not base64 (found ?; allowed: bytes in base64)",
            id="not base64",
        ),
        pytest.param(
            {"inner": [{}]},
            "spec.inner[0].name: is missing (found nothing; allowed: a text)",
            id="required",
        ),
        pytest.param(
            {"inner": [{"name": 5}]},
            'spec.inner[0].name: must be a text (found 5; allowed: a text). Put it in quotes: "5"',
            id="text without quotes",
        ),
        pytest.param(
            {"inner": {"name": "x"}},
            "spec.inner: must be a list (found {'name': 'x'}; allowed: a list)",
            id="not a list",
        ),
        pytest.param(
            {"prot": 80},
            "spec.prot: is not a field here (found 80; "
            "allowed: port, mode, wait, data, share, on, inner). Did you mean 'port'?",
            id="unknown field",
        ),
        pytest.param([], "spec: must be an object (found []; allowed: an object)", id="no object"),
    ],
)
def test_refuses(document: object, problem: str) -> None:
    decoder = Decoder()
    assert decoder.model(Model, document, "spec") is None
    assert [str(each) for each in decoder.problems] == [problem]


def test_reports_everything_at_once() -> None:
    decoder = Decoder("Model a/b")
    decoder.model(Model, {"port": 0, "wait": "x", "inner": [{}, {"name": 1}]}, "spec")
    assert sorted((each.object, each.field) for each in decoder.problems) == [
        ("Model a/b", "spec.inner[0].name"),
        ("Model a/b", "spec.inner[1].name"),
        ("Model a/b", "spec.port"),
        ("Model a/b", "spec.wait"),
    ]

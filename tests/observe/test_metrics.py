import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.errors import ProtocolError
from meshlab.observe.metrics import Sample, parse, rates, total


@pytest.mark.parametrize(
    ("line", "sample"),
    [
        pytest.param("up 1", Sample("up", {}, 1.0), id="bare"),
        pytest.param('a{b="c",d="e"} 2.5 17', Sample("a", {"b": "c", "d": "e"}, 2.5), id="time"),
        pytest.param('a{b="x}\\"\\n\\\\,"} 1', Sample("a", {"b": 'x}"\n\\,'}, 1.0), id="escapes"),
        pytest.param(
            'a{le="+Inf",} +Inf', Sample("a", {"le": "+Inf"}, float("inf")), id="infinite"
        ),
    ],
)
def test_parse(line: str, sample: Sample) -> None:
    assert parse(f"# HELP x\n# TYPE x counter\n\n{line}\n") == [sample]


@pytest.mark.parametrize("line", ["a", "a{b=c} 1", "a x", '{b="c"} 1', 'a{b="c" 1'])
def test_what_is_no_sample_is_named(line: str) -> None:
    with pytest.raises(ProtocolError, match="not a Prometheus sample"):
        parse(line)


@given(st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")))))  # fmt: skip
def test_any_label_value_comes_back(labels: dict[str, str]) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inside = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    assert parse(f"m{{{inside}}} 1") == [Sample("m", labels, 1.0)]


def test_total_by_labels() -> None:
    samples = parse('r{c="200",d="x"} 2\nr{c="200",d="y"} 3\nr{c="500"} 7\nq{c="200"} 9')
    assert total(samples, "r", c="200") == 5.0


def test_rates() -> None:
    before = parse('r{c="a"} 10\nr{c="b"} 50')
    after = parse('r{c="a"} 30\nr{c="b"} 4\nr{c="new"} 6')
    assert rates(before, after, 2.0) == {
        ("r", (("c", "a"),)): 10.0,
        ("r", (("c", "b"),)): 2.0,  # its process restarted
        ("r", (("c", "new"),)): 3.0,
    }

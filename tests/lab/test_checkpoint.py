from collections.abc import Iterator

import pytest

from meshlab.errors import ClusterError
from meshlab.lab.checkpoint import MIME, Checkpoint, Finding, judge
from meshlab.lab.hint import Ladder

GOOD = Finding(passed=True, observed="2/2", expected="2/2")
BAD = Finding(passed=False, observed="1/1", expected="2/2", cause="made before the label was there")


def checkpoint(*findings: Finding | Exception, timeout: float = 1.0) -> Checkpoint:
    left: Iterator[Finding | Exception] = iter(findings)
    last = findings[-1]

    def look(lab: object) -> Finding:
        found = next(left, last)
        if isinstance(found, Exception):
            raise found
        return found

    return Checkpoint(
        name="a.b", covers="2 pods", look=look, hints=("n", "w", "c"), timeout=timeout
    )


def test_it_waits_until_it_is_true() -> None:
    result = judge(checkpoint(BAD, BAD, GOOD), None)
    assert result
    assert 0.15 < result.seconds < 1


def test_it_names_the_cause_when_the_time_is_over() -> None:
    result = judge(checkpoint(BAD, timeout=0.15), None)
    assert not result
    assert result.text() == (
        "✗ a.b: made before the label was there\n  seen: 1/1; expected: 2/2 (checked 2 pods)"
    )


def test_what_cannot_come_right_by_itself_is_not_waited_for() -> None:
    final = Finding(passed=False, observed="x", expected="y", again=False)
    assert judge(checkpoint(final, timeout=60), None).seconds < 1


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        pytest.param(
            ClusterError("no such cluster", fix="Run meshlab up"),
            "no such cluster. Run meshlab up",
            id="known",
        ),
        pytest.param(KeyError("spec"), "KeyError: 'spec' (", id="a bug of ours"),
    ],
)
def test_it_never_raises(error: Exception, cause: str) -> None:
    result = judge(checkpoint(error), None)
    assert (bool(result), result.cause.startswith(cause)) == (False, True)


def test_it_leaves_a_record() -> None:
    bundle = judge(checkpoint(GOOD), None)._repr_mimebundle_()
    record = bundle[MIME]
    assert {key: record[key] for key in ("name", "passed", "observed", "covers", "hint")} == {
        "name": "a.b", "passed": True, "observed": "2/2", "covers": "2 pods", "hint": None,
    }  # fmt: skip
    assert "a.b" in bundle["text/html"]


def test_hints_are_climbed_one_by_one() -> None:
    ladder = Ladder()
    texts = [repr(ladder.next("a.b", ("think", "look there", "do this"))) for _ in range(5)]
    assert texts == [
        "hint 1 of 4 (a nudge): think",
        "hint 2 of 4 (where to look): look there",
        "hint 3 of 4 (the command): do this",
        'hint 4 of 4 (the way out): lab.solve("a.b") does this step for you',
        'hint 4 of 4 (the way out): lab.solve("a.b") does this step for you',
    ]
    ladder.reset("a.b")
    assert ladder.next("a.b", ("think",)).rung == 0

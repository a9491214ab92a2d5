"""Checkpoints: was the step done, and if not, why not?

In a learner's hands one never raises: it says in a line what it saw and what the cause is (not the
answer) and offers a hint. Where nobody reads (papermill) the same checkpoint raises.
"""

import html
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from meshlab.errors import MeshlabError
from meshlab.lab.hint import Hint

MIME = "application/vnd.meshlab.checkpoint+json"
POLL_SECONDS = 0.1


class CheckpointError(AssertionError):
    """A checkpoint failed where nobody reads what it shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found."""

    passed: bool
    observed: str
    expected: str
    cause: str = ""
    """Why it is not as expected: what is wrong, not what to do."""
    again: bool = True
    """Whether it may come right by itself: look again until the time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A question about the cluster with its hints.

    Attributes:
        name: stable, `lesson.what`.
        covers: exactly what is looked at ("300 requests through the ingress gateway").
        look: looks once; gets the lab.
        hints: nudge, where to look, the command.
        timeout: seconds for it to come true.
    """

    name: str
    covers: str
    look: Callable[[Any], Finding]
    hints: Sequence[str]
    timeout: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome; shows itself. True when passed."""

    name: str
    passed: bool
    observed: str
    expected: str
    cause: str
    covers: str
    seconds: float
    hint: Hint | None = field(default=None)

    def __bool__(self) -> bool:
        return self.passed

    def text(self) -> str:
        if self.passed:
            return f"✓ {self.name}: {self.observed} (checked {self.covers}, {self.seconds:.1f} s)"
        lines = [
            f"✗ {self.name}: {self.cause or 'not yet'}",
            f"  seen: {self.observed}; expected: {self.expected} (checked {self.covers})",
        ]
        return "\n".join([*lines, *([f"  {self.hint!r}"] if self.hint else [])])

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, Any]:
        return {
            MIME: self.as_json(),
            "text/html": self.html(),
            "text/plain": self.text(),
        }

    def as_json(self) -> dict[str, Any]:
        """Return what an instructor's board or a report reads."""
        found = asdict(self)
        found["hint"] = self.hint.rung if self.hint else None
        return found

    def html(self) -> str:
        shade = "#228833" if self.passed else "#AA3377"
        mark, _, rest = html.escape(self.text()).partition("\n")
        more = f"<div style='opacity:.8;white-space:pre-wrap'>{rest}</div>" if rest else ""
        return (
            f"<div style='border-left:4px solid {shade};padding:.2em .8em;margin:.2em 0'>"
            f"<b style='color:{shade}'>{mark[:1]}</b>{mark[1:]}{more}</div>"
        )


def judge(checkpoint: Checkpoint, lab: Any) -> Result:
    """Look until it is true or the time is over; what goes wrong while looking is a cause, too."""
    began = time.monotonic()
    while True:
        finding = _look(checkpoint, lab)
        passed = time.monotonic() - began
        if finding.passed or not finding.again or passed > checkpoint.timeout:
            return Result(
                name=checkpoint.name,
                passed=finding.passed,
                observed=finding.observed,
                expected=finding.expected,
                cause=finding.cause,
                covers=checkpoint.covers,
                seconds=passed,
            )
        time.sleep(POLL_SECONDS)


def _look(checkpoint: Checkpoint, lab: Any) -> Finding:
    try:
        return checkpoint.look(lab)
    except MeshlabError as error:
        return _could_not(str(error))
    except Exception as error:
        # The top of a task: a checkpoint that is broken must not end a learner's cell.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return _could_not(f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})")


def _could_not(why: str) -> Finding:
    return Finding(
        passed=False, observed="could not look", expected="an answer", cause=why, again=False
    )

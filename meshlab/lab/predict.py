"""A prediction is a value in a cell; after the measurement it is shown beside what came out."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was expected and what was measured. Nobody is graded: a wrong guess teaches most."""

    question: str
    guess: object
    measured: object
    near: bool | None
    """None: no guess was made."""

    def text(self) -> str:
        if self.near is None:
            return f"{self.question} You made no prediction; it is {self.measured}."
        mark = "as you said" if self.near else f"you said {self.guess}"
        return f"{self.question} Measured: {self.measured}, {mark}."

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return {"text/plain": self.text(), "text/html": f"<div>{html.escape(self.text())}</div>"}


def reveal(question: str, guess: object, measured: object, *, tolerance: float = 0.0) -> Prediction:
    """Compare; numbers may differ by `tolerance`, texts in case and space."""
    return Prediction(
        question=question, guess=guess, measured=measured, near=_near(guess, measured, tolerance)
    )


def _near(guess: object, measured: object, tolerance: float) -> bool | None:
    if guess is None or guess is ...:
        return None
    if isinstance(guess, int | float) and isinstance(measured, int | float):
        return abs(guess - measured) <= tolerance
    return str(guess).strip().casefold() == str(measured).strip().casefold()

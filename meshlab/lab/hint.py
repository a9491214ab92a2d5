"""Hints come one rung at a time: a nudge, where to look, the command; last the lab does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RUNGS = ("a nudge", "where to look", "the command")


@dataclass(frozen=True, slots=True)
class Hint:
    """One rung, as it is shown."""

    checkpoint: str
    rung: int
    """0 to 2, then 3: the solution."""
    text: str

    def __repr__(self) -> str:
        name = RUNGS[self.rung] if self.rung < len(RUNGS) else "the way out"
        return f"hint {self.rung + 1} of {len(RUNGS) + 1} ({name}): {self.text}"

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return {"text/plain": repr(self)}


@dataclass(slots=True)
class Ladder:
    """How far each checkpoint's hints were climbed."""

    climbed: dict[str, int] = field(default_factory=dict)

    def next(self, checkpoint: str, hints: Sequence[str]) -> Hint:
        """Return the next rung; the last one is shown again and again."""
        rung = min(self.climbed.get(checkpoint, -1) + 1, len(hints))
        self.climbed[checkpoint] = rung
        if rung < len(hints):
            return Hint(checkpoint, rung, hints[rung])
        return Hint(checkpoint, rung, f'lab.solve("{checkpoint}") does this step for you')

    def reset(self, checkpoint: str) -> None:
        """Begin at the bottom: the checkpoint was passed."""
        self.climbed.pop(checkpoint, None)

"""Named steps with progress, each with its way back.

Making a cluster or an installation is a list of phases. When one fails, those done before are
undone, last first, and the error says which phase it was.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshlab.errors import ClusterError, MeshlabError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a phase reports: it began, or it is done."""

    name: str
    seconds: float = 0.0
    done: bool = False


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One step."""

    name: str
    """What happens, for people: `API server`."""
    do: Callable[[], None]
    """Do it and wait until it is done; raises MeshlabError."""
    undo: Callable[[], None] | None = None


def run(phases: Iterable[Phase], progress: Progress) -> None:
    """Do all phases in order.

    Raises:
        ClusterError: one failed; what was done before is undone.
    """
    done: list[Phase] = []
    for phase in phases:
        began = time.monotonic()
        progress(Step(name=phase.name))
        done.append(phase)  # a phase that fails half-way is undone, too
        try:
            phase.do()
        except (MeshlabError, OSError) as error:
            undo(done)
            raise ClusterError(f"{phase.name}: {error}") from error
        except BaseException:
            undo(done)
            raise
        progress(Step(name=phase.name, seconds=time.monotonic() - began, done=True))


def undo(phases: list[Phase]) -> None:
    for phase in reversed(phases):
        if phase.undo:
            phase.undo()

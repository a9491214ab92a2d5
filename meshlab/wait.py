"""Waiting for a condition of the cluster, and saying what is still missing while it lasts."""

import sys
import time
from collections.abc import Callable

from meshlab.errors import ClusterError

LOOK_EVERY = 0.1
SAY_AFTER = 1.0
"""Seconds of silence before the wait says what it waits for."""


def say(line: str) -> None:
    """Tell how things go: in a notebook on standard output, which it shows without alarm.

    In a terminal on standard error, so that the output of `$(meshlab …)` is the result alone.
    """
    stream = sys.stdout if "ipykernel" in sys.modules else sys.stderr
    stream.write(f"{line}\n")
    stream.flush()


def until(
    missing: Callable[[], str],
    *,
    what: str,
    timeout: float,
    fix: str = "",
    progress: Callable[[str], None] = say,
) -> float:
    """Wait until nothing is missing; return the seconds that took.

    Args:
        missing: says what is still missing, "" when all is there.
        what: the condition, for the error.
        timeout: seconds.
        fix: the next step, for the error.
        progress: told what is missing, after a second and then when that changes.

    Raises:
        ClusterError: it did not come about in time; `found` is what was missing last.
    """
    start = time.monotonic()
    said = ""
    while left := missing():
        passed = time.monotonic() - start
        if passed > timeout:
            raise ClusterError(f"{what} not within {timeout:g} s", found=left, fix=fix)
        if passed > SAY_AFTER and left != said:
            progress(f"waiting: {left}")
            said = left
        time.sleep(LOOK_EVERY)
    return time.monotonic() - start

"""Tasks of the cluster's process: kept from the garbage collector, named, crashes reported."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

log = logging.getLogger(__name__)
running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
    """Start `work` and keep it; a crash goes to the log with its traceback."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    running.add(task)
    task.add_done_callback(report)
    return task


def report(task: asyncio.Task[Any]) -> None:
    running.discard(task)
    if not task.cancelled() and (error := task.exception()):
        log.error("%s crashed", task.get_name(), exc_info=error)

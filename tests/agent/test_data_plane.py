"""The agent's child lives until it is told to end."""

import asyncio
import sys
from pathlib import Path

from meshlab.agent.data_plane import DataPlane

COUNTING = "import sys; open(sys.argv[1], 'a').write('.'); raise SystemExit(3)"
OBEDIENT = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7));"
    "open(sys.argv[1], 'a').write('.'); time.sleep(60)"
)


def starts(mark: Path) -> int:
    return len(mark.read_text()) if mark.exists() else 0


async def started(mark: Path, times: int) -> None:
    while starts(mark) < times:  # noqa: ASYNC110 - another process's file
        await asyncio.sleep(0.01)


def run_until(code: str, mark: Path, times: int) -> tuple[int, int]:
    """Run a child until it has started so often; return its exit code and the restarts."""

    async def scenario() -> tuple[int, int]:
        child = DataPlane([sys.executable, "-c", code, str(mark)])
        async with asyncio.timeout(20):
            running = asyncio.ensure_future(child.run())
            await started(mark, times)
            await child.stop()
            return await running, child.restarts

    return asyncio.run(scenario())


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    _, restarts = run_until(COUNTING, tmp_path / "mark", 3)
    assert restarts >= 2


def test_the_child_is_asked_to_end_and_its_exit_code_kept(tmp_path: Path) -> None:
    assert run_until(OBEDIENT, tmp_path / "mark", 1) == (7, 0)

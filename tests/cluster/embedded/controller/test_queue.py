import asyncio

from meshlab.cluster.embedded.controller.queue import Queue, work
from meshlab.errors import ClusterError


def test_a_key_waits_once_and_never_runs_beside_itself() -> None:
    async def check() -> None:
        queue: Queue[str] = Queue()
        for key in ("a", "b", "a"):
            queue.add(key)
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        queue.add("a")
        assert len(queue) == 2  # the two being worked on; "a" is only noted
        queue.done("b")
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    asyncio.run(check())


def test_of_two_times_the_earlier_counts() -> None:
    async def check() -> list[str]:
        queue: Queue[str] = Queue()
        queue.add_after("late", 0.02)
        queue.add_after("soon", 60)
        queue.add_after("soon", 0.001)
        queue.add_after("soon", 60)
        return [await queue.get(), await queue.get()]

    assert asyncio.run(asyncio.wait_for(check(), 5)) == ["soon", "late"]


def test_a_failed_key_comes_again() -> None:
    async def check() -> list[str]:
        queue: Queue[str] = Queue(base_delay=0.001)
        seen: list[str] = []
        finished = asyncio.Event()

        async def reconcile(key: str) -> None:
            seen.append(key)
            if len(seen) == 1:
                raise ClusterError("not yet")
            if len(seen) == 2:
                raise ZeroDivisionError
            finished.set()

        queue.add("a")
        worker = asyncio.ensure_future(work(queue, reconcile))
        await finished.wait()
        worker.cancel()
        return seen

    assert asyncio.run(asyncio.wait_for(check(), 5)) == ["a", "a", "a"]

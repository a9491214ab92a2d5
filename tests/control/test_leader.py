"""Who may write."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_cluster import fake_cluster

from meshlab.control import leader
from meshlab.control.leader import Leader, may_take, taken
from meshlab.control.registry.api import Api, from_kubeconfig

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def lease(holder: str, seconds_ago: float) -> Any:
    renewed = (NOW - dt.timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}
    return {"metadata": {"name": "l"}, "spec": spec}


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param(lease("a", 1), True, id="its own"),
        pytest.param(lease("b", 1), False, id="another's, fresh"),
        pytest.param(lease("b", 16), True, id="another's, over"),
        pytest.param(lease("", 1), True, id="given back"),
        pytest.param({"metadata": {}}, True, id="empty"),
    ],
)
def test_may_take(held: Any, *, expected: bool) -> None:
    assert may_take(held, "a", NOW) is expected


def test_taking_over_counts_a_transition_and_renewing_does_not() -> None:
    mine = taken(lease("b", 20), "a", NOW)
    assert mine["spec"]["leaseTransitions"] == 1
    assert taken(mine, "a", NOW)["spec"]["leaseTransitions"] == 1


def test_one_works_and_the_next_follows_when_it_gives_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "RETRY", 0.02)

    async def whole() -> list[str]:
        async with asyncio.timeout(20), fake_cluster(tmp_path) as (_, kubeconfig):
            api = Api(from_kubeconfig(kubeconfig))
            works: asyncio.Queue[str] = asyncio.Queue()

            def contender(name: str) -> tuple[Leader, asyncio.Task[None]]:
                made = Leader(api, "l", "ns", name)

                async def work() -> None:
                    works.put_nowait(name)
                    await asyncio.Event().wait()

                return made, asyncio.ensure_future(made.run(work))  # type: ignore[return-value]

            first, running = contender("a")
            order = [await works.get()]
            _, second = contender("b")
            await asyncio.sleep(0.1)
            order.append("nobody" if works.empty() else works.get_nowait())
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await first.release()
            order.append(await works.get())
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            await api.close()
            return order

    assert asyncio.run(whole()) == ["a", "nobody", "b"]

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from meshlab.cluster.embedded.controller.informer import Informer, owner_or_orphan

Object = dict[str, Any]


def pod(revision: int, *, uid: str = "u1", owner: str = "rs1") -> Object:
    return {
        "metadata": {
            "name": "a",
            "namespace": "shop",
            "uid": uid,
            "resourceVersion": str(revision),
            "ownerReferences": [{"uid": owner, "controller": True}] if owner else [],
        }
    }


class Watched:
    """A client whose watch yields what it was given."""

    def __init__(self, *changes: tuple[str, Object]) -> None:
        self._changes = changes

    async def watch(self, _resource: str) -> AsyncIterator[tuple[str, Object]]:
        for change in self._changes:
            yield change


def informer(*changes: tuple[str, Object]) -> Informer:
    return Informer(Watched(*changes), "pods", index=owner_or_orphan)  # type: ignore[arg-type]


def follow(one: Informer) -> list[tuple[Object | None, Object | None]]:
    seen: list[tuple[Object | None, Object | None]] = []
    asyncio.run(one.run(lambda before, after: seen.append((before, after))))
    return seen


def test_before_and_after_are_told() -> None:
    changes = [("ADDED", pod(1)), ("MODIFIED", pod(2)), ("DELETED", pod(3))]
    one = informer(*changes)
    assert follow(one) == [(None, pod(1)), (pod(1), pod(2)), (pod(3), None)]
    assert one.objects == {}
    assert one.indexed("rs1") == []


def test_the_index_follows_the_owner() -> None:
    one = informer()
    one.remember(pod(1))
    one.remember(pod(2, owner=""))
    assert one.indexed("rs1") == []
    assert one.indexed(("orphan", "shop")) == [pod(2, owner="")]


def test_an_older_echo_of_ones_own_write_is_no_news() -> None:
    one = informer(("ADDED", pod(1)), ("MODIFIED", pod(5)))
    one.remember(pod(5))
    assert follow(one) == [(pod(5), pod(5)), (pod(5), pod(5))]
    assert one.indexed("rs1") == [pod(5)]


def test_what_one_removed_oneself_does_not_come_back_by_an_echo() -> None:
    one = informer(("MODIFIED", pod(2)), ("DELETED", pod(3)), ("ADDED", pod(4, uid="u2")))
    one.remember(pod(1))
    one.forget(pod(1))
    assert one.objects == {}
    assert follow(one) == [(None, None), (pod(3), None), (None, pod(4, uid="u2"))]


def test_a_new_object_of_the_name_replaces_the_old() -> None:
    one = informer()
    one.remember(pod(3, uid="u2", owner="rs2"))
    one.remember(pod(2))  # late news of the one before
    assert one.indexed("rs2") == [pod(3, uid="u2", owner="rs2")]
    assert one.indexed("rs1") == []

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.cluster.embedded.controller.rollout import (
    Limits,
    Revision,
    new_revision_size,
    proportional_scale,
    resolve_limits,
    rolling_update,
)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "limits"),
    [
        pytest.param(10, "25%", "25%", (3, 2), id="surge rounds up, unavailable down"),
        pytest.param(1, "25%", "25%", (1, 0), id="one pod: its successor comes first"),
        pytest.param(3, 1, 1, (1, 1), id="numbers as they are"),
        pytest.param(3, 0, "10%", (0, 1), id="both nothing: one may be unavailable"),
        pytest.param(2, 0, 5, (0, 2), id="no more unavailable than there are"),
        pytest.param(0, "25%", "25%", (0, 0), id="no pods"),
    ],
)
def test_resolve_limits(
    replicas: int, surge: int | str, unavailable: int | str, limits: tuple[int, int]
) -> None:
    assert resolve_limits(replicas, surge, unavailable) == Limits(
        replicas=replicas, max_surge=limits[0], max_unavailable=limits[1]
    )


def rev(name: str, replicas: int, available: int | None = None, maximum: int = 0) -> Revision:
    return Revision(
        name=name,
        replicas=replicas,
        available=replicas if available is None else available,
        max_replicas=maximum,
        created=name,
    )


@pytest.mark.parametrize(
    ("limits", "new", "old", "step"),
    [
        pytest.param((3, 1, 1), rev("b", 0), [rev("a", 3)], {"b": 1}, id="first up by the surge"),
        pytest.param(
            (3, 1, 1), rev("b", 1, 0), [rev("a", 3)], {"a": 2}, id="one old may go meanwhile"
        ),
        pytest.param(
            (3, 1, 0), rev("b", 1, 0), [rev("a", 3)], {}, id="none may go: wait for the new one"
        ),
        pytest.param(
            (3, 1, 0), rev("b", 1, 1), [rev("a", 3)], {"a": 2}, id="it is available: one old goes"
        ),
        pytest.param(
            (3, 1, 1), rev("c", 1, 0), [rev("a", 2), rev("b", 1, 0)], {"b": 0}, id="broken first"
        ),
        pytest.param((3, 1, 1), rev("b", 3), [rev("a", 0, 0)], {}, id="done"),
        pytest.param((2, 1, 1), rev("b", 3), [], {"b": 2}, id="scaled down"),
        pytest.param((0, 0, 0), rev("b", 0), [rev("a", 2)], {"a": 0}, id="to nothing"),
    ],
)
def test_rolling_update(
    limits: tuple[int, int, int], new: Revision, old: list[Revision], step: dict[str, int]
) -> None:
    replicas, surge, unavailable = limits
    bounds = Limits(replicas=replicas, max_surge=surge, max_unavailable=unavailable)
    assert rolling_update(bounds, new, old) == step


def test_a_new_revision_is_made_within_the_surge() -> None:
    limits = Limits(replicas=4, max_surge=1, max_unavailable=1)
    assert new_revision_size(limits, Revision(name=""), [rev("a", 4)]) == 1
    assert new_revision_size(limits, Revision(name=""), []) == 4


@given(
    st.integers(0, 12),
    st.integers(0, 5),
    st.integers(0, 5),
    st.lists(st.integers(0, 8), min_size=1, max_size=4),
)
def test_a_rollout_ends_and_never_leaves_its_limits(
    replicas: int, surge: int, unavailable: int, sizes: list[int]
) -> None:
    limits = resolve_limits(replicas, surge, unavailable)
    now = {str(number): size for number, size in enumerate(sizes)}
    new = str(len(sizes))
    now[new] = 0
    lowest, highest = min(sum(sizes), limits.min_available), max(sum(sizes), limits.max_total)
    for _ in range(100):
        others = [rev(name, size) for name, size in now.items() if name != new]
        step = rolling_update(limits, rev(new, now[new]), others)
        if not step:
            break
        now |= step
        assert lowest <= sum(now.values()) <= highest
    assert now == {**dict.fromkeys(now, 0), new: replicas}


@pytest.mark.parametrize(
    ("limits", "revisions", "sizes"),
    [
        pytest.param(
            (10, 3, 2), [rev("a", 5, 5, 8), rev("b", 3, 3, 8)], {"a": 8, "b": 5}, id="grow"
        ),
        pytest.param(
            (5, 1, 1), [rev("a", 8, 8, 13), rev("b", 5, 5, 13)], {"a": 4, "b": 2}, id="shrink"
        ),
        pytest.param((0, 0, 0), [rev("a", 3), rev("b", 1)], {"a": 0, "b": 0}, id="to nothing"),
        pytest.param((3, 1, 1), [rev("a", 3), rev("b", 1)], {}, id="as it is"),
    ],
)
def test_proportional_scale(
    limits: tuple[int, int, int], revisions: list[Revision], sizes: dict[str, int]
) -> None:
    bounds = Limits(replicas=limits[0], max_surge=limits[1], max_unavailable=limits[2])
    assert proportional_scale(bounds, revisions, sum(r.replicas for r in revisions)) == sizes

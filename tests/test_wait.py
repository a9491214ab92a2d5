import pytest

from meshlab.errors import ClusterError
from meshlab.wait import until


def test_waits_until_nothing_is_missing() -> None:
    left = ["two", "one", ""]
    seconds = until(lambda: left.pop(0), what="all pods ready", timeout=5)
    assert 0.2 <= seconds < 5
    assert left == []


def test_tells_what_was_missing_last() -> None:
    said: list[str] = []
    with pytest.raises(ClusterError) as caught:
        until(
            lambda: "pod a",
            what="all pods ready",
            timeout=1.1,
            fix="Look.",
            progress=said.append,
        )
    assert str(caught.value) == "all pods ready not within 1.1 s (found pod a). Look."
    assert said == ["waiting: pod a"]

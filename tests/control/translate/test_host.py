"""Host names: completion, wildcards, visibility."""

import pytest

from meshlab.control.translate.host import complete, covers, overlap, specificity, visible


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.other", "reviews.other"),
        ("*", "*"),
        ("www.example.com", "www.example.com"),
    ],
)
def test_complete(name: str, full: str) -> None:
    assert complete(name, "shop", "cluster.local") == full


@pytest.mark.parametrize(
    ("pattern", "name", "included"),
    [
        ("*", "a.b", True),
        ("*.b", "a.b", True),
        ("*.b", "x.a.b", True),
        ("*.b", "b", False),
        ("*.b", "*.a.b", True),
        ("*.a.b", "*.b", False),
        ("a.b", "a.b", True),
        ("a.b", "*.b", False),
    ],
)
def test_covers(pattern: str, name: str, included: bool) -> None:
    assert covers(pattern, name) is included


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("*", "a.b", "a.b"),
        ("a.b", "*.b", "a.b"),
        ("*.b", "*.a.b", "*.a.b"),
        ("*", "*", "*"),
        ("a.b", "c.d", ""),
    ],
)
def test_overlap(one: str, other: str, both: str) -> None:
    assert overlap(one, other) == both


def test_specificity() -> None:
    assert max(["*", "*.b", "a.b", "*.example.a.b"], key=specificity) == "a.b"
    assert max(["*", "*.b", "*.a.b"], key=specificity) == "*.a.b"


@pytest.mark.parametrize(
    ("export_to", "viewer", "seen"),
    [
        ((), "other", True),
        (("*",), "other", True),
        ((".",), "shop", True),
        ((".",), "other", False),
        (("other",), "other", True),
        (("other",), "shop", False),
    ],
)
def test_visible(export_to: tuple[str, ...], viewer: str, seen: bool) -> None:
    assert visible(export_to, "shop", viewer) is seen

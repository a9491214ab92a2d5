"""Image names."""

import sys

import pytest

from meshlab.cluster.embedded.node.image import ImageError, Images, decode, registered, split

BLUE = decode(
    {
        "name": "xpiritbv/bluegreen",
        "tags": ["blue"],
        "entrypoint": ["python", "-m", "apps"],
        "cmd": ["--port", "80"],
        "bin": {"tool": ["python", "-m", "tool"]},
    }
)
BUSYBOX = decode({"name": "busybox"})
IMAGES = Images([BLUE, BUSYBOX])


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("busybox", ("busybox", "latest")),
        ("docker.io/library/busybox:1.36", ("busybox", "1.36")),
        ("docker.io/xpiritbv/bluegreen:blue", ("xpiritbv/bluegreen", "blue")),
        ("registry:5000/a/b", ("registry:5000/a/b", "latest")),
        ("a/b:c@sha256:00", ("a/b", "c")),
    ],
)
def test_split(reference: str, parts: tuple[str, str]) -> None:
    assert split(reference) == parts


def test_find_any_tag_or_a_listed_one() -> None:
    assert IMAGES.find("busybox:whatever") is BUSYBOX
    assert IMAGES.find("xpiritbv/bluegreen:blue") is BLUE


@pytest.mark.parametrize(
    ("reference", "reason"),
    [("nginx", "is not registered"), ("xpiritbv/bluegreen:red", "has no tag 'red'")],
)
def test_an_unknown_image_lists_the_known_ones(reference: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        IMAGES.find(reference)
    assert caught.value.allowed == "busybox, xpiritbv/bluegreen:blue"


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [
        pytest.param([], [], ["-m", "apps", "--port", "80"], id="the image's own"),
        pytest.param([], ["-x"], ["-m", "apps", "-x"], id="args replace cmd"),
    ],
)
def test_argv(command: list[str], args: list[str], argv: list[str]) -> None:
    assert BLUE.argv(command, args) == [sys.executable, *argv]


def test_command_replaces_both_and_finds_the_images_programs() -> None:
    assert BLUE.argv(["sh"], []) == ["sh"]
    assert BLUE.argv(["tool"], ["1"]) == [sys.executable, "-m", "tool", "1"]


def test_registered_images_have_distinct_names() -> None:
    names = Images(registered()).names()
    assert len(names) == len(set(names)) > 0

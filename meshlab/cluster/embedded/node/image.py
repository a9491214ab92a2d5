"""Images by name: what a container's `image` means where there is nothing to download.

An image is registered by a package through the entry-point group `meshlab.images`: a function that
returns dicts of the shape of `Image`. An unknown name is refused with the list of known ones.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from meshlab.errors import ClusterError

GROUP = "meshlab.images"
REGISTRIES = ("docker.io/library/", "docker.io/", "index.docker.io/", "library/")
"""Prefixes that add nothing to a name."""


class ImageError(ClusterError):
    """There is no such image (`ErrImagePull`), or its name is none (`InvalidImageName`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A program under an image's name. The word `python` stands for this interpreter."""

    name: str
    tags: tuple[str, ...] | None = None
    """None: any."""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: int = 0
    group: int = 0
    commands: Mapping[str, list[str]] = field(default_factory=dict)
    """Programs on the container's PATH, with the words that stand for them (`bin`)."""
    about: str = ""

    def argv(self, command: list[str], args: list[str]) -> list[str]:
        """Return what a container runs: its own command and args, else the image's."""
        words = list(command or self.entrypoint)
        words += args or ([] if command else list(self.cmd))
        if words and words[0] in self.commands:
            words[:1] = self.commands[words[0]]
        if words and words[0] in {"python", "python3"}:
            words[0] = sys.executable
        return words


def split(reference: str) -> tuple[str, str]:
    """Return name and tag of `[registry/]name[:tag][@digest]`, tag `latest` by default."""
    name = reference.partition("@")[0]
    for prefix in REGISTRIES:
        name = name.removeprefix(prefix)
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon was a registry's port
        return name, "latest"
    return head, tag


def decode(description: Mapping[str, Any]) -> Image:
    """Return the image that a package described."""
    commands = {
        name: [sys.executable if word == "python" and not place else word
               for place, word in enumerate(words)]
        for name, words in description.get("bin", {}).items()
    }  # fmt: skip
    tags = description.get("tags")
    return Image(
        name=description["name"],
        tags=None if tags is None else tuple(tags),
        entrypoint=tuple(description.get("entrypoint", ())),
        cmd=tuple(description.get("cmd", ())),
        env=dict(description.get("env", {})),
        user=description.get("user", 0),
        group=description.get("group", 0),
        commands=commands,
        about=description.get("about", ""),
    )


def registered() -> list[Image]:
    """Return the images that installed packages bring."""
    return [
        decode(description) for entry in entry_points(group=GROUP) for description in entry.load()()
    ]


class Images:
    """What is there to run."""

    def __init__(self, images: Iterable[Image]) -> None:
        self.images = list(images)

    def find(self, reference: str) -> Image:
        """Return the image of this name and tag.

        Raises:
            ImageError: there is none; it lists what there is.
        """
        name, tag = split(reference)
        named = [image for image in self.images if image.name == name]
        for image in named:
            if image.tags is None or tag in image.tags:
                return image
        what = f"has no tag {tag!r}" if named else "is not registered"
        raise ImageError(
            f"image {reference!r} {what} on this cluster, which downloads nothing",
            allowed=", ".join(sorted(self.names())),
            fix=f"Register it through the entry-point group {GROUP} (docs/embedded.md)",
        )

    def names(self) -> list[str]:
        """Return all names as a Pod would write them."""
        return [
            name
            for image in self.images
            for name in (
                [f"{image.name}:{tag}" for tag in image.tags] if image.tags else [image.name]
            )
        ]

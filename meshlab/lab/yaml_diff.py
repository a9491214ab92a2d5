"""What changed between two objects, as lines: for a pod before and after injection."""

import html
from collections.abc import Mapping
from typing import Any

from meshlab.change import GREEN, RED, diff

MOST_LINES = 400


class YamlDiff:
    """A diff of two Kubernetes objects that shows itself, longer ones folded."""

    def __init__(
        self, before: Mapping[str, Any], after: Mapping[str, Any], *, title: str = ""
    ) -> None:
        self.lines = diff(_quiet(before), _quiet(after))
        self.title = title

    @property
    def added(self) -> int:
        return sum(line.startswith("+") for line in self.lines)

    @property
    def removed(self) -> int:
        return sum(line.startswith("-") for line in self.lines)

    def summary(self) -> str:
        """Return the title with the number of lines added and removed."""
        return f"{self.title}: {self.added} lines added, {self.removed} removed".lstrip(": ")

    def __repr__(self) -> str:
        return "\n".join([self.summary(), *self.lines[:MOST_LINES]])

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        body = "".join(_coloured(line) for line in self.lines[:MOST_LINES])
        left = len(self.lines) - MOST_LINES
        rest = f"… and {left} lines more" if left > 0 else ""
        return {
            "text/plain": repr(self),
            "text/html": (
                f"<details><summary>{html.escape(self.summary())}</summary>"
                "<pre style='margin:.2em 0;background:none;line-height:1.3'>"
                f"{body}{rest}</pre></details>"
            ),
        }


def _quiet(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without what differs between any two pods."""
    metadata = {
        key: value
        for key, value in (obj.get("metadata") or {}).items()
        if key not in {"name", "generateName", "ownerReferences", "deletionTimestamp"}
    }
    labels = dict(metadata.get("labels") or {})
    labels.pop("pod-template-hash", None)
    spec = {key: value for key, value in (obj.get("spec") or {}).items() if key != "nodeName"}
    kept = {key: obj[key] for key in ("apiVersion", "kind") if key in obj}
    return {**kept, "metadata": {**metadata, "labels": labels}, "spec": spec}


def _coloured(line: str) -> str:
    shade = {"+": GREEN, "-": RED}.get(line[:1])
    text = html.escape(line)
    return f"<span style='color:{shade}'>{text}</span>\n" if shade else f"{text}\n"

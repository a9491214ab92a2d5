"""What an apply changed: a line an object as kubectl prints it, its diff, when proxies had it.

Pure: objects in, a display out (text, and HTML for notebooks).
"""

import difflib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from meshlab.observe.table import NOTE

Object = Mapping[str, Any]

SERVER_FIELDS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
GREEN, RED = "#2e9e5b", "#d0483e"
"""Of a middle brightness, so that both read on light and on dark ground."""


def bare(obj: Object) -> dict[str, Any]:
    """Return what people wrote of an object: without status and the server's own metadata."""
    metadata = {k: v for k, v in obj.get("metadata", {}).items() if k not in SERVER_FIELDS}
    notes = dict(metadata.pop("annotations", None) or {})
    notes.pop(LAST_APPLIED, None)
    if notes:
        metadata["annotations"] = notes
    head = ("apiVersion", "kind")
    rest = {k: v for k, v in obj.items() if k not in (*head, "metadata", "status")}
    return {**{k: obj[k] for k in head}, "metadata": metadata, **rest}


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice: people do not write anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(obj: Object) -> str:
    return yaml.dump(dict(obj), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def diff(before: Object | None, after: Object | None) -> list[str]:
    """Return the lines that differ, with three around them, as `kubectl diff` marks them."""
    old, new = (to_yaml(bare(obj)).splitlines() if obj else [] for obj in (before, after))
    lines = list(difflib.unified_diff(old, new, lineterm="", n=3))
    return [line for line in lines[2:] if not line.startswith("@@")]


def reference(obj: Object) -> str:
    """Return `virtualservice.networking.istio.io/bluegreen`, as kubectl names an object."""
    group = obj["apiVersion"].rpartition("/")[0]
    kind = obj["kind"].lower() + (f".{group}" if group else "")
    return f"{kind}/{obj['metadata']['name']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """When the data plane had a change, as the control plane tells (`/debug/wait`)."""

    synced: bool
    seconds: float
    """From the API server's answer to the apply, until the last proxy's ACK was known here."""
    proxies: Sequence[str]
    """Ids of those that were sent something for it and took it."""
    pending: Mapping[str, str] = field(default_factory=dict)
    """Proxy id → why it does not have it: no answer yet, or the error it refused it with."""

    def __str__(self) -> str:
        if not self.synced:
            who = "; ".join(f"{_short(name)} {why}" for name, why in self.pending.items())
            return f"not in force everywhere after {self.seconds:.1f} s: {who or 'no answer'}"
        after = f"in force after {self.seconds * 1000:.0f} ms"
        count = len(self.proxies)
        told = {0: "no proxy needed it", 1: "1 proxy acknowledged"}
        return f"{after}: {told.get(count, f'{count} proxies acknowledged')}"


def _short(proxy: str) -> str:
    """Return the pod of a node id `sidecar~10.1.2.3~pod.namespace~domain`."""
    parts = proxy.split("~")
    return parts[2] if len(parts) == 4 else proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    reference: str
    verb: str
    """created, configured, unchanged or deleted."""
    diff: Sequence[str] = ()
    acknowledged: Acknowledged | None = None
    """None: not a kind that proxies are told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The result of an apply; shows itself."""

    changes: Sequence[Change]
    command: str
    """The kubectl line that does the same."""
    manifest: str = ""
    """YAML to show first, where the learner did not write it."""

    @property
    def in_force(self) -> bool:
        """Whether every proxy that was told of a change has acknowledged it."""
        return all(c.acknowledged.synced for c in self.changes if c.acknowledged)

    def text(self) -> str:
        lines = self.manifest.rstrip().splitlines()
        for change in self.changes:
            lines.append(f"{change.reference} {change.verb}")
            lines += [f"  {line}" for line in change.diff]
            if change.acknowledged:
                lines.append(f"  {change.acknowledged}")
        return "\n".join([*lines, f"$ {self.command}"])

    def html(self) -> str:
        parts = [html.escape(self.manifest)]
        for change in self.changes:
            parts.append(f"<b>{html.escape(change.reference)}</b> {change.verb}\n")
            parts += [_coloured(line) for line in change.diff]
            if change.acknowledged:
                parts.append(f"  {html.escape(str(change.acknowledged))}\n")
        body = "".join(parts)
        return (
            "<pre style='margin: 0.2em 0; padding: 0; background: none; line-height: 1.35;'>"
            f"{body}</pre><pre style='{NOTE}'>$ {html.escape(self.command)}</pre>"
        )

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}


def _coloured(line: str) -> str:
    colour = {"+": GREEN, "-": RED}.get(line[:1])
    text = html.escape(f"  {line}")
    return f"<span style='color: {colour};'>{text}</span>\n" if colour else f"{text}\n"

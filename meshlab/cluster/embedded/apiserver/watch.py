"""Watches over HTTP: changes from a revision on, as one line of JSON each.

The pure part decides what a change looks like to one watcher, given its selectors; the rest
waits, writes and ends.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.apiserver.format import Format, watch_encoder
from meshlab.cluster.embedded.apiserver.json_object import encode
from meshlab.cluster.embedded.apiserver.lists import key_of
from meshlab.cluster.embedded.apiserver.request import Target, flag, whole_number
from meshlab.cluster.embedded.apiserver.selector import Match, matcher
from meshlab.cluster.embedded.apiserver.status import ApiError, bad_request, expired
from meshlab.cluster.embedded.apiserver.store import Change, Store, Watcher

Json = dict[str, Any]

BOOKMARK_SECONDS = 60.0
"""How often a watcher is told how far it is."""
LONGEST_SECONDS = (1800, 3600)
"""A watch without timeoutSeconds ends after a time between these, as Kubernetes' do."""
WAITING = 10_000
"""Changes that may wait for a slow reader; then its watch ends and it lists again."""
INITIAL_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True)
class Watch:
    """What one client asked to see."""

    target: Target
    form: Format
    namespace: str | None
    match: Match | None
    since: int | None
    """None: all there is first, as ADDED."""
    bookmarks: bool
    initial_end: bool
    """Whether a bookmark shall mark the end of what was there already."""
    seconds: float


def parse_watch(target: Target, form: Format, query: Mapping[str, str]) -> Watch:
    """Return the watch that a query asks for.

    Raises:
        ApiError: 400.
    """
    text = query.get("resourceVersion", "")
    if text and not (text.isascii() and text.isdigit()):
        raise bad_request(f'Invalid value: "{text}": resourceVersion: it is no number')
    initial = flag(query, "sendInitialEvents")
    since = int(text) if text not in {"", "0"} and not initial else None
    fields = query.get("fieldSelector", "")
    if target.name:
        fields = f"metadata.name={target.name}"
    return Watch(
        target=target,
        form=form,
        namespace=target.namespace or None,
        match=matcher(query.get("labelSelector", ""), fields, target.resource.key),
        since=since,
        bookmarks=flag(query, "allowWatchBookmarks"),
        initial_end=initial,
        seconds=whole_number(query, "timeoutSeconds") or random.uniform(*LONGEST_SECONDS),
    )


def seen(change: Change, match: Match | None) -> str:
    """Return what a change is to a watcher with selectors: its type, or "" for nothing.

    An object that begins to be selected is ADDED, one that no longer is is DELETED.
    """
    if match is None:
        return change.type
    before = change.previous is not None and match(change.previous)
    if change.type == "DELETED":
        return "DELETED" if before else ""
    after = match(change.object)
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""


async def stream(store: Store, watch: Watch) -> AsyncIterator[bytes]:
    """Yield the lines of a watch until it is over."""
    resource = watch.target.resource
    present = []
    if watch.since is None:
        present = [
            obj
            for obj in store.list(resource.key, watch.namespace)
            if watch.match is None or watch.match(obj)
        ]
        present.sort(key=key_of)
    start = store.revision if watch.since is None else watch.since
    try:
        watcher = store.watch(resource.key, start, limit=WAITING)
    except ApiError as error:
        yield _line("ERROR", encode(error.body()))
        return
    encoder = watch_encoder(watch.form, resource, watch.target.version)
    try:
        for obj in present:
            yield _line("ADDED", encode(encoder(obj)))
        if watch.initial_end:
            yield _bookmark(watch, start, INITIAL_END)
        async for line in _follow(store, watch, watcher):
            yield line
    finally:
        watcher.close()


async def _follow(store: Store, watch: Watch, watcher: Watcher) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    end = loop.time() + watch.seconds
    encoder = watch_encoder(watch.form, watch.target.resource, watch.target.version)
    cached = f"{watch.form.name}/{watch.target.resource.group}/{watch.target.version.name}"
    while (left := end - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                change = await watcher.next()
        except TimeoutError:
            if watch.bookmarks:
                yield _bookmark(watch, store.revision, {})
            continue
        if watcher.overrun:
            yield _line("ERROR", encode(expired("the watch fell behind; list again").body()))
            return
        if watch.namespace is not None:
            where = change.object["metadata"].get("namespace", "")
            if where != watch.namespace:
                continue
        kind = seen(change, watch.match)
        if not kind:
            continue
        if change.shown is None:
            change.shown = {}
        if cached not in change.shown:
            change.shown[cached] = encode(encoder(change.object))
        yield _line(kind, change.shown[cached])


def _line(kind: str, encoded: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), encoded)


def _bookmark(watch: Watch, revision: int, annotations: Mapping[str, str]) -> bytes:
    resource = watch.target.resource
    metadata: Json = {"resourceVersion": str(revision), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = dict(annotations)
    kind, version = resource.kind, resource.api_version(watch.target.version.name)
    if watch.form.kind:
        kind, version = watch.form.kind, f"meta.k8s.io/{watch.form.version}"
    obj: Json = {"kind": kind, "apiVersion": version, "metadata": metadata}
    if kind == "Table":
        obj |= {"columnDefinitions": [], "rows": []}
    return _line("BOOKMARK", encode(obj))

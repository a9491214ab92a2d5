"""Lists: selected, in order, page by page.

A page is cut from the objects as they are now, but carries the revision of its first page: what
changed between the pages is told by a watch from there, so a client that lists in pages and then
watches misses nothing.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import encode
from meshlab.cluster.embedded.apiserver.request import whole_number
from meshlab.cluster.embedded.apiserver.selector import matcher
from meshlab.cluster.embedded.apiserver.status import bad_request
from meshlab.cluster.embedded.apiserver.store import Store

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list."""

    items: list[Json]
    metadata: Json


def key_of(obj: Json) -> tuple[str, str]:
    """Return what lists are ordered by."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def page(store: Store, resource: str, namespace: str | None, query: Mapping[str, str]) -> Page:
    """Return the page of a list that a query asks for.

    Raises:
        ApiError: 400 for selectors and tokens that cannot be read.
    """
    match = matcher(query.get("labelSelector", ""), query.get("fieldSelector", ""), resource)
    found = [obj for obj in store.list(resource, namespace) if match is None or match(obj)]
    found.sort(key=key_of)
    revision = store.revision
    if token := query.get("continue"):
        revision, after = _unpack(token)
        found = [obj for obj in found if key_of(obj) > after]
    metadata: Json = {"resourceVersion": str(revision)}
    limit = whole_number(query, "limit") or 0
    if limit and len(found) > limit:
        metadata["continue"] = _pack(revision, key_of(found[limit - 1]))
        metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return Page(found, metadata)


def _pack(revision: int, last: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(encode([revision, *last])).decode()


def _unpack(token: str) -> tuple[int, tuple[str, str]]:
    try:
        revision, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise bad_request("continue key is not valid") from error
    return int(revision), (str(namespace), str(name))

"""Events: what happened to an object, counted rather than repeated."""

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Protocol

from meshlab.cluster.embedded.apiserver.json_object import now, parse_time

Json = dict[str, Any]

KEPT_SECONDS = 3600
"""How long an Event is kept after it was last seen."""
MOST_NAMES = 4096
"""As many Events are known by what they say."""
LOOK_SECONDS = 300.0
"""How often old ones are looked for."""


class EventClient(Protocol):
    """The part of `Client` that is needed here."""

    def list(self, resource: str, /) -> list[Json]: ...

    async def delete(self, resource: str, name: str, namespace: str, /) -> Json: ...


def reference(obj: Json) -> Json:
    """Return the ObjectReference of an object."""
    metadata = obj["metadata"]
    found = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {key: value for key, value in found.items() if value}


class EventNames:
    """Which Event counts what: the same again has the name it had before.

    A name ends in its time, as the kubelet's do, so that a list by name is in order of time.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, ...], str] = OrderedDict()

    def known(self, about: Json, reason: str, message: str, component: str) -> str:
        """Return the name of the latest Event that says this; "" where there was none."""
        return self._known.get((str(about.get("uid")), reason, message, component), "")

    def new(self, about: Json, reason: str, message: str, component: str, time_ns: int) -> str:
        """Return a new name, and know it from now on."""
        name = f"{about['name']}.{time_ns:x}"
        self._known[str(about.get("uid")), reason, message, component] = name
        if len(self._known) > MOST_NAMES:
            self._known.popitem(last=False)
        return name


def new_event(
    name: str,
    about: Json,
    *,
    type: str,  # noqa: A002 - the API's word
    reason: str,
    message: str,
    component: str,
) -> Json:
    moment = now()
    return {
        "metadata": {"name": name, "namespace": about.get("namespace", "default")},
        "involvedObject": about,
        "type": type,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "eventTime": None,
    }


def seen_again(event: Json) -> Json:
    """Return a patch that counts the Event once more."""
    return {"count": event.get("count", 1) + 1, "lastTimestamp": now()}


async def forget_old_events(client: "EventClient") -> None:
    """Delete Events an hour after they were last seen, for ever."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        limit = datetime.now(UTC).timestamp() - KEPT_SECONDS
        for event in client.list("events"):
            seen = event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
            if parse_time(seen).timestamp() < limit:
                metadata = event["metadata"]
                await client.delete("events", metadata["name"], metadata["namespace"])

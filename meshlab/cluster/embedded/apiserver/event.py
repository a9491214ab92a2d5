"""Events: what happened to an object, counted rather than repeated."""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any, Protocol

from meshlab.cluster.embedded.apiserver.json_object import now, parse_time

Json = dict[str, Any]

KEPT_SECONDS = 3600
"""How long an Event is kept after it was last seen."""
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


def event_name(about: Json, reason: str, message: str, component: str) -> str:
    """Return a name that is the same for what is the same Event again."""
    words = "\0".join((str(about.get("uid")), reason, message, component))
    return f"{about['name']}.{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def new_event(about: Json, *, type: str, reason: str, message: str, component: str) -> Json:  # noqa: A002 - the API's word
    moment = now()
    return {
        "metadata": {
            "name": event_name(about, reason, message, component),
            "namespace": about.get("namespace", "default"),
        },
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

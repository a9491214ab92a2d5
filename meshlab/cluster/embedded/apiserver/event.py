"""Events: what happened to an object, counted rather than repeated."""

import hashlib
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import now

Json = dict[str, Any]

KEPT_SECONDS = 3600
"""How long an Event is kept after it was last seen."""


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

"""The cluster's Services and their EndpointSlices by name: what rules, DNS and relays look up."""

from typing import Any

from meshlab.cluster.embedded.network.service import SERVICE_NAME

Object = dict[str, Any]
Key = tuple[str, str]


class ServiceIndex:
    """Services and slices as the watches last said; keys are (namespace, service name)."""

    def __init__(self) -> None:
        self.services: dict[Key, Object] = {}
        self.slices: dict[Key, dict[str, Object]] = {}

    def apply_service(self, event: str, service: Object) -> Key:
        """Take in one watch event; return which service it is about."""
        key = key_of(service)
        if event == "DELETED":
            self.services.pop(key, None)
        else:
            self.services[key] = service
        return key

    def apply_slice(self, event: str, piece: Object) -> Key:
        """Take in one watch event; return which service it is about."""
        metadata = piece["metadata"]
        key = (metadata["namespace"], (metadata.get("labels") or {}).get(SERVICE_NAME, ""))
        pieces = self.slices.setdefault(key, {})
        if event == "DELETED":
            pieces.pop(metadata["name"], None)
        else:
            pieces[metadata["name"]] = piece
        if not pieces:
            del self.slices[key]
        return key

    def slices_of(self, key: Key) -> list[Object]:
        return list(self.slices.get(key, {}).values())


def key_of(obj: Object) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]

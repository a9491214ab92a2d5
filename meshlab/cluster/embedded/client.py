"""How controllers and node, which live in the API server's process, use the API.

Every call goes the way an HTTP request goes (admission, defaults, validation, revisions), only
without the network and without asking who is there.
"""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from meshlab.cluster.embedded.apiserver import event as events
from meshlab.cluster.embedded.apiserver.call import Call
from meshlab.cluster.embedded.apiserver.json_object import copy
from meshlab.cluster.embedded.apiserver.machinery import Machinery
from meshlab.cluster.embedded.apiserver.patch import KINDS
from meshlab.cluster.embedded.apiserver.resource import Resource
from meshlab.cluster.embedded.apiserver.selector import matcher
from meshlab.cluster.embedded.apiserver.status import ApiError
from meshlab.cluster.embedded.apiserver.store import changes

__all__ = ["ApiError", "Client"]

Json = dict[str, Any]


class Tokens(Protocol):
    """What the client needs of `auth.py`: tokens for service accounts."""

    def issue(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str],
        expiration_seconds: int,
        pod: Json | None,
    ) -> tuple[str, datetime]: ...


class Client:
    """The API, in process. Resources by kubectl's full names (`deployments.apps`).

    Errors are `ApiError`, as over HTTP.
    """

    def __init__(self, machinery: Machinery, tokens: Tokens, ca_pem: str) -> None:
        self._machinery = machinery
        self._tokens = tokens
        self._events = events.EventNames()
        self.ca_pem = ca_pem
        """The cluster's certificate authority, PEM."""

    def resources(self) -> list[Resource]:
        """Return all resources whose objects are kept, those of CRDs included."""
        return self._machinery.catalog.stored()

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Json:
        """Return a copy of an object."""
        found: Json = copy(self._machinery.get(self._call(resource, namespace, name)))
        return found

    def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> list[Json]:
        """Return the objects themselves, to be read only, in no order; None: all namespaces."""
        match = matcher(label_selector, field_selector, resource)
        found = self._machinery.store.list(self._named(resource).key, namespace)
        return list(filter(match, found)) if match else list(found)

    async def create(self, resource: str, obj: Json, namespace: str | None = None) -> Json:
        """Create an object; apiVersion and kind may be left out. Returns a copy of what is kept."""
        metadata = obj.get("metadata") or {}
        call = self._call(resource, namespace or metadata.get("namespace"), "")
        found: Json = copy(await self._machinery.create(call, obj))
        return found

    async def update(self, resource: str, obj: Json, *, subresource: str = "") -> Json:
        """Replace an object, or its `status`; 409 when its resourceVersion is set and stale."""
        metadata = obj["metadata"]
        call = self._call(resource, metadata.get("namespace"), metadata["name"], subresource)
        found: Json = copy(await self._machinery.update(call, obj))
        return found

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        subresource: str = "",
        kind: Literal["merge", "json", "strategic"] = "merge",
    ) -> Json:
        call = self._call(resource, namespace, name, subresource)
        found: Json = copy(await self._machinery.patch(call, KINDS[kind], patch))
        return found

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
    ) -> Json:
        """Delete an object; returns it while it waits for someone, else a Status."""
        wanted = {"uid": uid, "resourceVersion": resource_version}
        options = {
            "preconditions": {key: value for key, value in wanted.items() if value},
            "gracePeriodSeconds": grace_period_seconds,
            "propagationPolicy": propagation_policy,
        }
        call = self._call(resource, namespace, name)
        found: Json = copy(await self._machinery.delete(call, options))
        return found

    async def create_token(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str],
        expiration_seconds: int,
        pod: Json | None = None,
    ) -> tuple[str, datetime]:
        """Return a service account's token and when it ends, bound to a pod's life if given."""
        return self._tokens.issue(
            namespace,
            service_account,
            audiences=audiences,
            expiration_seconds=expiration_seconds,
            pod=pod,
        )

    def watch(self, resource: str, namespace: str | None = None) -> AsyncIterator[tuple[str, Json]]:
        """Yield all objects as ADDED, then every change (ADDED, MODIFIED, DELETED), for ever.

        The objects are the store's own, to be read only.
        """
        return changes(self._machinery.store, self._named(resource).key, namespace)

    async def event(
        self,
        obj: Json,
        *,
        type: Literal["Normal", "Warning"],  # noqa: A002 - the API's word
        reason: str,
        message: str,
        component: str,
    ) -> None:
        """Record what happened to an object; the same again is counted, not repeated."""
        about = events.reference(obj)
        namespace = about.get("namespace", "default")
        words = (reason, message, component)
        name = self._events.known(about, *words)
        present = self._machinery.store.get("events", namespace, name) if name else None
        try:
            if present is None:
                new = events.new_event(
                    self._events.new(about, *words, time.time_ns()),
                    about,
                    type=type,
                    reason=reason,
                    message=message,
                    component=component,
                )
                await self.create("events", new, namespace)
            else:
                await self.patch("events", name, events.seen_again(present), namespace)
        except ApiError as error:
            if error.reason not in {"NotFound", "Forbidden", "AlreadyExists"}:
                raise  # a namespace that ends takes no more Events: nobody would read them

    def _named(self, resource: str) -> Resource:
        return self._machinery.catalog.named(resource)

    def _call(self, resource: str, namespace: str | None, name: str, subresource: str = "") -> Call:
        found = self._named(resource)
        if found.namespaced and not namespace:
            message = f"{resource} live in namespaces: say which"
            raise ApiError(400, "BadRequest", message)
        return Call(
            resource=found,
            version=found.stored,
            namespace=namespace if namespace and found.namespaced else "",
            name=name,
            subresource=subresource,
            field_validation="Strict",
        )

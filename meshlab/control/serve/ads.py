"""ADS, state of the world and delta: one stream a proxy, all types on it (xDS protocol v3).

A push goes out in an order in which nothing refers to what is not there yet: clusters, their
endpoints, then (once the proxy acknowledged the clusters, which Envoy does when they are warm)
listeners and routes, and only then the clusters that nobody needs any more.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from envoy.service.discovery.v3 import discovery_pb2

from meshlab.control.registry.api import ApiError
from meshlab.control.registry.store import Change
from meshlab.control.serve.auth import Authenticator, ForbiddenError, UnauthenticatedError
from meshlab.control.serve.delta import Subscription, difference
from meshlab.control.serve.metric import Metrics
from meshlab.control.serve.node import current, proxy_of, verified
from meshlab.control.serve.push import Push
from meshlab.control.snapshot import Proxy
from meshlab.control.translate.cache import Cache, Resource
from meshlab.control.translate.resources import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    TYPES,
    resources,
)
from meshlab.errors import ProtocolError

LOG = logging.getLogger("meshlab.control.serve.ads")
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
WILDCARD_TYPES = frozenset({CLUSTER, LISTENER})
ANSWER_TIMEOUT = 5.0
"""Seconds that one stage of a push waits for the proxy's answer before it goes on all the same."""
RECORDS = 64
SHORT_NAMES = {CLUSTER: "cds", ENDPOINT: "eds", LISTENER: "lds", ROUTE: "rds"}


@dataclass(slots=True)
class Record:
    """What one push meant to one proxy, for those who wait for a change."""

    after: int
    """The push covers changes later than this generation…"""
    upto: int
    """…up to this one."""
    outstanding: set[str] = field(default_factory=set)
    """Nonces not answered yet."""
    sent: bool = False
    complete: bool = False
    """Everything was sent; answers may be outstanding."""
    answered_at: float = 0.0
    """Monotonic seconds of the last answer."""
    errors: list[str] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return self.complete and not self.outstanding


class Connection:
    """One proxy's stream."""

    def __init__(
        self, proxy: Proxy, context: Any, *, delta: bool, cache: Cache, metrics: Metrics
    ) -> None:
        self.proxy = proxy
        self.delta = delta
        self.cache = cache
        self.metrics = metrics
        self.connected_at = time.time()
        self.subscriptions: dict[str, Subscription] = {}
        self.resources: dict[str, dict[str, Resource]] = {}
        self.generation = 0
        """The last change that this proxy's resources reflect."""
        self.started_at = 0
        """The last change when it connected."""
        self.records: deque[Record] = deque(maxlen=RECORDS)
        self._context = context
        self._writing = asyncio.Lock()
        self._nonces = itertools.count(1)
        self._pending: Push | None = None
        self._offered = asyncio.Event()
        self._answered = asyncio.Event()
        self.moved = asyncio.Event()
        """Set at each answer and each finished push, then replaced: waiters look again."""

    # Pushes.

    def start(self, change: Change) -> None:
        """Translate the whole world for the first time."""
        self.proxy = current(self.proxy, change.world)
        self.resources = resources(change.world, self.proxy, cache=self.cache)
        self.generation = self.started_at = change.generation

    def offer(self, push: Push) -> None:
        """Take a push; the newest replaces one that has not begun."""
        self._pending = push.after(self._pending)
        self._offered.set()

    async def run(self) -> None:
        """Bring each offered push to the proxy, one after the other."""
        while True:
            await self._offered.wait()
            self._offered.clear()
            push, self._pending = self._pending, None
            if push is not None and push.generation > self.generation:
                await self._push(push)

    async def _push(self, push: Push) -> None:
        began = time.monotonic()
        record = Record(self.generation, push.generation)
        self.records.append(record)
        changed = self._translate(push)
        if changed:
            await self._send_in_order(changed, record)
        self.generation = push.generation
        record.complete = True
        self._move()
        if record.sent:
            now = time.monotonic()
            self.metrics.push_time.observe(now - began)
            self.metrics.convergence.observe(now - push.changed_at)

    def _translate(self, push: Push) -> set[str]:
        """Make the touched types again; return those that the proxy subscribes to."""
        proxy = current(self.proxy, push.world)
        # Listeners and routes depend on the proxy's own labels.
        types = frozenset(TYPES) if proxy is not self.proxy else push.types
        self.proxy = proxy
        if not types:
            return set()
        self.resources.update(resources(push.world, proxy, cache=self.cache, types=types))
        return {type_url for type_url in types if type_url in self.subscriptions}

    async def _send_in_order(self, types: set[str], record: Record) -> None:
        touched = await self._clusters_first(types, record)
        if ENDPOINT in types or touched:
            await self._send(ENDPOINT, record, again=touched)
        if touched:
            await self._answers((CLUSTER, ENDPOINT))
        for type_url in (LISTENER, ROUTE):
            if type_url in types:
                await self._send(type_url, record)
        if CLUSTER in types and self._difference(CLUSTER).removed:
            await self._answers((LISTENER, ROUTE))
            await self._send(CLUSTER, record)

    async def _clusters_first(self, types: set[str], record: Record) -> set[str]:
        """Send new and changed clusters, none removed yet; return their names.

        Their endpoints are sent again: Envoy warms a changed cluster with a new subscription.
        """
        if CLUSTER not in types:
            return set()
        names = {resource.name for resource in self._difference(CLUSTER).changed}
        if names:
            await self._send(CLUSTER, record, keep_removed=True)
        return names

    def _difference(self, type_url: str, again: Collection[str] = ()) -> Any:
        subscription = self.subscriptions[type_url]
        return difference(subscription, self.resources.get(type_url, {}), again=again)

    async def _send(
        self,
        type_url: str,
        record: Record | None = None,
        *,
        again: Collection[str] = (),
        asked: Collection[str] = (),
        always: bool = False,
        keep_removed: bool = False,
    ) -> None:
        """Send what differs; `asked` names that do not exist are answered as removed."""
        subscription = self.subscriptions.get(type_url)
        if subscription is None:
            return
        found = self._difference(type_url, again)
        removed = [] if keep_removed else found.removed
        absent = [name for name in asked if name not in self.resources.get(type_url, {})]
        if not (found.changed or removed or absent or always):
            return
        for name in removed:
            del subscription.sent[name]
            subscription.kept.pop(name, None)
        for resource in found.changed:
            subscription.sent[resource.name] = resource.version
            if not self.delta:
                subscription.kept[resource.name] = resource
        gone = sorted({*removed, *(name for name in absent if name != "*")})
        message = (
            self._delta_response(type_url, found.changed, gone)
            if self.delta
            else self._response(type_url, subscription)
        )
        await self._write(type_url, subscription, message, record)

    def _delta_response(
        self, type_url: str, changed: Iterable[Resource], removed: list[str]
    ) -> Any:
        return discovery_pb2.DeltaDiscoveryResponse(
            type_url=type_url,
            system_version_info=str(self.generation),
            resources=[
                discovery_pb2.Resource(name=r.name, version=r.version, resource=r.packed)
                for r in changed
            ],
            removed_resources=removed,
        )

    def _response(self, type_url: str, subscription: Subscription) -> Any:
        kept = subscription.kept
        return discovery_pb2.DiscoveryResponse(
            type_url=type_url,
            version_info=str(self.generation),
            resources=[kept[name].packed for name in sorted(kept)],
        )

    async def _write(
        self, type_url: str, subscription: Subscription, message: Any, record: Record | None
    ) -> None:
        message.nonce = f"{next(self._nonces)}"
        subscription.nonce = message.nonce
        subscription.sent_at = time.time()
        if record is not None:
            record.sent = True
            record.outstanding.add(message.nonce)
        self.metrics.pushes.add(type=SHORT_NAMES.get(type_url, type_url))
        async with self._writing:
            await self._context.write(message)

    async def _answers(self, types: Collection[str]) -> None:
        """Wait for the proxy's answers to the last responses of these types."""
        held = [self.subscriptions[t] for t in types if t in self.subscriptions]
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                while not all(subscription.answered for subscription in held):
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            LOG.warning("%s does not answer a push", self.proxy.id)

    # Requests.

    async def receive(self, request: Any) -> None:
        """Take one request: a subscription, an answer, or both."""
        if self.delta:
            await self._receive_delta(request)
        else:
            await self._receive_sotw(request)

    async def _receive_delta(self, request: Any) -> None:
        type_url = request.type_url
        asked = list(request.resource_names_subscribe)
        subscription = self.subscriptions.get(type_url)
        first = subscription is None
        if subscription is None:
            subscription = self.subscriptions[type_url] = Subscription(
                wildcard=type_url in WILDCARD_TYPES and not asked,
                sent=dict(request.initial_resource_versions),
            )
        if request.response_nonce:
            self._answer(subscription, request)
        subscription.wildcard |= "*" in asked
        subscription.names.update(asked)
        for name in request.resource_names_unsubscribe:
            subscription.names.discard(name)
            subscription.sent.pop(name, None)
        if first or asked:
            # A name that is asked for again must be answered again (xDS, delta, subscriptions).
            again = [] if first else asked
            await self._send(type_url, again=again, asked=asked, always=first)

    async def _receive_sotw(self, request: Any) -> None:
        type_url = request.type_url
        names = set(request.resource_names)
        subscription = self.subscriptions.get(type_url)
        if subscription is None:
            self.subscriptions[type_url] = Subscription(
                wildcard=type_url in WILDCARD_TYPES and not names, names=names
            )
            await self._send(type_url, always=True)
            return
        if request.response_nonce != subscription.nonce:
            return  # about an older response; the answer to the last one is on its way
        self._answer(subscription, request)
        if names != subscription.names:
            fresh = names - subscription.names
            subscription.names = names
            for name in subscription.sent.keys() - names:
                del subscription.sent[name]
                subscription.kept.pop(name, None)
            if fresh:
                await self._send(type_url, again=fresh, always=True)

    def _answer(self, subscription: Subscription, request: Any) -> None:
        nonce = request.response_nonce
        refused = request.HasField("error_detail")
        message = request.error_detail.message if refused else ""
        if nonce == subscription.nonce:
            subscription.acked_nonce = nonce
            subscription.acked_at = time.time()
            subscription.error = message
        if refused:
            short = SHORT_NAMES.get(request.type_url, request.type_url)
            self.metrics.rejects.add(type=short)
            LOG.warning("%s refuses %s: %s", self.proxy.id, short, message)
        for record in self.records:
            if nonce in record.outstanding:
                record.outstanding.discard(nonce)
                record.answered_at = time.monotonic()
                if refused:
                    record.errors.append(message)
        self._answered.set()
        self._move()

    def close(self) -> None:
        """Let those who wait for this proxy look again."""
        self._move()

    def _move(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()

    def record_of(self, generation: int) -> Record | None:
        """Return the push that carried a change; None when there was none yet."""
        for record in self.records:
            if record.after < generation <= record.upto:
                return record
        return None


class AdsService:
    """gRPC handlers of AggregatedDiscoveryService."""

    def __init__(self, cache: Cache, metrics: Metrics) -> None:
        self.cache = cache
        self.metrics = metrics
        self.connections: set[Connection] = set()
        self.latest: Any = None
        """Callable that returns the newest `Change`; set by the wiring."""

    def handler(self, authenticator: Authenticator | None) -> Any:
        """Return the handlers; without an authenticator every node is believed (plain text)."""

        async def sotw(requests: AsyncIterator[Any], context: Any) -> None:
            await self._serve(requests, context, authenticator, delta=False)

        async def delta(requests: AsyncIterator[Any], context: Any) -> None:
            await self._serve(requests, context, authenticator, delta=True)

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(
                    sotw,
                    request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
                    response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
                ),
                "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                    delta,
                    request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
                    response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
                ),
            },
        )

    async def _serve(
        self,
        requests: AsyncIterator[Any],
        context: Any,
        authenticator: Authenticator | None,
        *,
        delta: bool,
    ) -> None:
        first = await anext(requests, None)
        if first is None:
            return
        proxy = await self._identify(first.node, context, authenticator)
        connection = Connection(proxy, context, delta=delta, cache=self.cache, metrics=self.metrics)
        connection.start(self.latest())
        self.connections.add(connection)
        self.metrics.xds.set(len(self.connections))
        LOG.info("%s connected", proxy.id)
        tasks = [
            asyncio.ensure_future(_read(connection, first, requests)),
            asyncio.ensure_future(connection.run()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a crash ends the stream; the proxy comes again
        finally:
            for task in tasks:
                task.cancel()
            self.connections.discard(connection)
            self.metrics.xds.set(len(self.connections))
            connection.close()
            LOG.info("%s disconnected", proxy.id)

    async def _identify(
        self, node: Any, context: Any, authenticator: Authenticator | None
    ) -> Proxy:
        """Return who is calling, or end the call with the reason."""
        try:
            proxy = proxy_of(node)
            if authenticator is None:
                return proxy
            caller = await authenticator.caller(dict(context.invocation_metadata() or ()))
            return verified(proxy, caller, self.latest().world)
        except ProtocolError as error:
            code, reason = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except UnauthenticatedError as error:
            code, reason = grpc.StatusCode.UNAUTHENTICATED, str(error)
        except ForbiddenError as error:
            code, reason = grpc.StatusCode.PERMISSION_DENIED, str(error)
        except (ApiError, httpx.HTTPError) as error:
            code, reason = grpc.StatusCode.UNAVAILABLE, f"the token cannot be reviewed: {error!r}"
        LOG.warning("%s is refused: %s", node.id, reason)
        await context.abort(code, reason)
        raise AssertionError("abort raises")


async def _read(connection: Connection, first: Any, requests: AsyncIterator[Any]) -> None:
    await connection.receive(first)
    async for request in requests:
        await connection.receive(request)

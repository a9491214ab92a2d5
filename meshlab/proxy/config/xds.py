"""Ask an xDS server over gRPC, acknowledge what is good and refuse what is not.

Both forms of https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol: DELTA_GRPC
(only what changed) and GRPC (the state of the world in each answer), aggregated (ADS) or for
secrets alone (SDS).
"""

import asyncio
import logging
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any as Anything
from typing import Protocol, TypeAlias

import grpc
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status

from meshlab.errors import ConfigError
from meshlab.proxy.config.bootstrap import GrpcSource
from meshlab.proxy.config.protobuf import type_name
from meshlab.proxy.net.task import spawn

log = logging.getLogger(__name__)

INVALID_ARGUMENT = 3

RESOURCE_CLASSES: Mapping[str, type[Message]] = {
    f"type.googleapis.com/{kind.DESCRIPTOR.full_name}": kind
    for kind in (Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, Secret)
}
CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE = RESOURCE_CLASSES
"""Type URLs, in the order in which they must be asked for: what is named before what names it."""

ORDER = tuple(RESOURCE_CLASSES)

METHODS = {
    (
        "ads",
        True,
    ): "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    ("ads", False): "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
    "StreamAggregatedResources",
    ("sds", True): "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
    ("sds", False): "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
}
"""(service, delta) → gRPC method."""

Request: TypeAlias = "DeltaDiscoveryRequest | DiscoveryRequest"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, decoded."""

    name: str
    version: str
    message: Message


@dataclass(frozen=True, slots=True)
class Update:
    """What an answer changes: these are new or different, those are gone."""

    type_url: str
    version: str
    """Of the whole answer."""
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


class Subscriber(Protocol):
    """Who uses the resources."""

    async def update(self, update: Update) -> Mapping[str, ConfigError]:
        """Put in force what is good; return why the others (by name) are refused.

        Of a refused resource the last good version stays in force.
        """

    def pending(self, type_url: str) -> bool:
        """Tell whether something that was taken waits for resources of other types.

        The answer is acknowledged when it is in force: who waits for the acknowledgement may rely
        on it.
        """


@dataclass(slots=True)
class Subscription:
    """One resource type on a stream: what is asked for and what came."""

    type_url: str
    wildcard: bool = False
    names: frozenset[str] = frozenset()
    nonce: str = ""
    version: str = ""
    """Version of the last answer that was taken as a whole (GRPC form)."""
    known: dict[str, Resource] = field(default_factory=dict)
    """What is in force, by name."""
    attempts: int = 0
    accepted: int = 0
    refused: int = 0
    error: str = ""
    """Why the last answer was refused; "" when it was not."""


class XdsClient:
    """One stream to one server, opened again whenever it ends."""

    def __init__(
        self, source: GrpcSource, node: Node, subscriber: Subscriber, *, service: str = "ads"
    ) -> None:
        self.source = source
        self.node = node
        self.subscriber = subscriber
        self.service = service
        self.subscriptions: dict[str, Subscription] = {}
        self.connected = False
        """An answer came on the stream that is open now."""
        self._outbox: asyncio.Queue[Request] | None = None  # None: no stream is open
        self._first = True
        self._held: list[tuple[Subscription, Request]] = []

    def subscribe(self, type_url: str, names: Collection[str] | None) -> None:
        """Ask for exactly these resources of a type from now on; None: for all there are."""
        wanted = frozenset(names or ())
        subscription = self.subscriptions.get(type_url)
        if subscription is None:
            if names is not None and not wanted:
                return  # an empty first request would mean: all
            subscription = Subscription(type_url, wildcard=names is None, names=wanted)
            self.subscriptions[type_url] = subscription
            self._send(self._first_request(subscription))
            return
        if wanted == subscription.names:
            return
        added, gone = wanted - subscription.names, subscription.names - wanted
        subscription.names = wanted
        for name in gone:
            subscription.known.pop(name, None)
        self._send(self._change_request(subscription, added, gone))

    async def run(self) -> None:
        """Keep a stream open; never returns."""
        delay = self.source.base_interval
        while True:
            try:
                await self._stream()
                reason = "the server ended the stream"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            if self.connected:
                delay = self.source.base_interval
            self.connected = False
            pause = delay * (0.5 + random.random() / 2)
            log.warning(
                "xDS stream to %s (%s): %s; next try in %.1f s",
                self.source.cluster_name,
                self.source.target,
                reason,
                pause,
            )
            await asyncio.sleep(pause)
            delay = min(2 * delay, self.source.max_interval)

    async def _stream(self) -> None:
        """Open the stream, ask for everything again, serve it to its end."""
        async with open_channel(self.source) as channel:
            kind = DeltaDiscoveryResponse if self.source.delta else DiscoveryResponse
            call = channel.stream_stream(
                METHODS[self.service, self.source.delta],
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=kind.FromString,
            )(metadata=self.source.metadata)
            self._outbox = asyncio.Queue()
            self._first = True
            self._held.clear()
            for type_url in sorted(self.subscriptions, key=ORDER.index):
                self._send(self._first_request(self.subscriptions[type_url]))
            writer = spawn(self._write(call, self._outbox), f"xDS requests to {self.source.target}")
            try:
                async for response in call:
                    self.connected = True
                    await self._answer(response)
            finally:
                self._outbox = None
                writer.cancel()
                call.cancel()

    async def _write(self, call: Anything, outbox: "asyncio.Queue[Request]") -> None:
        while True:
            request = await outbox.get()
            try:
                await call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream has ended; who reads it knows why

    def _send(self, request: Request) -> None:
        if self._outbox is None:
            return  # all is asked for when the stream opens
        if self._first:
            request.node.CopyFrom(self.node)
            self._first = False
        self._outbox.put_nowait(request)

    def _first_request(self, subscription: Subscription) -> Request:
        subscription.nonce = ""
        if self.source.delta:
            return DeltaDiscoveryRequest(
                type_url=subscription.type_url,
                resource_names_subscribe=sorted(subscription.names),
                initial_resource_versions={
                    name: resource.version for name, resource in subscription.known.items()
                },
            )
        return DiscoveryRequest(
            type_url=subscription.type_url,
            resource_names=sorted(subscription.names),
            version_info=subscription.version,
        )

    def _change_request(
        self, subscription: Subscription, added: Collection[str], gone: Collection[str]
    ) -> Request:
        if self.source.delta:
            return DeltaDiscoveryRequest(
                type_url=subscription.type_url,
                resource_names_subscribe=sorted(added),
                resource_names_unsubscribe=sorted(gone),
            )
        return DiscoveryRequest(
            type_url=subscription.type_url,
            resource_names=sorted(subscription.names),
            version_info=subscription.version,
            response_nonce=subscription.nonce,
        )

    async def _answer(self, response: DeltaDiscoveryResponse | DiscoveryResponse) -> None:
        """Hand an answer on, then acknowledge or refuse it."""
        subscription = self.subscriptions.get(response.type_url)
        if subscription is None:
            log.warning("xDS answer for %s, which nobody asked for", response.type_url)
            return
        subscription.attempts += 1
        subscription.nonce = response.nonce
        update, errors = read_update(subscription, response)
        errors = {**errors, **await self.subscriber.update(update)}
        remember(subscription, update, errors)
        subscription.error = "\n".join(str(error) for error in errors.values())
        if errors:
            subscription.refused += 1
            log.warning("refused: %s", subscription.error)
        else:
            subscription.accepted += 1
            subscription.version = update.version
        self._held.append((subscription, self._acknowledgement(subscription)))
        self.release()

    def release(self) -> None:
        """Send the acknowledgements of what is in force by now."""
        still: list[tuple[Subscription, Request]] = []
        for subscription, request in self._held:
            if self.subscriber.pending(subscription.type_url):
                still.append((subscription, request))
            else:
                self._send(request)
        self._held = still

    def _acknowledgement(self, subscription: Subscription) -> Request:
        refusal = (
            Status(code=INVALID_ARGUMENT, message=subscription.error)
            if subscription.error
            else None
        )
        if self.source.delta:
            return DeltaDiscoveryRequest(
                type_url=subscription.type_url,
                response_nonce=subscription.nonce,
                error_detail=refusal,
            )
        return DiscoveryRequest(
            type_url=subscription.type_url,
            resource_names=sorted(subscription.names),
            version_info=subscription.version,
            response_nonce=subscription.nonce,
            error_detail=refusal,
        )


def open_channel(source: GrpcSource) -> grpc.aio.Channel:
    """Return a new channel; one for each stream, so that gRPC's own back-off is not in the way."""
    options: list[tuple[str, Anything]] = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.enable_http_proxy", 0),
    ]
    if source.authority:
        options.append(("grpc.default_authority", source.authority))
    if source.root_certificates is None:
        return grpc.aio.insecure_channel(source.target, options=options)
    if source.server_name:
        options.append(("grpc.ssl_target_name_override", source.server_name))
    credentials = grpc.ssl_channel_credentials(source.root_certificates)
    return grpc.aio.secure_channel(source.target, credentials, options=options)


def read_update(
    subscription: Subscription, response: DeltaDiscoveryResponse | DiscoveryResponse
) -> tuple[Update, dict[str, ConfigError]]:
    """Return what an answer changes, and what of it cannot be decoded (by name or place)."""
    type_url = subscription.type_url
    found: list[Resource] = []
    errors: dict[str, ConfigError] = {}
    if isinstance(response, DeltaDiscoveryResponse):
        for item in response.resources:
            decode(type_url, item.resource, item.name, item.version, found, errors)
        return (
            Update(
                type_url,
                response.system_version_info,
                tuple(found),
                tuple(response.removed_resources),
            ),
            errors,
        )
    for index, item in enumerate(response.resources):
        decode(type_url, item, f"resources[{index}]", response.version_info, found, errors)
    names = {resource.name for resource in found}
    removed = (
        tuple(name for name in subscription.known if name not in names and not errors)
        if subscription.wildcard
        else ()  # the other types come in parts: what is not in an answer is unchanged
    )
    changed = tuple(
        resource
        for resource in found
        if (old := subscription.known.get(resource.name)) is None or old.message != resource.message
    )
    return Update(type_url, response.version_info, changed, removed), errors


def decode(
    type_url: str,
    item: Any,
    name: str,
    version: str,
    found: list[Resource],
    errors: dict[str, ConfigError],
) -> None:
    """Append the resource to `found`, or why it cannot be read to `errors`."""
    if item.type_url != type_url:
        errors[name] = ConfigError(
            "has another type than the answer",
            object=name,
            found=item.type_url,
            allowed=type_url,
        )
        return
    try:
        message = RESOURCE_CLASSES[type_url].FromString(item.value)
    except DecodeError as error:
        errors[name] = ConfigError(f"cannot be decoded: {error}", object=name)
        return
    found.append(Resource(resource_name(message), version, message))


def resource_name(message: Message) -> str:
    field = "cluster_name" if isinstance(message, ClusterLoadAssignment) else "name"
    return str(getattr(message, field))


def remember(subscription: Subscription, update: Update, errors: Mapping[str, ConfigError]) -> None:
    """Note what is in force now; what was refused keeps its last good version."""
    for resource in update.resources:
        if resource.name not in errors:
            subscription.known[resource.name] = resource
    for name in update.removed:
        subscription.known.pop(name, None)


def short_type(type_url: str) -> str:
    """Return `Cluster` of `type.googleapis.com/envoy.config.cluster.v3.Cluster`."""
    return type_name(Any(type_url=type_url)).rpartition(".")[2]

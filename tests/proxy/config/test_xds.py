"""The xDS client against a real gRPC server, in both forms."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import grpc
import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy.service.discovery.v3.discovery_pb2 import Resource as DeltaResource
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.bootstrap import GrpcSource
from meshlab.proxy.config.xds import CLUSTER_TYPE, ENDPOINT_TYPE, Update, XdsClient
from meshlab.proxy.net.task import spawn

NODE = Node(id="sidecar~10.0.0.1~app.demo~demo.svc.cluster.local")


class FakeControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """Collects requests; answers are put in by the test, on the stream that is open."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[DeltaDiscoveryRequest | DiscoveryRequest] = asyncio.Queue()
        self.metadata: Mapping[str, str] = {}
        self.answers: asyncio.Queue[Message | None] = asyncio.Queue()

    async def DeltaAggregatedResources(self, requests, context):
        async for answer in self._serve(requests, context):
            yield answer

    async def StreamAggregatedResources(self, requests, context):
        async for answer in self._serve(requests, context):
            yield answer

    async def _serve(self, requests, context):
        self.metadata = dict(context.invocation_metadata())
        self.answers = asyncio.Queue()

        async def collect() -> None:
            async for request in requests:
                self.requests.put_nowait(request)

        reader = spawn(collect(), "fake control plane")
        try:
            while (answer := await self.answers.get()) is not None:
                yield answer
        finally:
            reader.cancel()

    async def next(self) -> DeltaDiscoveryRequest | DiscoveryRequest:
        return await asyncio.wait_for(self.requests.get(), 5)

    def end_stream(self) -> None:
        self.answers.put_nowait(None)


class Recorder:
    """A subscriber that refuses the names in `bad` and holds back the types in `waiting`."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.bad: set[str] = set()
        self.waiting: set[str] = set()

    async def update(self, update: Update) -> Mapping[str, ConfigError]:
        self.updates.append(update)
        return {
            resource.name: ConfigError(
                "is not supported", object=f"Cluster {resource.name}", field="lb_policy"
            )
            for resource in update.resources
            if resource.name in self.bad
        }

    def pending(self, type_url: str) -> bool:
        return type_url in self.waiting


def packed(message: Message) -> Any:
    item = Any()
    item.Pack(message)
    return item


def delta(nonce: str, *clusters: tuple[str, str], removed: tuple[str, ...] = ()) -> Message:
    """Return a delta answer with clusters as (name, version)."""
    return DeltaDiscoveryResponse(
        type_url=CLUSTER_TYPE,
        nonce=nonce,
        resources=[
            DeltaResource(name=name, version=version, resource=packed(Cluster(name=name)))
            for name, version in clusters
        ],
        removed_resources=removed,
    )


def world(nonce: str, version: str, *names: str) -> Message:
    return DiscoveryResponse(
        type_url=CLUSTER_TYPE,
        nonce=nonce,
        version_info=version,
        resources=[packed(Cluster(name=name)) for name in names],
    )


@asynccontextmanager
async def connected(
    target: str, *, is_delta: bool, subscribe: Callable[[XdsClient], None]
) -> AsyncIterator[tuple[FakeControlPlane, Recorder, XdsClient]]:
    server = grpc.aio.server()
    plane = FakeControlPlane()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(plane, server)
    port = server.add_insecure_port(target if target.startswith("unix:") else "127.0.0.1:0")
    await server.start()
    source = GrpcSource(
        cluster_name="xds-grpc",
        target=target if target.startswith("unix:") else f"ipv4:127.0.0.1:{port}",
        delta=is_delta,
        metadata=(("authorization", "Bearer x"),),
        base_interval=0.01,
    )
    recorder = Recorder()
    client = XdsClient(source, NODE, recorder)
    subscribe(client)
    task = spawn(client.run(), "xDS client")
    try:
        yield plane, recorder, client
    finally:
        task.cancel()
        await asyncio.wait([task])
        await server.stop(None)


def all_clusters(client: XdsClient) -> None:
    client.subscribe(CLUSTER_TYPE, None)


def request_summary(request: DeltaDiscoveryRequest) -> tuple[object, ...]:
    return (
        request.type_url.rpartition(".")[2],
        tuple(request.resource_names_subscribe),
        tuple(request.resource_names_unsubscribe),
        dict(request.initial_resource_versions),
        request.response_nonce,
        request.error_detail.message,
    )


def run(scenario: Callable[[], object]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


@pytest.fixture(params=["tcp", "unix"])
def target(request: pytest.FixtureRequest, tmp_path) -> str:
    return f"unix:{tmp_path}/xds" if request.param == "unix" else "tcp"


def test_delta_acknowledges_and_refuses(target: str) -> None:
    async def scenario() -> None:
        async with connected(target, is_delta=True, subscribe=all_clusters) as (
            plane,
            recorder,
            client,
        ):
            first = await plane.next()
            assert first.node.id == NODE.id
            assert request_summary(first) == ("Cluster", (), (), {}, "", "")
            assert plane.metadata["authorization"] == "Bearer x"

            plane.answers.put_nowait(delta("1", ("a", "v1"), ("b", "v1")))
            second = await plane.next()
            assert second.node.id == ""  # only the first message of a stream carries it
            assert request_summary(second) == ("Cluster", (), (), {}, "1", "")
            recorder.bad = {"b"}
            plane.answers.put_nowait(delta("2", ("a", "v2"), ("b", "v2")))
            refused = await plane.next()
            assert refused.response_nonce == "2"
            assert refused.error_detail.code == 3
            assert refused.error_detail.message == "Cluster b: lb_policy: is not supported"
            known = client.subscriptions[CLUSTER_TYPE].known
            assert {name: item.version for name, item in known.items()} == {"a": "v2", "b": "v1"}

            plane.answers.put_nowait(delta("3", removed=("a",)))
            assert request_summary(await plane.next()) == ("Cluster", (), (), {}, "3", "")
            assert recorder.updates[-1].removed == ("a",)

    run(scenario)


def test_delta_reconnect_says_what_is_known() -> None:
    def both(client: XdsClient) -> None:
        client.subscribe(CLUSTER_TYPE, None)
        client.subscribe(ENDPOINT_TYPE, ["web"])

    async def scenario() -> None:
        async with connected("tcp", is_delta=True, subscribe=both) as (plane, _, _client):
            await plane.next()
            await plane.next()
            plane.answers.put_nowait(delta("1", ("a", "v7")))
            await plane.next()
            plane.end_stream()
            again = [request_summary(await plane.next()) for _ in range(2)]
            assert again == [
                ("Cluster", (), (), {"a": "v7"}, "", ""),
                ("ClusterLoadAssignment", ("web",), (), {}, "", ""),
            ]

    run(scenario)


def test_delta_subscription_changes_by_difference() -> None:
    async def scenario() -> None:
        async with connected("tcp", is_delta=True, subscribe=all_clusters) as (plane, _, client):
            await plane.next()
            client.subscribe(ENDPOINT_TYPE, [])  # an empty first request would mean: all
            client.subscribe(ENDPOINT_TYPE, ["a", "b"])
            client.subscribe(ENDPOINT_TYPE, ["b", "c"])
            assert [request_summary(await plane.next())[1:3] for _ in range(2)] == [
                (("a", "b"), ()),
                (("c",), ("a",)),
            ]

    run(scenario)


def test_acknowledgement_waits_until_in_force() -> None:
    async def scenario() -> None:
        async with connected("tcp", is_delta=True, subscribe=all_clusters) as (
            plane,
            recorder,
            client,
        ):
            await plane.next()
            recorder.waiting = {CLUSTER_TYPE}
            plane.answers.put_nowait(delta("1", ("a", "v1")))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(plane.requests.get(), 0.1)
            recorder.waiting = set()
            client.release()
            assert (await plane.next()).response_nonce == "1"

    run(scenario)


def test_state_of_the_world(target: str) -> None:
    async def scenario() -> None:
        async with connected(target, is_delta=False, subscribe=all_clusters) as (
            plane,
            recorder,
            client,
        ):
            first = await plane.next()
            assert (first.version_info, first.response_nonce, first.node.id) == ("", "", NODE.id)
            plane.answers.put_nowait(world("1", "v1", "a", "b"))
            accepted = await plane.next()
            assert (accepted.version_info, accepted.response_nonce) == ("v1", "1")

            plane.answers.put_nowait(world("2", "v2", "b", "c"))
            await plane.next()
            last = recorder.updates[-1]
            assert [item.name for item in last.resources] == ["c"]  # b is the same as before
            assert last.removed == ("a",)

            recorder.bad = {"d"}
            plane.answers.put_nowait(world("3", "v3", "b", "c", "d"))
            refused = await plane.next()
            assert (refused.version_info, refused.response_nonce) == ("v2", "3")
            assert refused.error_detail.message == "Cluster d: lb_policy: is not supported"
            assert sorted(client.subscriptions[CLUSTER_TYPE].known) == ["b", "c"]

            plane.end_stream()
            again = await plane.next()
            assert (again.version_info, again.response_nonce, again.node.id) == ("v2", "", NODE.id)

    run(scenario)


def test_resource_of_another_type_is_refused() -> None:
    async def scenario() -> None:
        async with connected("tcp", is_delta=True, subscribe=all_clusters) as (plane, _, _client):
            await plane.next()
            plane.answers.put_nowait(
                DeltaDiscoveryResponse(
                    type_url=CLUSTER_TYPE,
                    nonce="1",
                    resources=[DeltaResource(name="n", resource=packed(Node(id="n")))],
                )
            )
            message = (await plane.next()).error_detail.message
            assert message.startswith("n: has another type than the answer")

    run(scenario)

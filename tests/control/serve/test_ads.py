"""ADS by a real gRPC client over a socket: both forms, pushes, answers, waiting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from meshlab.control.registry.store import CONFIG_KINDS, SERVICES, Store
from meshlab.control.serve.access_log import AccessLogSink
from meshlab.control.serve.ads import SERVICE, AdsService
from meshlab.control.serve.auth import Authenticator
from meshlab.control.serve.debug import Debug, sync_state
from meshlab.control.serve.metric import Metrics
from meshlab.control.serve.push import Pusher
from meshlab.control.snapshot import Mesh
from meshlab.control.translate.cache import Cache
from meshlab.control.translate.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE

NODE = "sidecar~10.244.0.7~web-1.shop~shop.svc.cluster.local"
HOST = "web.shop.svc.cluster.local"
VIRTUAL_SERVICES = next(kinds[0] for kinds in CONFIG_KINDS if kinds[0].kind == "VirtualService")
RESOURCE = VIRTUAL_SERVICES.name


class Reviewer:
    """An API server that knows one token."""

    async def create(self, resource: Any, review: Any) -> Any:
        del resource
        if review["spec"]["token"] != "good":
            return {"status": {"authenticated": False, "error": "unknown token"}}
        user = {
            "username": "system:serviceaccount:shop:web",
            "extra": {"authentication.kubernetes.io/pod-name": ["web-1"]},
        }
        return {"status": {"authenticated": True, "audiences": ["istio-ca"], "user": user}}


@dataclass
class Plane:
    store: Store
    ads: AdsService
    debug: Debug
    channel: Any
    version: int = 0

    def put(self, resource: Any, obj: Any) -> str:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.store.change(resource, "MODIFIED", obj)
        return str(self.version)

    def route(self, **spec: Any) -> str:
        """Put the VirtualService; return its version."""
        return self.put(
            VIRTUAL_SERVICES,
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {
                    "hosts": ["web"],
                    "http": [{"route": [{"destination": {"host": "web"}}], **spec}],
                },
            },
        )

    async def wait(self, version: str, timeout: float = 5) -> Any:  # noqa: ASYNC109 - passed on
        return await self.debug.wait(RESOURCE, ("shop", "web"), version, timeout=timeout)


def service(name: str, address: str) -> Any:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": address, "selector": {"app": name}, "ports": ports},
    }


@asynccontextmanager
async def plane(path: Path, *, secured: bool = False) -> AsyncIterator[Plane]:
    metrics = Metrics()
    ads = AdsService(Cache(), metrics)
    store = Store(Mesh(), lambda: pusher.notify())
    pusher = Pusher(store, metrics, ads.connections)
    ads.latest = lambda: pusher.latest
    debug = Debug(store, pusher, ads, AccessLogSink(), metrics, lambda: "")
    server = grpc.aio.server()
    authenticator = Authenticator(Reviewer()) if secured else None  # type: ignore[arg-type]
    server.add_generic_rpc_handlers((ads.handler(authenticator),))
    server.add_insecure_port(f"unix:{path}/ads")
    await server.start()
    pushing = asyncio.ensure_future(pusher.run())
    try:
        async with grpc.aio.insecure_channel(f"unix:{path}/ads") as channel:
            made = Plane(store, ads, debug, channel)
            made.put(SERVICES, service("web", "10.96.0.5"))
            pusher.publish(0.0)
            yield made
    finally:
        pushing.cancel()
        await server.stop(None)


class Client:
    """A data plane's end of the stream."""

    def __init__(self, channel: Any, *, delta: bool, token: str = "", node: str = NODE) -> None:
        self.delta = delta
        prefix = "Delta" if delta else ""
        self.request = getattr(discovery_pb2, f"{prefix}DiscoveryRequest")
        response = getattr(discovery_pb2, f"{prefix}DiscoveryResponse")
        method = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
        metadata = [("authorization", f"Bearer {token}")] if token else None
        self.call = channel.stream_stream(
            f"/{SERVICE}/{method}",
            request_serializer=self.request.SerializeToString,
            response_deserializer=response.FromString,
        )(metadata=metadata)
        self.names: dict[str, list[str]] = {}
        self.node = node

    async def ask(self, type_url: str, *names: str, **more: Any) -> None:
        self.names[type_url] = list(names)
        word = "resource_names_subscribe" if self.delta else "resource_names"
        request = self.request(type_url=type_url, **{word: names}, **more)
        request.node.id = self.node
        request.node.metadata.update({"NAMESPACE": "shop", "SERVICE_ACCOUNT": "web"})
        await self.call.write(request)

    async def answer(self, response: Any, error: str = "") -> None:
        request = self.request(type_url=response.type_url, response_nonce=response.nonce)
        if not self.delta:
            request.resource_names.extend(self.names[response.type_url])
            request.version_info = response.version_info
        if error:
            request.error_detail.message = error
        await self.call.write(request)

    async def read(self, type_url: str) -> Any:
        response = await self.call.read()
        assert response.type_url == type_url
        return response

    async def take(self, type_url: str) -> set[str]:
        """Read the next response, accept it, return the names in it."""
        response = await self.read(type_url)
        await self.answer(response)
        return self.names_in(response)

    def names_in(self, response: Any) -> set[str]:
        if self.delta:
            return {resource.name for resource in response.resources}
        return {_name(any_) for any_ in response.resources}

    async def boot(self) -> None:
        """Subscribe to everything in a data plane's order."""
        await self.ask(CLUSTER)
        clusters = await self.take(CLUSTER)
        await self.ask(ENDPOINT, *sorted(n for n in clusters if n.startswith("outbound|")))
        await self.take(ENDPOINT)
        await self.ask(LISTENER)
        await self.take(LISTENER)
        await self.ask(ROUTE, "80")
        assert await self.take(ROUTE) == {"80"}


def _name(any_: Any) -> str:
    from envoy.config.cluster.v3 import cluster_pb2
    from envoy.config.endpoint.v3 import endpoint_pb2
    from envoy.config.listener.v3 import listener_pb2
    from envoy.config.route.v3 import route_pb2

    kinds = {
        CLUSTER: cluster_pb2.Cluster,
        ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
        LISTENER: listener_pb2.Listener,
        ROUTE: route_pb2.RouteConfiguration,
    }
    message = kinds[any_.type_url].FromString(any_.value)
    name: str = message.cluster_name if any_.type_url == ENDPOINT else message.name
    return name


Scenario = Callable[[Plane], Awaitable[None]]


def run(path: Path, scenario: Scenario, *, secured: bool = False) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), plane(path, secured=secured) as made:
            await scenario(made)

    asyncio.run(whole())


both = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


@both
def test_a_route_change_is_pushed_as_a_route_only(tmp_path: Path, *, delta: bool) -> None:
    async def scenario(made: Plane) -> None:
        client = Client(made.channel, delta=delta)
        await client.boot()
        version = made.route(timeout="3s")
        waiting = asyncio.ensure_future(made.wait(version))
        assert await client.take(ROUTE) == {"80"}
        answer = await waiting
        assert (answer["synced"], answer["pending"]) == (True, [])
        assert [p["id"] for p in answer["proxies"]] == [NODE]
        client.call.cancel()

    run(tmp_path, scenario)


@both
def test_clusters_come_before_their_routes_and_leave_after_them(
    tmp_path: Path, *, delta: bool
) -> None:
    async def scenario(made: Plane) -> None:
        client = Client(made.channel, delta=delta)
        await client.boot()
        made.put(SERVICES, service("api", "10.96.0.6"))
        name = "outbound|80||api.shop.svc.cluster.local"
        response = await client.read(CLUSTER)
        assert name in client.names_in(response)
        # The proxy has not answered yet: it warms the cluster. Its routes have to wait.
        early = asyncio.ensure_future(client.call.read())
        done, _ = await asyncio.wait([early], timeout=0.2)
        assert not done
        await client.answer(response)
        response = await early
        assert response.type_url in (LISTENER, ROUTE)
        while response.type_url != ROUTE:
            await client.answer(response)
            response = await client.call.read()
        await client.answer(response)

        made.store.change(SERVICES, "DELETED", service("api", "10.96.0.6"))
        order = []
        while CLUSTER not in order:
            response = await client.call.read()
            order.append(response.type_url)
            await client.answer(response)
        assert order.index(ROUTE) < order.index(CLUSTER)
        if delta:
            assert list(response.removed_resources) == [name]
        else:
            assert name not in client.names_in(response)
        client.call.cancel()

    run(tmp_path, scenario)


@both
def test_a_refusal_is_kept_and_reported(tmp_path: Path, *, delta: bool) -> None:
    async def scenario(made: Plane) -> None:
        client = Client(made.channel, delta=delta)
        await client.boot()
        version = made.route(timeout="3s")
        waiting = asyncio.ensure_future(made.wait(version))
        await client.answer(await client.read(ROUTE), error="field x is not supported")
        answer = await waiting
        assert not answer["synced"]
        assert answer["pending"] == [{"id": NODE, "error": "field x is not supported"}]
        (connection,) = made.ads.connections
        state = sync_state(connection)["types"]["rds"]
        assert (state["status"], state["error"]) == ("REJECTED", "field x is not supported")
        client.call.cancel()

    run(tmp_path, scenario)


def test_waiting_for_a_proxy_that_does_not_answer_ends_in_time(tmp_path: Path) -> None:
    async def scenario(made: Plane) -> None:
        client = Client(made.channel, delta=True)
        await client.boot()
        answer = await made.wait(made.route(timeout="3s"), timeout=0.3)
        assert not answer["synced"]
        assert answer["pending"] == [{"id": NODE, "reason": "has not acknowledged yet"}]
        client.call.cancel()

    run(tmp_path, scenario)


def test_waiting_for_a_change_that_nobody_was_sent(tmp_path: Path) -> None:
    async def scenario(made: Plane) -> None:
        answer = await made.wait(made.route(timeout="3s"))
        assert (answer["synced"], answer["proxies"]) == (True, [])
        gone = {"metadata": {"name": "web", "namespace": "shop"}}
        made.store.change(VIRTUAL_SERVICES, "DELETED", gone)
        assert (await made.wait("deleted"))["synced"]
        answer = await made.wait("99", timeout=0.1)
        assert answer["pending"][0]["id"] == "istiod"

    run(tmp_path, scenario)


def test_a_reconnecting_proxy_is_sent_only_what_differs(tmp_path: Path) -> None:
    async def scenario(made: Plane) -> None:
        first = Client(made.channel, delta=True)
        await first.ask(CLUSTER)
        response = await first.read(CLUSTER)
        versions = {resource.name: resource.version for resource in response.resources}
        first.call.cancel()
        again = Client(made.channel, delta=True)
        stale = {**versions, "gone": "1", "BlackHoleCluster": "other"}
        await again.ask(CLUSTER, initial_resource_versions=stale)
        response = await again.read(CLUSTER)
        assert again.names_in(response) == {"BlackHoleCluster"}
        assert list(response.removed_resources) == ["gone"]
        again.call.cancel()

    run(tmp_path, scenario)


def test_a_name_that_does_not_exist_is_answered(tmp_path: Path) -> None:
    async def scenario(made: Plane) -> None:
        client = Client(made.channel, delta=True)
        await client.ask(ROUTE, "nothing")
        response = await client.read(ROUTE)
        assert list(response.removed_resources) == ["nothing"]
        client.call.cancel()

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("token", "node", "code"),
    [
        pytest.param("", NODE, grpc.StatusCode.UNAUTHENTICATED, id="no token"),
        pytest.param("bad", NODE, grpc.StatusCode.UNAUTHENTICATED, id="an unknown token"),
        pytest.param(
            "good",
            "sidecar~10.244.0.7~web-1.other~other.svc.cluster.local",
            grpc.StatusCode.PERMISSION_DENIED,
            id="another namespace's node",
        ),
        pytest.param(
            "good",
            "sidecar~10.244.0.7~web-2.shop~shop.svc.cluster.local",
            grpc.StatusCode.PERMISSION_DENIED,
            id="another pod's node",
        ),
        pytest.param("good", "me", grpc.StatusCode.INVALID_ARGUMENT, id="no node id"),
    ],
)
def test_who_is_refused(tmp_path: Path, token: str, node: str, code: Any) -> None:
    async def scenario(made: Plane) -> None:
        client = Client(made.channel, delta=True, token=token, node=node)
        await client.ask(CLUSTER)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.call.read()
        assert refused.value.code() == code

    run(tmp_path, scenario, secured=True)


def test_who_is_let_in(tmp_path: Path) -> None:
    async def scenario(made: Plane) -> None:
        client = Client(made.channel, delta=True, token="good")
        await client.ask(CLUSTER)
        assert f"outbound|80||{HOST}" in await client.take(CLUSTER)
        client.call.cancel()

    run(tmp_path, scenario, secured=True)

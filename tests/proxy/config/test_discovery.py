"""Discovery against a real ADS and SDS server: order, warm-up, all types at once, refusals."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy.service.discovery.v3.discovery_pb2 import Resource as DeltaResource
from envoy.service.secret.v3 import sds_pb2_grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.bootstrap import read_bootstrap
from meshlab.proxy.config.discovery import Discovery
from meshlab.proxy.config.protobuf import parse_json
from meshlab.proxy.config.snapshot import Configuration
from meshlab.proxy.config.xds import (
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    ORDER,
    RESOURCE_CLASSES,
    ROUTE_TYPE,
    SECRET_TYPE,
    resource_name,
)
from meshlab.proxy.core.snapshot import Snapshot
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.core.tls import ValidationContext
from meshlab.proxy.net.task import spawn

PREFIX = "type.googleapis.com/envoy.extensions"
PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"

BOOTSTRAP = """
node: {{id: sidecar, cluster: app}}
dynamic_resources:
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}}}]
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: xds-grpc
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: xds-grpc
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
"""


class World(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """A control plane as simple as can be: whoever subscribed gets what changed."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Message]] = {type_url: {} for type_url in ORDER}
        self.asked: list[str] = []
        self.acknowledged: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.changed = asyncio.Condition()
        self._push: asyncio.Event = asyncio.Event()
        self._sent: dict[str, dict[str, bytes]] = {}
        self._wanted: dict[str, set[str] | None] = {}
        self._last_names: dict[str, set[str] | None] = {}
        self._nonce = 0

    def put(self, type_url: str, value: dict[str, object]) -> None:
        message = parse_json(value, RESOURCE_CLASSES[type_url])
        self.resources[type_url][resource_name(message)] = message

    def push(self) -> None:
        self._push.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(holds), 5)

    async def _note(self, request: DeltaDiscoveryRequest | DiscoveryRequest) -> None:
        kind = request.type_url
        async with self.changed:
            if kind not in self._wanted:
                self.asked.append(kind)
            if request.response_nonce and request.HasField("error_detail"):
                self.refused[kind] = request.error_detail.message
            elif request.response_nonce:
                self.acknowledged[kind] = int(request.response_nonce)
            if isinstance(request, DiscoveryRequest):
                names = set(request.resource_names) or None
            elif kind in self._wanted:
                old = self._wanted[kind]
                names = (
                    None
                    if old is None
                    else (
                        (old | set(request.resource_names_subscribe))
                        - set(request.resource_names_unsubscribe)
                    )
                )
            else:
                names = set(request.resource_names_subscribe) or None
            self._wanted[kind] = names
            self.changed.notify_all()
        self.push()

    def _answers(self, is_delta: bool) -> list[Message]:
        answers: list[Message] = []
        for type_url in (kind for kind in ORDER if kind in self._wanted):
            names = self._wanted[type_url]
            now = {
                name: message.SerializeToString(deterministic=True)
                for name, message in self.resources[type_url].items()
                if names is None or name in names
            }
            sent = self._sent.get(type_url)
            if now == sent:
                continue
            if sent is None and names is not None and not now:
                continue
            self._nonce += 1
            changed = [name for name in now if not is_delta or (sent or {}).get(name) != now[name]]
            packed = [Any(type_url=type_url, value=now[name]) for name in changed]
            if is_delta:
                answers.append(
                    DeltaDiscoveryResponse(
                        type_url=type_url,
                        nonce=str(self._nonce),
                        resources=[
                            DeltaResource(name=name, version=str(self._nonce), resource=item)
                            for name, item in zip(changed, packed, strict=True)
                        ],
                        removed_resources=sorted(set(sent or {}) - set(now)),
                    )
                )
            else:
                answers.append(
                    DiscoveryResponse(
                        type_url=type_url,
                        nonce=str(self._nonce),
                        version_info=str(self._nonce),
                        resources=packed,
                    )
                )
            self._sent[type_url] = now
        return answers

    async def _serve(self, requests, is_delta: bool):
        async def collect() -> None:
            async for request in requests:
                await self._note(request)

        reader = spawn(collect(), "world")
        try:
            while True:
                await self._push.wait()
                self._push.clear()
                for answer in self._answers(is_delta):
                    yield answer
        finally:
            reader.cancel()

    async def DeltaAggregatedResources(self, requests, context):
        async for answer in self._serve(requests, is_delta=True):
            yield answer

    async def StreamAggregatedResources(self, requests, context):
        async for answer in self._serve(requests, is_delta=False):
            yield answer


class Secrets(sds_pb2_grpc.SecretDiscoveryServiceServicer):
    """Gives every secret that is asked for, as soon as `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def StreamSecrets(self, requests, context):
        async for request in requests:
            if request.response_nonce:
                continue
            await self.open.wait()
            yield DiscoveryResponse(
                type_url=SECRET_TYPE,
                nonce="1",
                version_info="1",
                resources=[packed_secret(name) for name in request.resource_names],
            )


def packed_secret(name: str) -> Any:
    secret = parse_json(
        {"name": name, "validation_context": {"trusted_ca": {"inline_string": PEM}}},
        RESOURCE_CLASSES[SECRET_TYPE],
    )
    return Any(type_url=SECRET_TYPE, value=secret.SerializeToString())


class Proxy:
    """Stands for the worker: keeps the snapshot in force."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.unopenable: set[str] = set()

    async def apply(self, snapshot: Snapshot) -> None:
        for name in snapshot.listeners:
            if name in self.unopenable:
                raise ConfigError("cannot listen", object=f"Listener {name}", field="address")
        self.snapshot = snapshot


@asynccontextmanager
async def running(
    api_type: str, world: World, secrets: Secrets
) -> AsyncIterator[tuple[Proxy, Discovery]]:
    server = grpc.aio.server()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(world, server)
    sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(secrets, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    before = asyncio.all_tasks()
    configuration = Configuration(read_bootstrap(BOOTSTRAP.format(api_type=api_type, port=port)))
    configuration.load_static()
    proxy = Proxy()
    discovery = Discovery(configuration, proxy.apply, StatRegistry())
    await discovery.start()
    try:
        yield proxy, discovery
    finally:
        tasks = [
            task for task in asyncio.all_tasks() - before if task.get_name()[:3] in ("ADS", "SDS")
        ]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.stop(None)


def cluster(name: str, **more: object) -> dict[str, object]:
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": {"ads": {}}},
        "connect_timeout": "1s",
        **more,
    }


def endpoints(name: str, port: int) -> dict[str, object]:
    address = {"socket_address": {"address": "10.0.0.1", "port_value": port}}
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }


def routes(name: str, **shares: int) -> dict[str, object]:
    clusters = [{"name": target, "weight": weight} for target, weight in shares.items()]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}}
    return {
        "name": name,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
    }


def listener(name: str, rds: str) -> dict[str, object]:
    router = {"@type": f"{PREFIX}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{PREFIX}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "rds": {"route_config_name": rds, "config_source": {"ads": {}}},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def tls_from(source: dict[str, object]) -> dict[str, object]:
    validation = {"name": "ROOTCA", "sds_config": source}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{PREFIX}.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {"validation_context_sds_secret_config": validation},
        },
    }


OVER_SDS: dict[str, object] = {
    "api_config_source": {
        "api_type": "GRPC",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    }
}

both_forms = pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def with_timeout() -> None:
        await asyncio.wait_for(scenario(), 20)

    asyncio.run(with_timeout())


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - the worker's state has no event
            await asyncio.sleep(0.005)


def shares(snapshot: Snapshot, name: str) -> dict[str, int]:
    action = snapshot.routes[name].virtual_hosts[0].routes[0].action
    return {share.name: share.weight for share in action.weighted_clusters}


def small_world() -> World:
    world = World()
    world.put(CLUSTER_TYPE, cluster("blue"))
    world.put(ENDPOINT_TYPE, endpoints("blue", 1))
    world.put(LISTENER_TYPE, listener("web", "http.80"))
    world.put(ROUTE_TYPE, routes("http.80", blue=1))
    return world


@both_forms
def test_asks_in_order_and_warms_up(api_type: str) -> None:
    async def scenario() -> None:
        world = small_world()
        async with running(api_type, world, Secrets()) as (proxy, discovery):
            await asyncio.wait_for(discovery.initialized.wait(), 5)
            assert world.asked == [CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE]
            assert sorted(proxy.snapshot.listeners) == ["web"]
            assert sorted(proxy.snapshot.clusters) == ["blue"]
            assert shares(proxy.snapshot, "http.80") == {"blue": 1}

    run(scenario)


@both_forms
def test_all_types_change_at_once(api_type: str) -> None:
    """A route to a new cluster comes into force, and is acknowledged, with its endpoints."""

    async def scenario() -> None:
        world = small_world()
        async with running(api_type, world, Secrets()) as (proxy, discovery):
            await discovery.initialized.wait()
            await world.until(lambda: ROUTE_TYPE in world.acknowledged)
            world.put(CLUSTER_TYPE, cluster("green"))
            world.put(ROUTE_TYPE, routes("http.80", blue=20, green=80))
            world.put(LISTENER_TYPE, listener("more", "http.81"))
            world.put(ROUTE_TYPE, routes("http.81", green=1))
            world.put(ENDPOINT_TYPE, endpoints("blue", 2))
            acknowledged = world.acknowledged[ROUTE_TYPE]
            world.push()
            await world.until(lambda: "green" in (world._wanted[ENDPOINT_TYPE] or ()))
            route_answers = discovery.ads.subscriptions[ROUTE_TYPE]
            await eventually(lambda: route_answers.attempts >= 2)
            assert shares(proxy.snapshot, "http.80") == {"blue": 1}
            assert world.acknowledged[ROUTE_TYPE] == acknowledged
            world.put(ENDPOINT_TYPE, endpoints("green", 3))
            world.push()
            await world.until(lambda: world.acknowledged[ROUTE_TYPE] > acknowledged)
            assert shares(proxy.snapshot, "http.80") == {"blue": 20, "green": 80}
            await eventually(lambda: proxy.snapshot.listeners.keys() == {"web", "more"})
            ports = {
                name: assignment.localities[0].endpoints[0].address.port
                for name, assignment in proxy.snapshot.endpoints.items()
            }
            assert ports == {"blue": 2, "green": 3}

    run(scenario)


@both_forms
def test_refused_cluster_keeps_its_last_good_version(api_type: str) -> None:
    async def scenario() -> None:
        world = small_world()
        async with running(api_type, world, Secrets()) as (proxy, discovery):
            await discovery.initialized.wait()
            before = proxy.snapshot.clusters["blue"]
            world.put(CLUSTER_TYPE, cluster("blue", lb_policy="MAGLEV"))
            world.put(CLUSTER_TYPE, cluster("green", maglev_lb_config={}))
            world.push()
            await world.until(lambda: CLUSTER_TYPE in world.refused)
            assert world.refused[CLUSTER_TYPE].splitlines() == [
                "Cluster blue: lb_policy: is a policy that this proxy does not have (found MAGLEV; "
                "allowed: ROUND_ROBIN, LEAST_REQUEST, RANDOM, CLUSTER_PROVIDED)",
                "Cluster green: maglev_lb_config: is not supported by this proxy. "
                "Remove this field",
            ]
            assert proxy.snapshot.clusters == {"blue": before}

    run(scenario)


@both_forms
def test_listener_that_cannot_be_opened_is_refused(api_type: str) -> None:
    async def scenario() -> None:
        world = small_world()
        async with running(api_type, world, Secrets()) as (proxy, discovery):
            await discovery.initialized.wait()
            proxy.unopenable = {"taken"}
            world.put(LISTENER_TYPE, listener("taken", "http.80"))
            world.push()
            await world.until(lambda: LISTENER_TYPE in world.refused)
            assert world.refused[LISTENER_TYPE] == "Listener taken: address: cannot listen"
            assert sorted(proxy.snapshot.listeners) == ["web"]

    run(scenario)


@both_forms
def test_cluster_waits_for_its_secret(api_type: str) -> None:
    async def scenario() -> None:
        world, secrets = small_world(), Secrets()
        world.put(CLUSTER_TYPE, cluster("safe", transport_socket=tls_from(OVER_SDS)))
        world.put(ENDPOINT_TYPE, endpoints("safe", 4))
        async with running(api_type, world, secrets) as (proxy, discovery):
            await world.until(lambda: ENDPOINT_TYPE in world.acknowledged)
            assert sorted(proxy.snapshot.clusters) == ["blue"]
            secrets.open.set()
            await asyncio.wait_for(discovery.initialized.wait(), 5)
            assert sorted(proxy.snapshot.clusters) == ["blue", "safe"]
            assert proxy.snapshot.secrets == {"ROOTCA": ValidationContext(trusted_ca=PEM.encode())}

    run(scenario)


@both_forms
def test_secret_over_ads(api_type: str) -> None:
    async def scenario() -> None:
        world = small_world()
        world.put(CLUSTER_TYPE, cluster("safe", transport_socket=tls_from({"ads": {}})))
        world.put(ENDPOINT_TYPE, endpoints("safe", 4))
        world.put(
            SECRET_TYPE,
            {"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_string": PEM}}},
        )
        async with running(api_type, world, Secrets()) as (proxy, discovery):
            await asyncio.wait_for(discovery.initialized.wait(), 5)
            assert list(proxy.snapshot.secrets) == ["ROOTCA"]

    run(scenario)


@both_forms
def test_removed_resources_go(api_type: str) -> None:
    async def scenario() -> None:
        world = small_world()
        world.put(CLUSTER_TYPE, cluster("green"))
        world.put(ENDPOINT_TYPE, endpoints("green", 3))
        async with running(api_type, world, Secrets()) as (proxy, discovery):
            await discovery.initialized.wait()
            del world.resources[CLUSTER_TYPE]["green"]
            del world.resources[LISTENER_TYPE]["web"]
            world.push()
            await eventually(
                lambda: not proxy.snapshot.listeners and list(proxy.snapshot.clusters) == ["blue"]
            )
            assert list(proxy.snapshot.endpoints) == ["blue"]
            assert dict(proxy.snapshot.routes) == {}

    run(scenario)

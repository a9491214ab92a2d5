"""The listeners and routes of a gateway, from the Gateways that select it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2

from meshlab.api.istio.gateway import Server
from meshlab.control.snapshot import Mesh, Proxy, World
from meshlab.control.translate import access_log
from meshlab.control.translate.cache import Cache, Resource
from meshlab.control.translate.capability import Capabilities, capabilities
from meshlab.control.translate.filter_chain import filter_chain
from meshlab.control.translate.host import overlap, visible
from meshlab.control.translate.http_connection_manager import http_filter
from meshlab.control.translate.index import BoundVirtualService, Index, index
from meshlab.control.translate.listener import ANY_ADDRESS, wait_for_first_bytes
from meshlab.control.translate.protobuf import address
from meshlab.control.translate.route import (
    route_configuration,
    virtual_host,
    virtual_service_routes,
)
from meshlab.control.translate.route_match import Source, is_catch_all

HTTP_PROTOCOLS = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})


@dataclass(frozen=True, slots=True)
class BoundServer:
    """A server of a Gateway."""

    gateway: str
    """`namespace/name`."""
    namespace: str
    server: Server


@dataclass(frozen=True, slots=True)
class GatewayPort:
    """All HTTP servers on one port of the gateway's pod."""

    number: int
    """As clients of the gateway's Service dial it."""
    listen: int
    """On the pod."""
    bind: str
    servers: tuple[BoundServer, ...]

    @property
    def listener(self) -> str:
        return f"{self.bind or ANY_ADDRESS}_{self.listen}"

    @property
    def route(self) -> str:
        return f"http.{self.listen}" + (f".{self.bind}" if self.bind else "")


def gateway_ports(look: Index, proxy: Proxy) -> list[GatewayPort]:
    """Return the ports that Gateways open on a proxy; servers of many merge on a port."""
    by_port: dict[tuple[int, str], list[BoundServer]] = {}
    for gateway in look.gateways_of(proxy):
        meta = gateway.metadata
        for server in gateway.spec.servers:
            if server.port.protocol.upper() in HTTP_PROTOCOLS:
                by_port.setdefault((server.port.number, server.bind), []).append(
                    BoundServer(f"{meta.namespace}/{meta.name}", meta.namespace, server)
                )
    return [
        GatewayPort(number, _listening(look, proxy, number), bind, tuple(servers))
        for (number, bind), servers in sorted(by_port.items())
    ]


def _listening(look: Index, proxy: Proxy, number: int) -> int:
    """Return the pod's port behind a port of the gateway's Service; without one the same."""
    for service in look.services_of(proxy):
        for port in service.ports:
            if port.number == number:
                return look.target_port(port, proxy.ip) or number
    return number


def listeners(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return a listener a port; without a Gateway there is none, and connections are refused."""
    can = capabilities(proxy)
    for port in gateway_ports(index(world), proxy):
        yield cache.resource(
            ("gateway listener", port.listener, port.route, can),
            (world.mesh,),
            port.listener,
            _listener,
            world.mesh,
            port,
            can,
        )


def _listener(mesh: Mesh, port: GatewayPort, can: Capabilities) -> Any:
    http = http_filter(mesh, can, "gateway", f"outbound_{port.listener};", rds=port.route)
    made = listener_pb2.Listener(
        name=port.listener,
        address=address(port.bind or ANY_ADDRESS, port.listen),
        traffic_direction=base_pb2.OUTBOUND,
        access_log=access_log.listener_logs(mesh),
        filter_chains=[filter_chain("", [http])],
    )
    wait_for_first_bytes(made)
    return made


def routes(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return the RouteConfigurations that the gateway's listeners name."""
    can = capabilities(proxy)
    look = index(world)
    relevant = [
        vs
        for vs in look.virtual_services
        if visible(vs.spec.export_to, vs.namespace, proxy.namespace)
    ]
    inputs = ([vs.object for vs in relevant], world.services, world.mesh)
    for port in gateway_ports(look, proxy):
        yield cache.resource(
            (
                "gateway route",
                port.route,
                proxy.namespace,
                tuple(sorted(proxy.labels.items())),
                can,
            ),
            (port, *inputs),
            port.route,
            _route_configuration,
            look,
            port,
            relevant,
            proxy,
            can,
        )


def _route_configuration(
    look: Index,
    port: GatewayPort,
    relevant: Sequence[BoundVirtualService],
    proxy: Proxy,
    can: Capabilities,
) -> Any:
    """Return a virtual host for each host that a Gateway serves and a VirtualService routes."""
    by_host: dict[str, list[Any]] = {}
    for vs in relevant:
        servers = [each for each in port.servers if each.gateway in vs.gateways]
        source = Source(
            port=port.number,
            gateways=frozenset(each.gateway for each in servers),
            namespace=proxy.namespace,
            labels=proxy.labels,
        )
        for host in _hosts(vs, servers):
            by_host.setdefault(host, []).extend(virtual_service_routes(look, vs, source, can))
    hosts = [
        virtual_host(f"{host}:{port.number}", [host], sorted(made, key=_is_last))
        for host, made in by_host.items()
    ]
    # No domain matches: 404. A configuration without any virtual host would do so too, but
    # then nothing in it says why.
    return route_configuration(
        port.route, hosts or [virtual_host(f"blackhole:{port.number}", ["*"], [])]
    )


def _is_last(route: Any) -> bool:
    """Sort key where several VirtualServices share a host: what takes everything goes last."""
    return is_catch_all(route.match)


def _hosts(vs: BoundVirtualService, servers: Sequence[BoundServer]) -> list[str]:
    """Return the hosts of a VirtualService that the servers let in, narrowed to both."""
    made: dict[str, None] = {}
    for host in vs.hosts:
        for each in servers:
            for allowed in each.server.hosts:
                namespace, _, dns = allowed.rpartition("/")
                if namespace in ("", "*", vs.namespace) or (
                    namespace == "." and each.namespace == vs.namespace
                ):
                    made[overlap(host, dns)] = None
    return [host for host in made if host]

"""The inbound side of a sidecar: `virtualInbound` and the clusters to the app's own ports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.type.v3 import range_pb2

from meshlab.api.istio.destination_rule import ConnectionPoolSettings
from meshlab.control.snapshot import Mesh, Proxy, Service, ServicePort, World
from meshlab.control.translate import access_log, mtls, names
from meshlab.control.translate.cache import Cache, Resource
from meshlab.control.translate.capability import Capabilities, capabilities
from meshlab.control.translate.cluster import (
    apply_http_options,
    bind_to_inbound_source,
    original_dst,
    service_metadata,
)
from meshlab.control.translate.filter_chain import (
    Chain,
    filter_chain,
    inbound_chains,
    without_http2,
)
from meshlab.control.translate.http_connection_manager import http_filter
from meshlab.control.translate.index import index
from meshlab.control.translate.listener import (
    ANY_ADDRESS,
    http_inspector,
    tls_inspector,
    wait_for_first_bytes,
)
from meshlab.control.translate.listener import original_dst as original_dst_filter
from meshlab.control.translate.peer_authentication import Mode, port_levels, workload_mode
from meshlab.control.translate.protobuf import address, metadata
from meshlab.control.translate.protocol import Protocol, protocol
from meshlab.control.translate.retry import inbound_policy
from meshlab.control.translate.tcp_proxy import tcp_filters
from meshlab.control.translate.timeout import apply as apply_timeout
from meshlab.control.translate.traffic_policy import NO_POLICY, Policy, overlay


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """A port of the workload that a service declares."""

    number: int
    """On the workload (`targetPort`)."""
    service: Service
    port: ServicePort
    protocol: Protocol
    mode: Mode
    pool: ConnectionPoolSettings | None
    """Of the service's DestinationRule: clients without a sidecar meet the limits here."""

    @property
    def cluster(self) -> str:
        return names.inbound_cluster(self.number)


def inbound_ports(world: World, proxy: Proxy) -> tuple[InboundPort, ...]:
    """Return the workload's declared ports in order; of two services on one the older counts."""
    can = capabilities(proxy)
    look = index(world)
    made: dict[int, InboundPort] = {}
    for service in look.services_of(proxy):
        rule = look.destination_rule(proxy.namespace, service)
        policy = rule.traffic_policy if rule else None
        for port in service.ports:
            number = look.target_port(port, proxy.ip)
            if port.protocol != "TCP" or number is None or number in made:
                continue
            made[number] = InboundPort(
                number=number,
                service=service,
                port=port,
                protocol=protocol(port, can),
                mode=workload_mode(world, proxy.namespace, proxy.labels, number),
                pool=overlay(NO_POLICY, policy, port.number).connection_pool,
            )
    return tuple(made[number] for number in sorted(made))


def clusters(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return the clusters to the app: one a declared port, one for all others."""
    can = capabilities(proxy)
    mesh = world.mesh
    name = names.INBOUND_PASSTHROUGH_CLUSTER
    yield cache.resource(("cluster", name), (mesh,), name, _passthrough, world)
    for each in inbound_ports(world, proxy):
        yield cache.resource(
            ("cluster", each.cluster, each.service.fqdn, each.port.number, can),
            (each, mesh),
            each.cluster,
            _cluster,
            world,
            each,
            can,
        )


def _passthrough(world: World) -> Any:
    made = original_dst(world, names.INBOUND_PASSTHROUGH_CLUSTER, None)
    bind_to_inbound_source(made)
    return made


def _cluster(world: World, each: InboundPort, can: Capabilities) -> Any:
    """Return the cluster to the app; of the service's policy only the connection pool."""
    made = original_dst(world, each.cluster, each.pool)
    made.metadata.CopyFrom(metadata(istio=service_metadata(each.service)))
    bind_to_inbound_source(made)
    apply_http_options(made, each.protocol, Policy(connection_pool=each.pool), can)
    return made


def listeners(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return `virtualInbound`; pods with the same labels share it."""
    can = capabilities(proxy)
    ports = inbound_ports(world, proxy)
    declared = {each.number for each in ports}
    others: dict[int, Mode] = {
        number: workload_mode(world, proxy.namespace, proxy.labels, number or None)
        for number in (0, *port_levels(world, proxy.namespace, proxy.labels))
        if number not in declared
    }
    yield cache.resource(
        (names.VIRTUAL_INBOUND, proxy.namespace, tuple(sorted(proxy.labels.items())), can),
        (ports, others, world.mesh),
        names.VIRTUAL_INBOUND,
        _virtual_inbound,
        world.mesh,
        ports,
        others,
        can,
    )


def _virtual_inbound(
    mesh: Mesh, ports: tuple[InboundPort, ...], others: Mapping[int, Mode], can: Capabilities
) -> Any:
    """Return the listener; `others`: modes of ports that no service declares, 0 for the rest."""
    made = listener_pb2.Listener(
        name=names.VIRTUAL_INBOUND,
        address=address(ANY_ADDRESS, names.INBOUND_PORT),
        traffic_direction=base_pb2.INBOUND,
        access_log=access_log.listener_logs(mesh),
        listener_filters=[
            original_dst_filter(),
            _off_at(tls_inspector(), [each.number for each in ports if _is_opaque(each)]),
            _off_at(
                http_inspector(),
                [each.number for each in ports if each.protocol is not Protocol.AUTO],
            ),
        ],
    )
    wait_for_first_bytes(made)
    black_hole = tcp_filters(mesh, can, names.BLACK_HOLE_CLUSTER)
    made.filter_chains.append(
        filter_chain("virtualInbound-blackhole", black_hole, port=names.INBOUND_PORT)
    )
    for number, mode in others.items():
        for chain in inbound_chains(Protocol.AUTO, mode):
            made.filter_chains.append(_catch_all(mesh, number, chain, can))
    for each in ports:
        for chain in inbound_chains(each.protocol, each.mode):
            made.filter_chains.append(_port_chain(mesh, each, chain, can))
    return made


def _is_opaque(port: InboundPort) -> bool:
    """Tell whether a port takes anything at all as it comes."""
    return port.protocol is Protocol.TCP and port.mode == "DISABLE"


def _off_at(inspector: Any, ports: list[int]) -> Any:
    """Switch an inspector off where it has nothing to tell: there the server may speak first."""
    matches = [_port_match(number) for number in ports]
    if len(matches) == 1:
        inspector.filter_disabled.CopyFrom(matches[0])
    elif matches:
        inspector.filter_disabled.or_match.rules.extend(matches)
    return inspector


def _port_match(number: int) -> Any:
    return listener_components_pb2.ListenerFilterChainMatchPredicate(
        destination_port_range=range_pb2.Int32Range(start=number, end=number + 1)
    )


def _catch_all(mesh: Mesh, port: int, chain: Chain, can: Capabilities) -> Any:
    """Return a chain for a port that no service declares; 0: for all of them."""
    cluster = names.INBOUND_PASSTHROUGH_CLUSTER
    if chain.http:
        routes = _route_config(cluster, "inbound|http|0", ":0/*", Protocol.AUTO)
        filters = [http_filter(mesh, can, "inbound", cluster, route_config=routes)]
    else:
        filters = tcp_filters(mesh, can, cluster)
    name = "virtualInbound-catchall-http" if chain.http else names.VIRTUAL_INBOUND
    return _chain(mesh, name, port, chain, filters, can)


def _port_chain(mesh: Mesh, each: InboundPort, chain: Chain, can: Capabilities) -> Any:
    if chain.http:
        operation = f"{each.service.fqdn}:{each.port.number}/*"
        host = f"inbound|http|{each.port.number}"
        routes = _route_config(each.cluster, host, operation, each.protocol)
        prefix = f"inbound_{ANY_ADDRESS}_{each.number};"
        filters = [http_filter(mesh, can, "inbound", prefix, route_config=routes)]
    else:
        filters = tcp_filters(mesh, can, each.cluster)
    return _chain(mesh, f"{ANY_ADDRESS}_{each.number}", each.number, chain, filters, can)


def _chain(
    mesh: Mesh, name: str, port: int, chain: Chain, filters: list[Any], can: Capabilities
) -> Any:
    offered = without_http2(("h2", "http/1.1"), http2=can.http2)
    tls = mtls.socket(mtls.server_context(offered, mesh.trust_domain)) if chain.terminate else None
    return filter_chain(
        name,
        filters,
        port=port,
        transport=chain.transport,
        alpn=without_http2(chain.alpn, http2=can.http2),
        transport_socket=tls,
    )


def _route_config(cluster: str, host: str, operation: str, spoken: Protocol) -> Any:
    """Return the one route to the app, inline and named by its cluster."""
    action = route_components_pb2.RouteAction(cluster=cluster)
    apply_timeout(action, None)
    if spoken is not Protocol.HTTP2:
        action.retry_policy.CopyFrom(inbound_policy())
    route = route_components_pb2.Route(
        name="default",
        match=route_components_pb2.RouteMatch(prefix="/"),
        route=action,
        decorator=route_components_pb2.Decorator(operation=operation),
    )
    made = route_pb2.RouteConfiguration(
        name=cluster,
        virtual_hosts=[route_components_pb2.VirtualHost(name=host, domains=["*"], routes=[route])],
    )
    made.validate_clusters.value = False
    return made

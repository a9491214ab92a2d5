"""Outbound listeners of a sidecar (LDS): one a port for HTTP, one an address for the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2

from meshlab.control.snapshot import Mesh, Proxy, Service, ServicePort, World
from meshlab.control.translate import access_log, names
from meshlab.control.translate.cache import Cache, Resource
from meshlab.control.translate.capability import Capabilities, capabilities
from meshlab.control.translate.filter_chain import filter_chain, without_http2
from meshlab.control.translate.http_connection_manager import http_filter
from meshlab.control.translate.index import index
from meshlab.control.translate.protobuf import address, duration, pack
from meshlab.control.translate.protocol import Protocol, protocol
from meshlab.control.translate.tcp_proxy import tcp_filters

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - the field's value for "all addresses"
PLAIN_HTTP = ("http/1.1", "h2c")


@dataclass(frozen=True, slots=True)
class OutboundListener:
    """Connections to one address and port, and where they go."""

    ip: str
    """`0.0.0.0`: to that port anywhere."""
    port: int
    route: str
    """Name of the RouteConfiguration for HTTP; "": the listener takes no HTTP."""
    cluster: str
    """For what is not HTTP."""

    @property
    def name(self) -> str:
        return f"{self.ip}_{self.port}"


def outbound_listeners(world: World, can: Capabilities) -> Mapping[str, OutboundListener]:
    """Return every outbound listener by name; of two with one name the older service's stays."""
    key = ("outbound listeners", can)
    return index(world).once(key, _outbound_listeners, world, can)


def _outbound_listeners(world: World, can: Capabilities) -> Mapping[str, OutboundListener]:
    made: dict[str, OutboundListener] = {}
    for service in world.services_by_age:
        for port in service.ports:
            if port.protocol != "TCP":
                continue
            spoken = protocol(port, can)
            cluster = names.outbound_cluster(port.number, "", service.fqdn)
            if spoken in (Protocol.HTTP, Protocol.HTTP2):
                each = OutboundListener(
                    ANY_ADDRESS, port.number, str(port.number), names.PASSTHROUGH_CLUSTER
                )
                made.setdefault(each.name, each)
                continue
            route = f"{service.fqdn}:{port.number}" if spoken is Protocol.AUTO else ""
            for ip, number in _addresses(world, service, port):
                each = OutboundListener(ip, number, route, cluster)
                made.setdefault(each.name, each)
    return made


def _addresses(world: World, service: Service, port: ServicePort) -> Iterator[tuple[str, int]]:
    """Return where clients connect: the virtual address, or each pod of a headless service."""
    if not service.headless:
        if service.cluster_ip:
            yield service.cluster_ip, port.number
        return
    for endpoint in world.endpoints.get(service.fqdn, ()):
        number = endpoint.ports.get(port.name)
        if endpoint.ready and number is not None:
            yield endpoint.address, number


def listeners(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return the outbound listeners of a sidecar, `virtualOutbound` first."""
    can = capabilities(proxy)
    mesh = world.mesh
    yield cache.resource(
        ("listener", names.VIRTUAL_OUTBOUND, can),
        (mesh,),
        names.VIRTUAL_OUTBOUND,
        virtual_outbound,
        mesh,
        can,
    )
    for name, each in sorted(outbound_listeners(world, can).items()):
        if each.ip == proxy.ip:
            continue  # its own headless address: nothing to balance, and capture would loop
        yield cache.resource(
            ("listener", name, each, can),
            (mesh,),
            name,
            _listener,
            mesh,
            each,
            can,
        )


def fallback_cluster(mesh: Mesh) -> str:
    """Return where connections to unknown destinations go."""
    if mesh.outbound_traffic_policy == "REGISTRY_ONLY":
        return names.BLACK_HOLE_CLUSTER
    return names.PASSTHROUGH_CLUSTER


def virtual_outbound(mesh: Mesh, can: Capabilities) -> Any:
    """Return the one outbound listener with a socket: it hands connections to the others."""
    made = listener_pb2.Listener(
        name=names.VIRTUAL_OUTBOUND,
        address=address(ANY_ADDRESS, names.OUTBOUND_PORT),
        traffic_direction=base_pb2.OUTBOUND,
        access_log=access_log.listener_logs(mesh),
        filter_chains=[
            filter_chain(
                "virtualOutbound-blackhole",
                tcp_filters(mesh, can, names.BLACK_HOLE_CLUSTER),
                port=names.OUTBOUND_PORT,
            ),
            filter_chain(
                "virtualOutbound-catchall-tcp", tcp_filters(mesh, can, fallback_cluster(mesh))
            ),
        ],
    )
    made.use_original_dst.value = True
    return made


def _listener(mesh: Mesh, each: OutboundListener, can: Capabilities) -> Any:
    made = listener_pb2.Listener(
        name=each.name,
        address=address(each.ip, each.port),
        traffic_direction=base_pb2.OUTBOUND,
        access_log=access_log.listener_logs(mesh),
        default_filter_chain=_default_chain(mesh, each, can),
    )
    made.bind_to_port.value = False
    if each.route:
        http = http_filter(mesh, can, "outbound", f"outbound_{each.name};", rds=each.route)
        made.filter_chains.append(
            filter_chain(
                "",
                [http],
                transport="raw_buffer",
                alpn=without_http2(PLAIN_HTTP, http2=can.http2),
            )
        )
        inspect(made)
    return made


def _default_chain(mesh: Mesh, each: OutboundListener, can: Capabilities) -> Any:
    if each.ip == ANY_ADDRESS:
        return filter_chain(
            "PassthroughFilterChain", tcp_filters(mesh, can, fallback_cluster(mesh))
        )
    return filter_chain("", tcp_filters(mesh, can, each.cluster))


def inspect(listener: Any) -> None:
    """Add the filters that tell TLS and HTTP by their first bytes, however late these come."""
    listener.listener_filters.extend([tls_inspector(), http_inspector()])
    wait_for_first_bytes(listener)


def wait_for_first_bytes(listener: Any) -> None:
    listener.listener_filters_timeout.CopyFrom(duration(0))
    listener.continue_on_listener_filters_timeout = True


def tls_inspector() -> Any:
    return _listener_filter("tls_inspector", tls_inspector_pb2.TlsInspector())


def http_inspector() -> Any:
    return _listener_filter("http_inspector", http_inspector_pb2.HttpInspector())


def original_dst() -> Any:
    return _listener_filter("original_dst", original_dst_pb2.OriginalDst())


def _listener_filter(name: str, config: Any) -> Any:
    return listener_components_pb2.ListenerFilter(
        name=f"envoy.filters.listener.{name}", typed_config=pack(config)
    )

"""Outbound clusters (CDS): a service's port and subset, and the built-in ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, config_source_pb2, protocol_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from meshlab.api.istio.destination_rule import ConnectionPoolSettings
from meshlab.control.snapshot import Proxy, Service, ServicePort, World
from meshlab.control.translate import (
    connection_pool,
    load_balancer,
    mtls,
    names,
    outlier_detection,
)
from meshlab.control.translate.cache import Cache, Resource
from meshlab.control.translate.capability import Capabilities, capabilities
from meshlab.control.translate.endpoint import load_assignment, takes_mutual_tls
from meshlab.control.translate.index import Index, Rule, index
from meshlab.control.translate.peer_authentication import namespace_mode
from meshlab.control.translate.protobuf import duration, metadata, pack
from meshlab.control.translate.protocol import Protocol, protocol
from meshlab.control.translate.traffic_policy import NO_POLICY, Policy, overlay

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundCluster:
    """What makes one cluster: a port of a service, or a subset of it, with the policy in force."""

    service: Service
    port: ServicePort
    subset: str
    labels: Mapping[str, str]
    policy: Policy
    rule: Rule | None
    protocol: Protocol

    @property
    def name(self) -> str:
        return names.outbound_cluster(self.port.number, self.subset, self.service.fqdn)

    @property
    def is_eds(self) -> bool:
        return self.service.resolution == "EDS" and not load_balancer.is_passthrough(
            self.policy.load_balancer
        )


def outbound_clusters(world: World, proxy: Proxy) -> Sequence[OutboundCluster]:
    """Return every cluster that a proxy may route to, services in the order of their names."""
    look = index(world)
    can = capabilities(proxy)
    key = ("outbound clusters", proxy.namespace, can)
    return look.once(key, _outbound_clusters, look, proxy.namespace, can)


def _outbound_clusters(
    look: Index, client_namespace: str, can: Capabilities
) -> Sequence[OutboundCluster]:
    made: list[OutboundCluster] = []
    for service in sorted(look.world.services, key=lambda s: s.fqdn):
        rule = look.destination_rule(client_namespace, service)
        for port in service.ports:
            if port.protocol == "TCP":
                made.extend(_of_port(service, port, rule, can))
    return made


def _of_port(
    service: Service, port: ServicePort, rule: Rule | None, can: Capabilities
) -> Iterator[OutboundCluster]:
    base = overlay(NO_POLICY, rule.traffic_policy if rule else None, port.number)
    spoken = protocol(port, can)
    yield OutboundCluster(
        service=service,
        port=port,
        subset="",
        labels={},
        policy=base,
        rule=rule,
        protocol=spoken,
    )
    for subset in rule.subsets if rule else ():
        yield OutboundCluster(
            service=service,
            port=port,
            subset=subset.name,
            labels=subset.labels,
            policy=overlay(base, subset.traffic_policy, port.number),
            rule=rule,
            protocol=spoken,
        )


def clusters(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return the outbound and built-in clusters of a proxy."""
    can = capabilities(proxy)
    look = index(world)
    for each in outbound_clusters(world, proxy):
        identities = look.identities(each.service)
        automatic = _automatic_tls(world, each)
        yield cache.resource(
            ("cluster", each.name, each.rule.sources if each.rule else (), can),
            (each, identities, automatic, world.mesh),
            each.name,
            _cluster,
            world,
            each,
            identities,
            automatic,
            can,
        )
    builtin = {names.BLACK_HOLE_CLUSTER: black_hole}
    if proxy.type == "sidecar":
        builtin[names.PASSTHROUGH_CLUSTER] = passthrough
    for name, build in builtin.items():
        yield cache.resource(("cluster", name), (world.mesh,), name, build, world)


def endpoints(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return the endpoints of every cluster that takes them from EDS."""
    policies = world.of_kind("PeerAuthentication")
    for each in outbound_clusters(world, proxy):
        if each.is_eds:
            behind = world.endpoints.get(each.service.fqdn, ())
            yield cache.resource(
                ("endpoint", each.name, each.rule.sources if each.rule else ()),
                (each.port, each.labels, behind, policies, world.mesh),
                each.name,
                load_assignment,
                world,
                each.name,
                each.port,
                each.labels,
                behind,
            )


def _automatic_tls(world: World, cluster: OutboundCluster) -> str:
    """Return how automatic mutual TLS goes: `endpoint` by endpoint, `always`, or "" not at all."""
    if not world.mesh.enable_auto_mtls or cluster.policy.tls is not None:
        return ""
    if namespace_mode(world, cluster.service.namespace) == "DISABLE":
        return ""
    if cluster.is_eds:
        return "endpoint"
    # The client chose the address, there is no metadata to look at: all or none.
    behind = [
        (endpoint, endpoint.ports.get(cluster.port.name, 0))
        for endpoint in world.endpoints.get(cluster.service.fqdn, ())
    ]
    has_all = behind and all(takes_mutual_tls(world, e, port) for e, port in behind)
    return "always" if has_all else ""


def _cluster(
    world: World,
    each: OutboundCluster,
    identities: tuple[str, ...],
    automatic: str,
    can: Capabilities,
) -> Any:
    made = cluster_pb2.Cluster(
        name=each.name,
        alt_stat_name=f"{each.name};",
        metadata=_metadata(each),
    )
    if each.is_eds:
        made.type = cluster_pb2.Cluster.EDS
        made.eds_cluster_config.service_name = each.name
        made.eds_cluster_config.eds_config.CopyFrom(ads())
    else:
        made.type = cluster_pb2.Cluster.ORIGINAL_DST
    load_balancer.apply(made, each.policy.load_balancer)
    connection_pool.apply(made, each.policy.connection_pool, world.mesh.connect_timeout)
    outlier_detection.apply(made, each.policy.outlier_detection)
    _apply_tls(made, each, identities, automatic, can)
    apply_http_options(made, each.protocol, each.policy, can)
    return made


def _apply_tls(
    made: Any,
    each: OutboundCluster,
    identities: tuple[str, ...],
    automatic: str,
    can: Capabilities,
) -> None:
    server_name = names.sni(each.port.number, each.subset, each.service.fqdn)
    alpn = mtls.client_alpn(each.protocol, can)
    if each.policy.tls is not None:
        context = mtls.rule_context(each.policy.tls, server_name, identities, alpn)
        if context is not None:
            made.transport_socket.CopyFrom(mtls.socket(context))
    elif automatic == "endpoint":
        made.transport_socket_matches.extend(mtls.auto_matches(server_name, identities, alpn))
    elif automatic == "always":
        context = mtls.istio_mutual(server_name, identities, alpn)
        made.transport_socket.CopyFrom(mtls.socket(context))


def apply_http_options(made: Any, spoken: Protocol, policy: Policy, can: Capabilities) -> None:
    """Set the upstream's HTTP version and connection life, where Envoy's defaults do not do."""
    options = http_protocol_options(spoken, policy, can)
    if options is not None:
        made.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(options))


def http_protocol_options(spoken: Protocol, policy: Policy, can: Capabilities) -> Any | None:
    """Return `HttpProtocolOptions`; None: HTTP/1.1 with Envoy's defaults."""
    common = connection_pool.common_http_options(policy.connection_pool)
    tls = policy.tls
    from_host = tls is not None and tls.mode in ("SIMPLE", "MUTUAL") and not tls.sni
    negotiated = spoken is Protocol.HTTP2 or (spoken is Protocol.AUTO and can.http2)
    if spoken is Protocol.TCP or not (common or from_host or negotiated):
        return None
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if common is not None:
        options.common_http_protocol_options.CopyFrom(common)
    if from_host:
        options.upstream_http_protocol_options.CopyFrom(
            protocol_pb2.UpstreamHttpProtocolOptions(auto_sni=True, auto_san_validation=True)
        )
    if spoken is Protocol.HTTP2:
        options.explicit_http_config.http2_protocol_options.SetInParent()
    elif negotiated:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    return options


def service_metadata(service: Service) -> dict[str, Any]:
    """Return `istio.services` of a cluster, what the metrics' labels come from."""
    return {
        "services": [{"host": service.fqdn, "name": service.name, "namespace": service.namespace}]
    }


def _metadata(each: OutboundCluster) -> Any:
    facts = service_metadata(each.service) | {"default_original_port": each.port.number}
    if each.rule is not None:
        facts["config"] = each.rule.path
    if each.subset:
        facts["subset"] = each.subset
    return metadata(istio=facts)


def ads() -> Any:
    """Return "from the same stream as everything else, however long it takes"."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        initial_fetch_timeout=duration(0),
        resource_api_version=config_source_pb2.V3,
    )


def black_hole(world: World) -> Any:
    """Return the cluster without endpoints, where what must go nowhere goes."""
    return cluster_pb2.Cluster(
        name=names.BLACK_HOLE_CLUSTER,
        alt_stat_name=f"{names.BLACK_HOLE_CLUSTER};",
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=duration(world.mesh.connect_timeout),
    )


def passthrough(world: World) -> Any:
    """Return the cluster that connects to wherever the client wanted to."""
    return original_dst(world, names.PASSTHROUGH_CLUSTER, None)


def original_dst(world: World, name: str, pool: ConnectionPoolSettings | None) -> Any:
    """Return a cluster that connects to the original destination of the connection."""
    made = cluster_pb2.Cluster(
        name=name,
        alt_stat_name=f"{name};",
        type=cluster_pb2.Cluster.ORIGINAL_DST,
        lb_policy=cluster_pb2.Cluster.CLUSTER_PROVIDED,
    )
    connection_pool.apply(made, pool, world.mesh.connect_timeout)
    return made


def bind_to_inbound_source(made: Any) -> None:
    """Let the app see its sidecar as 127.0.0.6, so that capture leaves the connection alone."""
    made.upstream_bind_config.source_address.CopyFrom(
        address_pb2.SocketAddress(address=names.INBOUND_SOURCE, port_value=0)
    )

"""Routes: VirtualServices, or the plain way to a service, as Envoy's virtual hosts (RDS)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2

from meshlab.api.istio.virtual_service import (
    MAX_DIRECT_RESPONSE,
    HTTPMatchRequest,
    HTTPRewrite,
    HTTPRoute,
)
from meshlab.control.snapshot import Proxy, Service, World
from meshlab.control.translate import (
    fault,
    header_mutation,
    names,
    redirect,
    timeout,
    weighted_cluster,
)
from meshlab.control.translate.cache import Cache, Resource
from meshlab.control.translate.capability import Capabilities, capabilities
from meshlab.control.translate.host import covers, specificity, visible
from meshlab.control.translate.index import (
    MESH_GATEWAY,
    BoundVirtualService,
    Index,
    index,
)
from meshlab.control.translate.listener import outbound_listeners
from meshlab.control.translate.protobuf import metadata
from meshlab.control.translate.protocol import Protocol, protocol
from meshlab.control.translate.retry import retry_policy
from meshlab.control.translate.route_match import Source, applies, is_catch_all, route_match

UNKNOWN_HOST_PORT = 80
"""Where a VirtualService for a host that no service has gets a virtual host in the mesh."""

_Route = route_components_pb2.Route


def routes(world: World, proxy: Proxy, cache: Cache) -> Iterator[Resource]:
    """Return the RouteConfigurations that a sidecar's listeners name."""
    can = capabilities(proxy)
    look = index(world)
    relevant = [
        vs
        for vs in look.mesh_virtual_services
        if visible(vs.spec.export_to, vs.namespace, proxy.namespace)
    ]
    labels = _labels_that_matter(relevant, proxy)
    by_route = look.once(("services by route", can), _services_by_route, world, can)
    for name, services in sorted(by_route.items()):
        port = name.rpartition(":")[2]
        source = Source(
            port=int(port),
            gateways=frozenset({MESH_GATEWAY}),
            namespace=proxy.namespace,
            labels=proxy.labels,
        )
        # What a route depends on beyond its own services: which services exist, for ports.
        inputs = (services, [vs.object for vs in relevant], _ports(world), world.mesh)
        yield cache.resource(
            ("route", name, proxy.namespace, labels, can),
            inputs,
            name,
            _sidecar_routes,
            look,
            name,
            services,
            relevant,
            source,
            can,
        )


def _labels_that_matter(
    virtual_services: Sequence[BoundVirtualService], proxy: Proxy
) -> tuple[tuple[str, str], ...]:
    """Return the proxy's labels that some `sourceLabels` asks for: what its routes differ by."""
    asked = {
        name
        for vs in virtual_services
        for http in vs.spec.http
        for match in http.match
        for name in match.source_labels
    }
    return tuple(sorted((n, v) for n, v in proxy.labels.items() if n in asked))


def _ports(world: World) -> tuple[tuple[str, int], ...]:
    """Return what destinations without a port are completed from."""
    return tuple((s.fqdn, s.ports[0].number) for s in world.services if len(s.ports) == 1)


def _services_by_route(world: World, can: Capabilities) -> Mapping[str, Sequence[Service]]:
    """Return the name of each RouteConfiguration with the services that it is for."""
    made: dict[str, list[Service]] = {
        each.route: [] for each in outbound_listeners(world, can).values() if each.route
    }
    for service in world.services_by_age:
        for port in service.ports:
            if port.protocol != "TCP":
                continue
            spoken = protocol(port, can)
            if spoken in (Protocol.HTTP, Protocol.HTTP2):
                made[str(port.number)].append(service)
            elif spoken is Protocol.AUTO:
                # Its listener may be another, older service's; then nobody asks for these.
                made.setdefault(f"{service.fqdn}:{port.number}", []).append(service)
    return made


def route_configuration(name: str, virtual_hosts: Sequence[Any]) -> Any:
    """Return a RouteConfiguration as Istio sets it."""
    made = route_pb2.RouteConfiguration(
        name=name, virtual_hosts=virtual_hosts, ignore_port_in_host_matching=True
    )
    made.validate_clusters.value = False  # clusters may come later, or never
    # Envoy's own default is 4096.
    made.max_direct_response_body_size_bytes.value = MAX_DIRECT_RESPONSE
    return made


def _sidecar_routes(
    look: Index,
    name: str,
    services: Sequence[Service],
    relevant: Sequence[BoundVirtualService],
    source: Source,
    can: Capabilities,
) -> Any:
    hosts = [_service_host(look, service, relevant, source, can) for service in services]
    if ":" in name:
        for host in hosts:
            # The listener is for one address, so whatever the Host header says.
            host.domains[:] = ["*"]
        return route_configuration(name, hosts)
    if source.port == UNKNOWN_HOST_PORT:
        hosts += _unknown_hosts(look, services, relevant, source, can)
    return route_configuration(name, [*_unique(hosts), _catch_all_host(look)])


def _service_host(
    look: Index,
    service: Service,
    relevant: Sequence[BoundVirtualService],
    source: Source,
    can: Capabilities,
) -> Any:
    owner = owning(relevant, service.fqdn)
    made = (
        virtual_service_routes(look, owner, source, can)
        if owner
        else [_default_route(service, source.port)]
    )
    return virtual_host(
        f"{service.fqdn}:{source.port}", _domains(look, service, source.namespace), made
    )


def owning(
    virtual_services: Sequence[BoundVirtualService], fqdn: str
) -> BoundVirtualService | None:
    """Return the VirtualService that decides for a host: the most specific, then the oldest."""
    found: tuple[tuple[bool, int], BoundVirtualService] | None = None
    for vs in virtual_services:
        for host in vs.hosts:
            if covers(host, fqdn) and (found is None or specificity(host) > found[0]):
                found = (specificity(host), vs)
    return found[1] if found else None


def _unknown_hosts(
    look: Index,
    services: Sequence[Service],
    relevant: Sequence[BoundVirtualService],
    source: Source,
    can: Capabilities,
) -> list[Any]:
    known = look.world.service_by_fqdn
    made = []
    for vs in relevant:
        for host in vs.hosts:
            if host not in known and not any(covers(host, s.fqdn) for s in services):
                routes = virtual_service_routes(look, vs, source, can)
                made.append(virtual_host(f"{host}:{source.port}", [host], routes))
    return made


def _domains(look: Index, service: Service, viewer: str) -> list[str]:
    """Return the names of a service: full, shorter ones, the bare one in its own namespace, VIP."""
    short = f"{service.name}.{service.namespace}"
    made = [service.fqdn, f"{service.fqdn}.", f"{short}.svc", short]
    if service.namespace == viewer:
        made.append(service.name)
    if service.headless:
        made += [f"*.{name}" for name in made]
    if service.cluster_ip:
        made.append(service.cluster_ip)
    return made


def virtual_host(name: str, domains: Sequence[str], made: Sequence[Any]) -> Any:
    return route_components_pb2.VirtualHost(
        name=name, domains=domains, routes=made, include_request_attempt_count=True
    )


def _unique(hosts: Sequence[Any]) -> Iterator[Any]:
    """Return the virtual hosts without domains that an earlier one has: Envoy refuses doubles."""
    taken: set[str] = set()
    for host in hosts:
        host.domains[:] = [domain for domain in host.domains if domain not in taken]
        taken.update(host.domains)
        if host.domains:
            yield host


def _catch_all_host(look: Index) -> Any:
    """Return what happens to requests for hosts that the mesh does not know."""
    match = route_components_pb2.RouteMatch(prefix="/")
    if look.world.mesh.outbound_traffic_policy == "REGISTRY_ONLY":
        blocked = _Route(name="block_all", match=match)
        blocked.direct_response.status = 502
        return virtual_host("block_all", ["*"], [blocked])
    action = route_components_pb2.RouteAction(cluster=names.PASSTHROUGH_CLUSTER)
    timeout.apply(action, None)
    return virtual_host("allow_any", ["*"], [_Route(name="allow_any", match=match, route=action)])


def _default_route(service: Service, port: int) -> Any:
    """Return the route to a service that no VirtualService says anything about."""
    action = route_components_pb2.RouteAction(
        cluster=names.outbound_cluster(port, "", service.fqdn), retry_policy=retry_policy(None)
    )
    timeout.apply(action, None)
    return _Route(
        name="default",
        match=route_components_pb2.RouteMatch(prefix="/"),
        route=action,
        decorator=route_components_pb2.Decorator(operation=f"{service.fqdn}:{port}/*"),
    )


# VirtualServices


def virtual_service_routes(
    look: Index, vs: BoundVirtualService, source: Source, can: Capabilities
) -> list[Any]:
    """Return one route a match entry, in order; the first that takes everything is the last."""
    made: list[Any] = []
    for http in vs.spec.http:
        for match in http.match or (None,):
            if match is None or applies(match, source, vs.namespace):
                made.append(_route(look, vs, http, match, source, can))
                if is_catch_all(made[-1].match):
                    return made
    return made


def _route(
    look: Index,
    vs: BoundVirtualService,
    http: HTTPRoute,
    match: HTTPMatchRequest | None,
    source: Source,
    can: Capabilities,
) -> Any:
    meta = vs.object.metadata
    path = names.config_path("virtual-service", meta.namespace, meta.name)
    name = f"{http.name}.{match.name}" if match is not None and match.name else http.name
    made = _Route(name=name, match=route_match(match), metadata=metadata(istio={"config": path}))
    header_mutation.apply(made, http.headers)
    if http.redirect is not None:
        made.redirect.CopyFrom(redirect.redirect_action(http.redirect))
    elif http.direct_response is not None:
        made.direct_response.CopyFrom(redirect.direct_response_action(http.direct_response))
    else:
        _forward(made, look, vs, http, source)
    made.decorator.operation = _operation(made, meta.name, source.port)
    if can.fault:
        fault.apply(made, http.fault)
    return made


def _forward(
    made: Any, look: Index, vs: BoundVirtualService, http: HTTPRoute, source: Source
) -> None:
    action = made.route
    weighted_cluster.apply(made, look, http.route, vs.namespace, source.port)
    timeout.apply(action, http.timeout)
    if (policy := retry_policy(http.retries)) is not None:
        action.retry_policy.CopyFrom(policy)
    rewrite = http.rewrite or HTTPRewrite()
    if host := rewrite.authority or header_mutation.authority(http.headers):
        action.host_rewrite_literal = host
    if rewrite.uri:
        action.prefix_rewrite = rewrite.uri
    elif rewrite.uri_regex_rewrite is not None:
        action.regex_rewrite.pattern.regex = rewrite.uri_regex_rewrite.match
        action.regex_rewrite.substitution = rewrite.uri_regex_rewrite.rewrite


def _operation(route: Any, vs_name: str, port: int) -> str:
    """Return the name of the operation in traces: `host:port/path*`, of a lone cluster its host."""
    match = route.match
    kind = match.WhichOneof("path_specifier")
    path = {
        "prefix": f"{match.prefix}*",
        "path": match.path,
        "safe_regex": match.safe_regex.regex,
    }[kind]
    cluster = route.route.cluster
    if cluster.startswith("outbound|"):
        _, number, _, host = cluster.split("|")
        return f"{host}:{number}{path}"
    return f"{vs_name}:{port}{path}"

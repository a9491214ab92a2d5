"""A proxy's whole configuration: what CDS, EDS, LDS and RDS hold for it."""

from collections.abc import Callable, Collection, Iterator

from meshlab.control.snapshot import Proxy, World
from meshlab.control.translate import cluster, gateway, inbound, listener, route
from meshlab.control.translate.cache import Cache, Resource

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""In the order in which they are pushed."""

_Part = Callable[[World, Proxy, Cache], Iterator[Resource]]
_SIDECAR: dict[str, tuple[_Part, ...]] = {
    CLUSTER: (cluster.clusters, inbound.clusters),
    ENDPOINT: (cluster.endpoints,),
    LISTENER: (listener.listeners, inbound.listeners),
    ROUTE: (route.routes,),
}
_GATEWAY: dict[str, tuple[_Part, ...]] = {
    CLUSTER: (cluster.clusters,),
    ENDPOINT: (cluster.endpoints,),
    LISTENER: (gateway.listeners,),
    ROUTE: (gateway.routes,),
}


def resources(
    world: World, proxy: Proxy, *, cache: Cache | None = None, types: Collection[str] = TYPES
) -> dict[str, dict[str, Resource]]:
    """Return type URL → resource name → resource, for the asked types.

    Everything that the proxy may subscribe to is in it; names come in a stable order. `cache`
    lets proxies share what is equal; give the same one for each proxy and each world.
    """
    cache = Cache() if cache is None else cache
    made = _GATEWAY if proxy.type == "router" else _SIDECAR
    return {
        type_url: {each.name: each for part in made[type_url] for each in part(world, proxy, cache)}
        for type_url in TYPES
        if type_url in types
    }

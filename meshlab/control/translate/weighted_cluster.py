"""VirtualService `route[]`: where the requests go, and in which shares."""

from collections.abc import Sequence
from typing import Any

from envoy.config.route.v3 import route_components_pb2

from meshlab.api.istio.virtual_service import Destination, HTTPRouteDestination
from meshlab.control.translate import header_mutation, names
from meshlab.control.translate.host import complete
from meshlab.control.translate.index import Index


def destination_cluster(
    look: Index, destination: Destination, vs_namespace: str, listener_port: int
) -> str:
    """Return the cluster of a destination, whether or not there is one.

    A cluster that does not exist answers 503 until it does; that is how references to subsets
    and services to come behave under Istio.
    """
    fqdn = complete(destination.host, vs_namespace, look.world.mesh.cluster_domain)
    service = look.world.service_by_fqdn.get(fqdn)
    if destination.port is not None and destination.port.number:
        port = destination.port.number
    elif service is not None and len(service.ports) == 1:
        port = service.ports[0].number
    else:
        port = listener_port
    return names.outbound_cluster(port, destination.subset, fqdn)


def apply(
    route: Any,
    look: Index,
    destinations: Sequence[HTTPRouteDestination],
    vs_namespace: str,
    listener_port: int,
) -> None:
    """Set the destinations of a route; a share of 0 is dropped, a lone entry takes everything."""
    if len(destinations) == 1:
        only = destinations[0]
        route.route.cluster = destination_cluster(
            look, only.destination, vs_namespace, listener_port
        )
        header_mutation.apply(route, only.headers)
        if host := header_mutation.authority(only.headers):
            route.route.host_rewrite_literal = host
        return
    for each in destinations:
        if each.weight:
            share = route_components_pb2.WeightedCluster.ClusterWeight(
                name=destination_cluster(look, each.destination, vs_namespace, listener_port)
            )
            share.weight.value = each.weight
            header_mutation.apply(share, each.headers)
            if host := header_mutation.authority(each.headers):
                share.host_rewrite_literal = host
            route.route.weighted_clusters.clusters.append(share)

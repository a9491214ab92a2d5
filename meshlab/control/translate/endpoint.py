"""Endpoints of a cluster (EDS): addresses by locality, with what the client must know of each."""

from collections.abc import Iterable, Mapping
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from meshlab.control.snapshot import Endpoint, ServicePort, World
from meshlab.control.translate import names
from meshlab.control.translate.index import selects
from meshlab.control.translate.peer_authentication import workload_mode
from meshlab.control.translate.protobuf import address, metadata_of, uint32


def load_assignment(
    world: World,
    cluster_name: str,
    port: ServicePort,
    labels: Mapping[str, str],
    endpoints: Iterable[Endpoint],
) -> Any:
    """Return the ready endpoints of a service's port that carry a subset's labels."""
    by_locality: dict[str, list[Any]] = {}
    for endpoint in sorted(endpoints, key=lambda e: e.address):
        number = endpoint.ports.get(port.name)
        if number is not None and endpoint.ready and selects(labels, endpoint.labels):
            by_locality.setdefault(endpoint.locality, []).append(
                _lb_endpoint(world, endpoint, number)
            )
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=cluster_name,
        endpoints=[
            endpoint_components_pb2.LocalityLbEndpoints(
                locality=_locality(name),
                lb_endpoints=group,
                load_balancing_weight=uint32(len(group)),
            )
            for name, group in sorted(by_locality.items())
        ],
    )


def takes_mutual_tls(world: World, endpoint: Endpoint, port: int) -> bool:
    """Tell whether there is a sidecar in front of a port, and it takes TLS."""
    if endpoint.tls_mode != "istio":
        return False
    return workload_mode(world, endpoint.namespace, endpoint.labels, port) != "DISABLE"


def _lb_endpoint(world: World, endpoint: Endpoint, port: int) -> Any:
    facts: dict[str, dict[str, str]] = {
        "istio": {
            "workload": names.workload_metadata(
                endpoint.workload or endpoint.pod,
                endpoint.namespace,
                endpoint.labels,
                world.mesh.cluster_id,
            )
        }
    }
    if takes_mutual_tls(world, endpoint, port):
        facts["envoy.transport_socket_match"] = {"tlsMode": "istio"}
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=address(endpoint.address, port)),
        metadata=metadata_of(facts),
        load_balancing_weight=uint32(1),
    )


def _locality(text: str) -> Any:
    region, zone, sub_zone = [*text.split("/"), "", ""][:3]
    return base_pb2.Locality(region=region, zone=zone, sub_zone=sub_zone)

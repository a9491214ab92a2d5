"""Read endpoints, by EDS or in a cluster (Envoy `ClusterLoadAssignment`)."""

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2 as components
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from meshlab.errors import ConfigError
from meshlab.proxy.config.address import compile_address
from meshlab.proxy.config.protobuf import join, wrapped
from meshlab.proxy.config.route import compile_metadata
from meshlab.proxy.core.cluster import (
    Endpoint,
    HealthStatus,
    LoadAssignment,
    Locality,
    LocalityEndpoints,
)

HEALTH: dict[int, HealthStatus] = {
    health_check_pb2.UNKNOWN: "unknown",
    health_check_pb2.HEALTHY: "healthy",
    health_check_pb2.UNHEALTHY: "unhealthy",
    health_check_pb2.DRAINING: "draining",
    health_check_pb2.TIMEOUT: "timeout",
    health_check_pb2.DEGRADED: "degraded",
}


def compile_load_assignment(
    message: ClusterLoadAssignment, path: str = "", *, allow_name: bool = False
) -> LoadAssignment:
    """Return the endpoints; `allow_name`: addresses may be DNS names."""
    if not message.cluster_name:
        raise ConfigError("must not be empty", field=join(path, "cluster_name"))
    return LoadAssignment(
        cluster_name=message.cluster_name,
        localities=tuple(
            compile_locality(item, join(path, f"endpoints[{index}]"), allow_name)
            for index, item in enumerate(message.endpoints)
        ),
        overprovisioning_factor=wrapped(message.policy, "overprovisioning_factor", 140),
    )


def compile_locality(
    message: components.LocalityLbEndpoints, path: str, allow_name: bool
) -> LocalityEndpoints:
    locality = message.locality
    if message.priority > 128:
        raise ConfigError("must be at most 128", field=join(path, "priority"))
    return LocalityEndpoints(
        endpoints=tuple(
            compile_endpoint(item, join(path, f"lb_endpoints[{index}]"), allow_name)
            for index, item in enumerate(message.lb_endpoints)
        ),
        locality=Locality(locality.region, locality.zone, locality.sub_zone),
        weight=wrapped(message, "load_balancing_weight", None),
        priority=message.priority,
    )


def compile_endpoint(message: components.LbEndpoint, path: str, allow_name: bool) -> Endpoint:
    if message.health_status not in HEALTH:
        raise ConfigError(
            "is unknown", field=join(path, "health_status"), found=str(message.health_status)
        )
    weight = wrapped(message, "load_balancing_weight", 1)
    if weight < 1:
        raise ConfigError("must be at least 1", field=join(path, "load_balancing_weight"))
    return Endpoint(
        address=compile_address(
            message.endpoint.address, join(path, "endpoint.address"), allow_name=allow_name
        ),
        hostname=message.endpoint.hostname,
        health=HEALTH[message.health_status],
        weight=weight,
        metadata=compile_metadata(message.metadata),
    )

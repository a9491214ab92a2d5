"""DestinationRule `loadBalancer.simple` → Envoy's policy."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2

from meshlab.api.istio.destination_rule import LoadBalancerSettings

_POLICY = {
    "ROUND_ROBIN": cluster_pb2.Cluster.ROUND_ROBIN,
    "RANDOM": cluster_pb2.Cluster.RANDOM,
}


def is_passthrough(settings: LoadBalancerSettings | None) -> bool:
    """Tell whether a request goes to the address that the client dialled."""
    return settings is not None and settings.simple == "PASSTHROUGH"


def apply(cluster: Any, settings: LoadBalancerSettings | None) -> None:
    """Set which endpoint gets the next request; LEAST_REQUEST unless something else is asked."""
    if cluster.type == cluster_pb2.Cluster.ORIGINAL_DST:
        cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
        return
    simple = settings.simple if settings else None
    cluster.lb_policy = _POLICY.get(simple or "", cluster_pb2.Cluster.LEAST_REQUEST)

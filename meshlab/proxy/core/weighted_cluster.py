"""The shares of a route's clusters, and into which of them a die falls."""

from dataclasses import dataclass

from meshlab.proxy.core.header_mutation import NO_MUTATION, HeaderMutation


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedCluster:
    """One share (`route.v3.WeightedCluster.ClusterWeight`)."""

    name: str
    weight: int
    request_headers: HeaderMutation = NO_MUTATION
    response_headers: HeaderMutation = NO_MUTATION
    host_rewrite: bytes = b""

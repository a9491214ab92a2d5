"""The shares of a route's clusters, and into which of them a die falls."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from meshlab.errors import ConfigError
from meshlab.proxy.core.header_mutation import (
    NO_MUTATION,
    HeaderMutation,
    compile_mutations,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedCluster:
    """One share (`route.v3.WeightedCluster.ClusterWeight`)."""

    name: str
    weight: int
    request_headers: HeaderMutation = NO_MUTATION
    response_headers: HeaderMutation = NO_MUTATION
    host_rewrite: bytes = b""


class Share:
    """One share, compiled."""

    __slots__ = ("host_rewrite", "mutate_request", "mutate_response", "name")

    def __init__(self, cluster: WeightedCluster) -> None:
        self.name = cluster.name
        self.host_rewrite = cluster.host_rewrite
        self.mutate_request = compile_mutations([cluster.request_headers])
        self.mutate_response = compile_mutations([cluster.response_headers])


class WeightTable:
    """Shares laid end to end; weights are relative and need no particular sum."""

    __slots__ = ("_ends", "shares", "total")

    def __init__(self, clusters: tuple[WeightedCluster, ...], *, field: str = "") -> None:
        """Lay out `clusters`.

        Raises:
            ConfigError: no weight above 0.
        """
        self._ends = list(accumulate(cluster.weight for cluster in clusters))
        self.total = self._ends[-1] if self._ends else 0
        if self.total <= 0:
            raise ConfigError("the weights add up to 0", field=field)
        self.shares = [Share(cluster) for cluster in clusters]

    def pick(self, draw: float) -> Share:
        """Return the share that `draw` from [0, 1) falls into."""
        return self.shares[bisect_right(self._ends, draw * self.total)]

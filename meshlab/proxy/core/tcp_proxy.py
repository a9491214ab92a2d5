"""Settings of the TCP proxy (Envoy `TcpProxy`)."""

from dataclasses import dataclass

from meshlab.proxy.core.access_log import AccessLog
from meshlab.proxy.core.weighted_cluster import WeightedCluster


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpProxy:
    """`tcp_proxy.v3.TcpProxy`; times in seconds."""

    stat_prefix: str
    cluster: str = ""
    weighted_clusters: tuple[WeightedCluster, ...] = ()
    """Exactly one of the two is set."""
    access_logs: tuple[AccessLog, ...] = ()
    idle_timeout: float = 3600.0
    """0: none."""
    max_connect_attempts: int = 1
    max_downstream_connection_duration: float = 0.0

"""Read the TCP proxy (Envoy `TcpProxy`)."""

from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy as Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.access_log import compile_access_logs
from meshlab.proxy.config.protobuf import duration, join, wrapped
from meshlab.proxy.core.tcp_proxy import TcpProxy
from meshlab.proxy.core.weighted_cluster import WeightedCluster


def compile_tcp_proxy(message: Message, path: str) -> TcpProxy:
    kind = message.WhichOneof("cluster_specifier")
    if kind is None or (kind == "cluster" and not message.cluster):
        raise ConfigError(
            "must say where connections go", field=path, allowed="cluster, weighted_clusters"
        )
    attempts = wrapped(message, "max_connect_attempts", 1)
    if attempts < 1:
        raise ConfigError("must be at least 1", field=join(path, "max_connect_attempts"))
    return TcpProxy(
        stat_prefix=message.stat_prefix,
        cluster=message.cluster,
        weighted_clusters=compile_shares(message, path),
        access_logs=compile_access_logs(message.access_log, join(path, "access_log")),
        idle_timeout=duration(message, "idle_timeout", 3600.0, path),
        max_connect_attempts=attempts,
        max_downstream_connection_duration=duration(
            message, "max_downstream_connection_duration", 0.0, path
        ),
    )


def compile_shares(message: Message, path: str) -> tuple[WeightedCluster, ...]:
    for index, item in enumerate(message.weighted_clusters.clusters):
        if not item.name or item.weight < 1:
            raise ConfigError(
                "must have a name and a weight of at least 1",
                field=join(path, f"weighted_clusters.clusters[{index}]"),
            )
    return tuple(
        WeightedCluster(name=item.name, weight=item.weight)
        for item in message.weighted_clusters.clusters
    )

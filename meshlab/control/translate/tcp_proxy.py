"""The network filters of a connection that is not HTTP."""

from typing import Any

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from meshlab.control.snapshot import Mesh
from meshlab.control.translate import access_log
from meshlab.control.translate.capability import STATS, Capabilities
from meshlab.control.translate.protobuf import pack, typed_struct


def tcp_filters(mesh: Mesh, can: Capabilities, cluster: str) -> list[Any]:
    """Return the filters that carry a connection to a cluster, metrics first."""
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix=cluster, cluster=cluster, access_log=access_log.tcp_logs(mesh)
    )
    return [
        *stats_filters(can),
        listener_components_pb2.Filter(
            name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy)
        ),
    ]


def stats_filters(can: Capabilities) -> list[Any]:
    """Return Istio's metrics for connections, where the data plane has them."""
    if not can.stats:
        return []
    config = typed_struct("stats.PluginConfig")
    return [listener_components_pb2.Filter(name=STATS, typed_config=config)]

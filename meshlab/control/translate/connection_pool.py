"""DestinationRule `connectionPool` → circuit breakers, connect timeout, connection life."""

from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import address_pb2, protocol_pb2

from meshlab.api.istio.destination_rule import ConnectionPoolSettings, TcpKeepalive
from meshlab.control.translate.protobuf import UNLIMITED, duration, uint32


def apply(cluster: Any, pool: ConnectionPoolSettings | None, connect_timeout: float) -> None:
    """Set limits and times of a cluster; `connect_timeout` is the mesh's, in seconds."""
    tcp = pool.tcp if pool else None
    http = pool.http if pool else None
    timeout = tcp.connect_timeout if tcp and tcp.connect_timeout else connect_timeout
    cluster.connect_timeout.CopyFrom(duration(timeout))
    # In Istio's API 0 and unset are one and mean "no limit".
    cluster.circuit_breakers.CopyFrom(
        circuit_breaker_pb2.CircuitBreakers(
            thresholds=[
                circuit_breaker_pb2.CircuitBreakers.Thresholds(
                    max_connections=uint32((tcp and tcp.max_connections) or UNLIMITED),
                    max_pending_requests=uint32(
                        (http and http.http1_max_pending_requests) or UNLIMITED
                    ),
                    max_requests=uint32((http and http.http2_max_requests) or UNLIMITED),
                    # Envoy's own default of 3 would make `attempts: 40` overflow.
                    max_retries=uint32((http and http.max_retries) or UNLIMITED),
                )
            ]
        )
    )
    if tcp and tcp.tcp_keepalive:
        cluster.upstream_connection_options.CopyFrom(_keepalive(tcp.tcp_keepalive))


def _keepalive(keepalive: TcpKeepalive) -> Any:
    made = address_pb2.TcpKeepalive()
    if keepalive.probes:
        made.keepalive_probes.value = keepalive.probes
    if keepalive.time is not None:
        made.keepalive_time.value = round(keepalive.time)
    if keepalive.interval is not None:
        made.keepalive_interval.value = round(keepalive.interval)
    return cluster_pb2.UpstreamConnectionOptions(tcp_keepalive=made)


def common_http_options(pool: ConnectionPoolSettings | None) -> Any | None:
    """Return how long an HTTP connection lives; None: nothing is said about it."""
    if pool is None:
        return None
    options = protocol_pb2.HttpProtocolOptions()
    if pool.http and pool.http.idle_timeout is not None:
        options.idle_timeout.CopyFrom(duration(pool.http.idle_timeout))
    if pool.http and pool.http.max_requests_per_connection > 0:
        options.max_requests_per_connection.value = pool.http.max_requests_per_connection
    if pool.tcp and pool.tcp.max_connection_duration is not None:
        options.max_connection_duration.CopyFrom(duration(pool.tcp.max_connection_duration))
    return options if options.ByteSize() else None

"""Bytes both ways between two connections (Envoy `tcp_proxy`): half close, limits, idle timeout."""

import asyncio
from typing import TYPE_CHECKING, cast

from meshlab.errors import ConfigError
from meshlab.proxy.core.filter_chain import FilterChain
from meshlab.proxy.core.http_connection_manager import IstioStats
from meshlab.proxy.core.istio_stat import IstioReporter, TcpStats
from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.core.retry import Reset
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.core.stream_info import DC, NC, UF, UH, UO, URX, ConnectionInfo, StreamInfo
from meshlab.proxy.core.tcp_proxy import TcpProxy
from meshlab.proxy.core.weighted_cluster import WeightTable
from meshlab.proxy.net.clock import Timer
from meshlab.proxy.net.connect import ConnectFailedError, connect
from meshlab.proxy.net.original_dst import text
from meshlab.proxy.net.runtime import LogStream, Runtime
from meshlab.proxy.net.task import spawn
from meshlab.proxy.net.tls import peer_certificate

if TYPE_CHECKING:
    from meshlab.proxy.net.cluster import ClusterState
    from meshlab.proxy.net.listener import ActiveListener

REPORT_SECONDS = 15.0
"""How often an open connection's bytes go into Istio's counters."""


class TcpProxyStats:
    """Envoy's `tcp.<stat_prefix>.` statistics, the ones we count."""

    __slots__ = (
        "cx_no_route",
        "cx_rx_bytes_total",
        "cx_total",
        "cx_tx_bytes_total",
        "idle_timeout",
        "max_downstream_connection_duration",
    )

    def __init__(self, registry: StatRegistry, prefix: str) -> None:
        self.cx_total = registry.counter(f"{prefix}downstream_cx_total")
        self.cx_no_route = registry.counter(f"{prefix}downstream_cx_no_route")
        self.cx_rx_bytes_total = registry.counter(f"{prefix}downstream_cx_rx_bytes_total")
        self.cx_tx_bytes_total = registry.counter(f"{prefix}downstream_cx_tx_bytes_total")
        self.idle_timeout = registry.counter(f"{prefix}idle_timeout")
        self.max_downstream_connection_duration = registry.counter(
            f"{prefix}max_downstream_connection_duration"
        )


class Proxy:
    """A TCP proxy's settings, compiled."""

    __slots__ = ("config", "logs", "reporters", "runtime", "stats", "weights")

    def __init__(self, chain: FilterChain, runtime: Runtime) -> None:
        """Compile the chain's TCP proxy and the filters before it.

        Raises:
            ConfigError: it is none; a log does not compile; weights add up to 0.
        """
        config = chain.terminal
        if not isinstance(config, TcpProxy):
            raise ConfigError("the last network filter is no TCP proxy", field="filters")
        self.config = config
        self.runtime = runtime
        self.stats = TcpProxyStats(runtime.stats, f"tcp.{config.stat_prefix}.")
        self.logs: list[LogStream] = [runtime.log(entry) for entry in config.access_logs]
        self.reporters = [
            IstioReporter(found, runtime.node, runtime.stats)
            for found in chain.filters
            if isinstance(found, IstioStats)
        ]
        self.weights = (
            WeightTable(config.weighted_clusters, field="weighted_clusters")
            if config.weighted_clusters
            else None
        )

    def cluster_name(self) -> str:
        if self.weights is not None:
            return self.weights.pick(self.runtime.dice()).name
        return self.config.cluster


class TcpUpstream(asyncio.Protocol):
    """The far connection; hands everything to the near one."""

    __slots__ = ("_early", "_near", "_released", "transport")

    def __init__(self, near: "TcpConnection") -> None:
        self._near = near
        self._early = b""
        self._released = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", base)

    def release(self) -> None:
        """The peer is who it should be: pass on what it says."""
        self._released = True
        early, self._early = self._early, b""
        if early and self.transport is not None:
            self._near.from_upstream(early)
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._released:
            self._near.from_upstream(data)
            return
        # uvloop does not know "paused" before the first read, so the pause is made here.
        if not self._early and self.transport is not None:
            self.transport.pause_reading()
        self._early += data

    def eof_received(self) -> bool:
        return self._near.upstream_ended()

    def connection_lost(self, error: Exception | None) -> None:
        self._near.upstream_lost()

    def pause_writing(self) -> None:
        self._near.pause_reading()

    def resume_writing(self) -> None:
        self._near.resume_reading()


class TcpConnection(asyncio.Protocol):
    """A client's connection, and the one that answers it."""

    __slots__ = (
        "_attempts",
        "_breaker_taken",
        "_closing",
        "_cluster",
        "_connecting",
        "_done",
        "_duration",
        "_early",
        "_far_ended",
        "_host",
        "_idle",
        "_last_activity",
        "_listener",
        "_near_ended",
        "_opened",
        "_proxy",
        "_report",
        "_reported_in",
        "_reported_out",
        "_transport",
        "_upstream",
        "info",
        "stream",
    )

    def __init__(self, listener: "ActiveListener", proxy: Proxy, info: ConnectionInfo) -> None:
        runtime = proxy.runtime
        self._listener = listener
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._upstream: TcpUpstream | None = None
        self._cluster: ClusterState | None = None
        self._host: Host | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._attempts = 0
        self._breaker_taken = False
        self._early = b""
        self._near_ended = False
        self._far_ended = False
        self._closing = False
        self._done = False
        self._idle: Timer | None = None
        self._duration: Timer | None = None
        self._report: Timer | None = None
        self._last_activity = 0.0
        self._opened: list[TcpStats] = []
        self._reported_in = 0
        self._reported_out = 0
        self.info = info
        self.stream = StreamInfo(info, runtime.wall(), runtime.now())

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = self._transport = cast("asyncio.Transport", base)
        if not self._listener.admit(self, transport, self.info):
            self._closing = self._done = True
            transport.abort()
            return
        proxy = self._proxy
        runtime = proxy.runtime
        proxy.stats.cx_total.value += 1
        self._last_activity = runtime.now()
        if proxy.config.max_downstream_connection_duration:
            self._duration = runtime.timers.after(
                proxy.config.max_downstream_connection_duration, self._on_duration
            )
        if proxy.config.idle_timeout:
            self._idle = runtime.timers.after(proxy.config.idle_timeout, self._on_idle)
        name = proxy.cluster_name()
        self.stream.upstream_cluster = name
        cluster = runtime.clusters.get(name)
        if cluster is None:
            proxy.stats.cx_no_route.value += 1
            self._refuse(NC, "cluster_not_found")
            return
        self._cluster = cluster
        self.stream.upstream_cluster_metadata = cluster.config.metadata
        self._try()

    def _try(self) -> None:
        cluster = self._cluster
        if cluster is None:
            return
        self._attempts += 1
        self.stream.attempt_count = self._attempts
        breaker = cluster.breakers.connections
        if breaker.open:
            cluster.stats.cx_overflow.value += 1
            self._refuse(UO, "upstream_reset_before_response_started{overflow}")
            return
        host = cluster.choose(self.info.local_address)
        if host is None:
            self._refuse(UH, "no_healthy_upstream")
            return
        self._host = host
        breaker.take()
        self._breaker_taken = True
        cluster.stats.cx_total.value += 1
        cluster.stats.cx_active.value += 1
        host.stats.cx_total += 1
        host.stats.cx_active += 1
        self.stream.upstream_host = host.address
        self.stream.upstream_host_metadata = host.endpoint.metadata
        self._connecting = spawn(self._connect(cluster, host), f"connect {host.address}")

    async def _connect(self, cluster: "ClusterState", host: Host) -> None:
        tls = cluster.tls_for(host)
        alpn = tls.context.alpn_protocols if tls is not None else ()
        upstream = TcpUpstream(self)
        start = cluster.runtime.now()
        try:
            await connect(cluster, host, upstream, tls, alpn, tls.sni if tls is not None else "")
        except ConnectFailedError as error:
            self._connecting = None
            self._on_connect_failed(cluster, host, error)
            return
        self._connecting = None
        transport = upstream.transport
        if transport is None or self._done:
            if transport is not None:
                transport.abort()
            return
        cluster.stats.cx_connect_ms.record((cluster.runtime.now() - start) * 1000)
        self._connected(cluster, upstream, transport)

    def _connected(
        self, cluster: "ClusterState", upstream: TcpUpstream, transport: asyncio.Transport
    ) -> None:
        self._upstream = upstream
        stream = self.stream
        stream.upstream_local_address = text(transport.get_extra_info("sockname"))
        stream.first_upstream_byte_sent = cluster.runtime.now()
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            stream.upstream_certificate = peer_certificate(tls)
            stream.upstream_tls_version = tls.version() or ""
        if cluster.outlier is not None and self._host is not None:
            cluster.on_response(self._host, 200)
        for reporter in self._proxy.reporters:
            counters = reporter.tcp(stream)
            counters.opened.value += 1
            self._opened.append(counters)
        if self._opened:
            self._report = cluster.runtime.timers.after(REPORT_SECONDS, self._on_report)
        upstream.release()
        early, self._early = self._early, b""
        if early:
            self.data_received(early)
            self.resume_reading()
        if self._near_ended and not self._done:
            self._pass_end(transport)

    def _on_connect_failed(
        self, cluster: "ClusterState", host: Host, error: ConnectFailedError
    ) -> None:
        self._give_back()
        cluster.stats.cx_connect_fail.value += 1
        host.stats.cx_connect_fail += 1
        cluster.on_local_origin_failure(host, timeout=error.reset is Reset.CONNECT_TIMEOUT)
        if self._done:
            return
        self.stream.upstream_transport_failure_reason = error.reason
        if self._attempts < self._proxy.config.max_connect_attempts:
            self._try()
            return
        self._refuse(UF | URX, "")

    def _refuse(self, flag: int, details: str) -> None:
        self.stream.flags |= flag
        self.stream.response_code_details = details
        for reporter in self._proxy.reporters:
            counters = reporter.tcp(self.stream)
            counters.opened.value += 1
            self._opened.append(counters)
        self._close(abort=False)

    # Bytes

    def data_received(self, data: bytes) -> None:
        upstream = self._upstream
        if upstream is None or upstream.transport is None:
            if not self._done:
                if not self._early:
                    self.pause_reading()
                self._early += data
            return
        self._last_activity = self._proxy.runtime.now()
        self.stream.bytes_received += len(data)
        self._proxy.stats.cx_rx_bytes_total.value += len(data)
        if self._cluster is not None:
            self._cluster.stats.cx_tx_bytes_total.value += len(data)
        upstream.transport.write(data)

    def from_upstream(self, data: bytes) -> None:
        self._last_activity = self._proxy.runtime.now()
        self.stream.bytes_sent += len(data)
        self._proxy.stats.cx_tx_bytes_total.value += len(data)
        if self._cluster is not None:
            self._cluster.stats.cx_rx_bytes_total.value += len(data)
        if self._transport is not None:
            self._transport.write(data)

    def eof_received(self) -> bool:
        """The client has said all it will; the answer may still come."""
        self._near_ended = True
        upstream = self._upstream
        if upstream is None or upstream.transport is None:
            return self._connecting is not None
        return self._pass_end(upstream.transport)

    def upstream_ended(self) -> bool:
        self._far_ended = True
        return self._transport is not None and self._pass_end(self._transport)

    def _pass_end(self, other: asyncio.Transport) -> bool:
        """Half close the other side; True keeps this side open for what still comes."""
        if self._near_ended and self._far_ended:
            self._close(abort=False)
            return False
        if not other.can_write_eof():  # TLS cannot half close here
            self._close(abort=False)
            return False
        other.write_eof()
        return True

    def upstream_lost(self) -> None:
        if not self._done:
            self._close(abort=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.release(self)
        if not self._done and not self._closing:
            if not self._near_ended and not self._far_ended:
                self.stream.flags |= DC if self._upstream is None else 0
            self._close(abort=False)

    def _close(self, *, abort: bool) -> None:
        """End both connections, what is written goes out before; log once."""
        if self._done:
            return
        self._done = self._closing = True
        for timer in (self._idle, self._duration, self._report):
            if timer is not None:
                timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            self._give_back()
        for transport in (self._transport, self._upstream.transport if self._upstream else None):
            if transport is not None:
                if abort:
                    transport.abort()
                else:
                    transport.close()
        if self._upstream is not None:
            self._give_back()
        self.stream.end = self._proxy.runtime.now()
        self._count_bytes()
        for counters in self._opened:
            counters.closed.value += 1
        for write in self._proxy.logs:
            write(self.stream)

    def _give_back(self) -> None:
        if not self._breaker_taken or self._cluster is None or self._host is None:
            return
        self._breaker_taken = False
        self._cluster.breakers.connections.give()
        self._cluster.stats.cx_active.value -= 1
        self._cluster.stats.cx_destroy.value += 1
        self._host.stats.cx_active -= 1

    def _on_report(self) -> None:
        self._count_bytes()
        self._report = self._proxy.runtime.timers.after(REPORT_SECONDS, self._on_report)

    def _count_bytes(self) -> None:
        received = self.stream.bytes_received - self._reported_in
        sent = self.stream.bytes_sent - self._reported_out
        self._reported_in += received
        self._reported_out += sent
        for counters in self._opened:
            counters.received.value += received
            counters.sent.value += sent

    # Limits

    def _on_idle(self) -> None:
        runtime = self._proxy.runtime
        left = self._last_activity + self._proxy.config.idle_timeout - runtime.now()
        if left > 0.001:
            self._idle = runtime.timers.after(round(left, 2) or 0.01, self._on_idle)
            return
        self._idle = None
        self._proxy.stats.idle_timeout.value += 1
        self._close(abort=False)

    def _on_duration(self) -> None:
        self._duration = None
        self._proxy.stats.max_downstream_connection_duration.value += 1
        self._close(abort=False)

    def close_if_expired(self, now: float) -> None:
        """Timers of its own see to that."""

    def terminate(self) -> None:
        """End both connections now."""
        self._close(abort=True)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.resume_reading()

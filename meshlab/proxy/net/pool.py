"""HTTP/1 connections to one host: reused, limited, waited for (Envoy's connection pool)."""

from collections import deque
from typing import TYPE_CHECKING, Protocol

from meshlab.proxy.core.circuit_breaker import Breakers
from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.core.retry import Reset
from meshlab.proxy.core.stream_info import PeerCertificate
from meshlab.proxy.core.tls import UpstreamTls
from meshlab.proxy.net.connect import ConnectFailedError, connect
from meshlab.proxy.net.task import spawn
from meshlab.proxy.net.upstream_http1 import UpstreamHttp1

if TYPE_CHECKING:
    from meshlab.proxy.net.cluster import ClusterState


class Waiting(Protocol):
    """Who waits for a connection."""

    def on_connection(self, connection: UpstreamHttp1) -> None:
        """The connection is yours for one request."""
        ...

    def on_no_connection(self, reset: Reset, reason: str) -> None:
        """There will be none."""
        ...


class HostPool:
    """The connections to one host over one kind of transport, for one priority.

    Attributes:
        tls: what connections are wrapped in; None: nothing.
        draining: no new requests; connections close when they are done.
    """

    __slots__ = (
        "_connecting",
        "_idle",
        "_pending",
        "alpn",
        "breakers",
        "cluster",
        "connections",
        "draining",
        "host",
        "server_name",
        "tls",
    )

    def __init__(
        self,
        cluster: "ClusterState",
        host: Host,
        tls: UpstreamTls | None,
        breakers: Breakers,
        alpn: tuple[str, ...],
        server_name: str,
    ) -> None:
        self.cluster = cluster
        self.host = host
        self.tls = tls
        self.breakers = breakers
        self.alpn = alpn
        self.server_name = server_name
        self.draining = False
        self.connections: set[UpstreamHttp1] = set()
        self._idle: list[UpstreamHttp1] = []
        self._pending: deque[Waiting] = deque()
        self._connecting = 0

    def own_certificate(self) -> PeerCertificate | None:
        """Return the certificate that we show on connections."""
        if self.tls is None:
            return None
        return self.cluster.runtime.tls.client(self.tls, self.alpn).own

    def acquire(self, waiting: Waiting) -> None:
        """Give a connection, now or when there is one; or say that there is none."""
        if self._idle:
            if self._refuse_request(waiting):
                return
            self._attach(self._idle.pop(), waiting)
            return
        stats = self.cluster.stats
        if self.breakers.pending.open:
            stats.rq_pending_overflow.value += 1
            waiting.on_no_connection(Reset.OVERFLOW, "")
            return
        self._pending.append(waiting)
        self.breakers.pending.take()
        stats.rq_pending_total.value += 1
        stats.rq_pending_active.value += 1
        if self._connecting < len(self._pending):
            self._connect_if_allowed()

    def cancel(self, waiting: Waiting) -> None:
        """Forget somebody who waits."""
        if waiting in self._pending:
            self._pending.remove(waiting)
            self._left_queue()
            self.cluster.stats.rq_cancelled.value += 1

    def _left_queue(self) -> None:
        self.breakers.pending.give()
        self.cluster.stats.rq_pending_active.value -= 1

    def _refuse_request(self, waiting: Waiting) -> bool:
        if not self.breakers.requests.open:
            return False
        self.cluster.stats.rq_pending_overflow.value += 1
        waiting.on_no_connection(Reset.OVERFLOW, "")
        return True

    def _attach(self, connection: UpstreamHttp1, waiting: Waiting) -> None:
        self.breakers.requests.take()
        stats = self.cluster.stats
        stats.rq_total.value += 1
        stats.rq_active.value += 1
        host_stats = self.host.stats
        host_stats.rq_total += 1
        host_stats.rq_active += 1
        waiting.on_connection(connection)

    def _connect_if_allowed(self) -> None:
        config = self.cluster.config
        per_host = config.circuit_breakers.per_host_max_connections
        if self.breakers.connections.open or (
            per_host is not None and self.host.stats.cx_active >= per_host
        ):
            self.cluster.stats.cx_overflow.value += 1
            # Envoy: a host without any connection gets one, whatever the limit; else the
            # requests that wait for it would wait for ever.
            if self.connections or self._connecting:
                return
        self._connecting += 1
        self.breakers.connections.take()
        stats = self.cluster.stats
        stats.cx_total.value += 1
        stats.cx_active.value += 1
        stats.cx_http1_total.value += 1
        self.host.stats.cx_total += 1
        self.host.stats.cx_active += 1
        spawn(self._connect(), f"connect {self.host.address}")

    async def _connect(self) -> None:
        start = self.cluster.runtime.now()
        connection = UpstreamHttp1(self)
        try:
            await connect(
                self.cluster, self.host, connection, self.tls, self.alpn, self.server_name
            )
        except ConnectFailedError as error:
            self._connecting -= 1
            self._count_gone()
            self._failed(error)
            return
        except BaseException:
            self._connecting -= 1
            self._count_gone()
            raise
        self._connecting -= 1
        self.cluster.stats.cx_connect_ms.record((self.cluster.runtime.now() - start) * 1000)
        self.connections.add(connection)
        if connection.closed:
            self.on_closed(connection)
        else:
            self.on_idle(connection)

    def _failed(self, error: ConnectFailedError) -> None:
        """Tell everybody who waits: whoever waited for a host that is down should not wait on."""
        self.cluster.stats.cx_connect_fail.value += 1
        self.host.stats.cx_connect_fail += 1
        self.cluster.on_local_origin_failure(
            self.host, timeout=error.reset is Reset.CONNECT_TIMEOUT
        )
        waiting = list(self._pending)
        self._pending.clear()
        for one in waiting:
            self._left_queue()
            self.cluster.stats.rq_pending_failure_eject.value += 1
            one.on_no_connection(error.reset, error.reason)

    def on_idle(self, connection: UpstreamHttp1) -> None:
        """Take a connection that is ready for a request."""
        while self._pending:
            waiting = self._pending.popleft()
            self._left_queue()
            if not self._refuse_request(waiting):
                self._attach(connection, waiting)
                return
        if self.draining or connection.closed:
            connection.close()
            return
        self._idle.append(connection)

    def on_released(self) -> None:
        """Count a request as over."""
        self.breakers.requests.give()
        self.cluster.stats.rq_active.value -= 1
        self.host.stats.rq_active -= 1

    def on_closed(self, connection: UpstreamHttp1) -> None:
        """Forget a connection; open another one for those who wait."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._count_gone()
        if self._connecting < len(self._pending):
            self._connect_if_allowed()

    def _count_gone(self) -> None:
        self.breakers.connections.give()
        self.cluster.stats.cx_active.value -= 1
        self.cluster.stats.cx_destroy.value += 1
        self.host.stats.cx_active -= 1

    def close_idle_since(self, moment: float) -> None:
        """Close connections that nobody has used since then."""
        for connection in [one for one in self._idle if one.last_used < moment]:
            self.cluster.stats.cx_idle_timeout.value += 1
            connection.close()

    def drain(self) -> None:
        """Close idle connections now, the others after their request."""
        self.draining = True
        for connection in list(self._idle):
            connection.close()

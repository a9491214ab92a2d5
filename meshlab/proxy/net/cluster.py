"""A cluster at work: its hosts, pools, breakers, ejections, DNS and statistics."""

import asyncio
import logging
import socket
from collections.abc import Mapping

from meshlab.proxy.core.circuit_breaker import Breakers, Thresholds
from meshlab.proxy.core.cluster import (
    NOWHERE,
    Cluster,
    Endpoint,
    LoadAssignment,
    LocalityEndpoints,
)
from meshlab.proxy.core.listener import Address
from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.core.load_balancer.policy import balancer
from meshlab.proxy.core.outlier_detection import OutlierDetector
from meshlab.proxy.core.stat import Counter, StatRegistry
from meshlab.proxy.core.tls import UpstreamTls
from meshlab.proxy.net.clock import Timer
from meshlab.proxy.net.pool import HostPool
from meshlab.proxy.net.runtime import Runtime
from meshlab.proxy.net.task import spawn
from meshlab.proxy.net.tls import is_ip

log = logging.getLogger(__name__)


class ClusterStats:
    """Envoy's cluster statistics, the ones we count."""

    __slots__ = (
        "_by_code",
        "_prefix",
        "_registry",
        "bind_errors",
        "cx_active",
        "cx_connect_fail",
        "cx_connect_ms",
        "cx_connect_timeout",
        "cx_destroy",
        "cx_destroy_local_with_active_rq",
        "cx_destroy_remote_with_active_rq",
        "cx_http1_total",
        "cx_idle_timeout",
        "cx_length_ms",
        "cx_max_requests",
        "cx_none_healthy",
        "cx_overflow",
        "cx_pool_overflow",
        "cx_protocol_error",
        "cx_rx_bytes_total",
        "cx_total",
        "cx_tx_bytes_total",
        "lb_healthy_panic",
        "membership_change",
        "membership_healthy",
        "membership_total",
        "retry_or_shadow_abandoned",
        "rq_active",
        "rq_cancelled",
        "rq_completed",
        "rq_pending_active",
        "rq_pending_failure_eject",
        "rq_pending_overflow",
        "rq_pending_total",
        "rq_per_try_timeout",
        "rq_retry",
        "rq_retry_limit_exceeded",
        "rq_retry_overflow",
        "rq_retry_success",
        "rq_rx_reset",
        "rq_time",
        "rq_timeout",
        "rq_total",
        "rq_tx_reset",
        "ssl_connection_error",
        "ssl_context_missing",
        "ssl_fail_verify_error",
        "ssl_fail_verify_san",
        "ssl_handshake",
        "update_success",
    )

    def __init__(self, registry: StatRegistry, prefix: str) -> None:
        count = registry.counter
        gauge = registry.gauge
        self._registry = registry
        self._prefix = prefix
        self._by_code: dict[int, tuple[Counter, Counter]] = {}
        self.bind_errors = count(f"{prefix}bind_errors")
        self.cx_active = gauge(f"{prefix}upstream_cx_active")
        self.cx_connect_fail = count(f"{prefix}upstream_cx_connect_fail")
        self.cx_connect_timeout = count(f"{prefix}upstream_cx_connect_timeout")
        self.cx_connect_ms = registry.histogram(f"{prefix}upstream_cx_connect_ms")
        self.cx_destroy = count(f"{prefix}upstream_cx_destroy")
        self.cx_destroy_local_with_active_rq = count(
            f"{prefix}upstream_cx_destroy_local_with_active_rq"
        )
        self.cx_destroy_remote_with_active_rq = count(
            f"{prefix}upstream_cx_destroy_remote_with_active_rq"
        )
        self.cx_http1_total = count(f"{prefix}upstream_cx_http1_total")
        self.cx_idle_timeout = count(f"{prefix}upstream_cx_idle_timeout")
        self.cx_length_ms = registry.histogram(f"{prefix}upstream_cx_length_ms")
        self.cx_max_requests = count(f"{prefix}upstream_cx_max_requests")
        self.cx_none_healthy = count(f"{prefix}upstream_cx_none_healthy")
        self.cx_overflow = count(f"{prefix}upstream_cx_overflow")
        self.cx_pool_overflow = count(f"{prefix}upstream_cx_pool_overflow")
        self.cx_protocol_error = count(f"{prefix}upstream_cx_protocol_error")
        self.cx_rx_bytes_total = count(f"{prefix}upstream_cx_rx_bytes_total")
        self.cx_total = count(f"{prefix}upstream_cx_total")
        self.cx_tx_bytes_total = count(f"{prefix}upstream_cx_tx_bytes_total")
        self.lb_healthy_panic = count(f"{prefix}lb_healthy_panic")
        self.membership_change = count(f"{prefix}membership_change")
        self.membership_healthy = gauge(f"{prefix}membership_healthy")
        self.membership_total = gauge(f"{prefix}membership_total")
        self.rq_active = gauge(f"{prefix}upstream_rq_active")
        self.rq_cancelled = count(f"{prefix}upstream_rq_cancelled")
        self.rq_completed = count(f"{prefix}upstream_rq_completed")
        self.rq_pending_active = gauge(f"{prefix}upstream_rq_pending_active")
        self.rq_pending_failure_eject = count(f"{prefix}upstream_rq_pending_failure_eject")
        self.rq_pending_overflow = count(f"{prefix}upstream_rq_pending_overflow")
        self.rq_pending_total = count(f"{prefix}upstream_rq_pending_total")
        self.rq_per_try_timeout = count(f"{prefix}upstream_rq_per_try_timeout")
        self.rq_retry = count(f"{prefix}upstream_rq_retry")
        self.rq_retry_limit_exceeded = count(f"{prefix}upstream_rq_retry_limit_exceeded")
        self.rq_retry_overflow = count(f"{prefix}upstream_rq_retry_overflow")
        self.rq_retry_success = count(f"{prefix}upstream_rq_retry_success")
        self.rq_rx_reset = count(f"{prefix}upstream_rq_rx_reset")
        self.rq_time = registry.histogram(f"{prefix}upstream_rq_time")
        self.rq_timeout = count(f"{prefix}upstream_rq_timeout")
        self.rq_total = count(f"{prefix}upstream_rq_total")
        self.rq_tx_reset = count(f"{prefix}upstream_rq_tx_reset")
        self.ssl_fail_verify_error = count(f"{prefix}ssl.fail_verify_error")
        self.ssl_fail_verify_san = count(f"{prefix}ssl.fail_verify_san")
        self.ssl_handshake = count(f"{prefix}ssl.handshake")
        self.ssl_connection_error = count(f"{prefix}ssl.connection_error")
        self.ssl_context_missing = count(
            f"{prefix}client_ssl_socket_factory.upstream_context_secrets_not_ready"
        )
        self.retry_or_shadow_abandoned = count(f"{prefix}retry_or_shadow_abandoned")
        self.update_success = count(f"{prefix}update_success")

    def count_retried(self, status: int) -> None:
        """Count a response that nobody saw because it was retried."""
        self._registry.counter(f"{self._prefix}retry.upstream_rq_{status}").value += 1
        self._registry.counter(f"{self._prefix}retry.upstream_rq_{status // 100}xx").value += 1
        self._registry.counter(f"{self._prefix}retry.upstream_rq_completed").value += 1

    def count_response(self, status: int) -> None:
        pair = self._by_code.get(status)
        if pair is None:
            pair = self._by_code[status] = (
                self._registry.counter(f"{self._prefix}upstream_rq_{status}"),
                self._registry.counter(f"{self._prefix}upstream_rq_{status // 100}xx"),
            )
        pair[0].value += 1
        pair[1].value += 1
        self.rq_completed.value += 1


class ClusterState:
    """A cluster at work. A cluster whose settings change gets a new one; hosts alone do not.

    Attributes:
        tag: what a connection, request or log calls the cluster.
    """

    __slots__ = (
        "_assignment",
        "_dns",
        "_original",
        "_sweep",
        "balancer",
        "breakers",
        "closed",
        "config",
        "high_breakers",
        "outlier",
        "pools",
        "runtime",
        "stats",
        "warm",
    )

    def __init__(self, config: Cluster, runtime: Runtime) -> None:
        self.config = config
        self.runtime = runtime
        prefix = f"cluster.{config.stat_name or config.name}."
        self.stats = ClusterStats(runtime.stats, prefix)
        self.balancer = balancer(config)
        self.breakers = self._breakers(config.circuit_breakers.default, prefix, "default")
        self.high_breakers = self._breakers(config.circuit_breakers.high, prefix, "high")
        self.pools: dict[tuple[str, object], HostPool] = {}
        self.outlier: OutlierDetector | None = None
        self.closed = False
        self.warm = asyncio.Event()
        self._assignment: LoadAssignment | None = None
        self._dns: asyncio.Task[None] | None = None
        self._sweep: Timer | None = None
        self._original: dict[str, tuple[Host, float]] = {}
        if config.outlier_detection is not None:
            self.outlier = OutlierDetector(config.outlier_detection, runtime.stats, prefix)
            self._sweep = runtime.timers.after(config.outlier_detection.interval, self._sweep_now)
        if config.type in ("strict_dns", "logical_dns"):
            self._dns = spawn(self._resolve_for_ever(), f"dns {config.name}")
        else:
            self.warm.set()
            if config.type == "static" and config.load_assignment is not None:
                self.set_assignment(config.load_assignment)
        if config.type == "original_dst":
            runtime.timers.after(config.cleanup_interval, self._forget_unused)

    def _breakers(self, thresholds: Thresholds, prefix: str, priority: str) -> Breakers:
        return Breakers(thresholds, self.runtime.stats, f"{prefix}circuit_breakers.{priority}.")

    @property
    def hosts(self) -> list[Host]:
        if self.config.type == "original_dst":
            return [host for host, _ in self._original.values()]
        return self.balancer.hosts

    def set_assignment(self, assignment: LoadAssignment) -> None:
        """Take the endpoints of an EDS answer (or of DNS); equal ones change nothing."""
        if assignment == self._assignment:
            return
        self._assignment = assignment
        added, removed = self.balancer.set_hosts(
            assignment.localities, assignment.overprovisioning_factor, self.runtime.dice
        )
        if self.outlier is not None:
            for host in removed:
                self.outlier.forget(host.outlier)
            self.outlier.records = [host.outlier for host in self.balancer.hosts]
        gone = {host.address for host in removed}
        for key in [key for key in self.pools if key[0] in gone]:
            self.pools.pop(key).drain()
        self.stats.update_success.value += 1
        if added or removed:
            self.stats.membership_change.value += 1
        self._count_members()

    def _count_members(self) -> None:
        hosts = self.balancer.hosts
        self.stats.membership_total.value = len(hosts)
        self.stats.membership_healthy.value = sum(host.healthy for host in hosts)

    def take_over(self, earlier: "ClusterState") -> None:
        """Keep the statistics of hosts when only settings changed."""
        known = {host.address: host for host in earlier.hosts}
        for host in self.balancer.hosts:
            before = known.get(host.address)
            if before is not None:
                host.stats = before.stats

    def choose(self, original: str = "", override: str = "") -> Host | None:
        """Return a host for a request; None where there is none.

        Args:
            original: where the connection was going, `ip:port`, for ORIGINAL_DST.
            override: `ip:port` from `original_dst_http_header`.
        """
        if self.config.type == "original_dst":
            return self._original_host(override or original)
        if self.balancer.panic:
            self.stats.lb_healthy_panic.value += 1
        host = self.balancer.choose(self.runtime.dice)
        if host is None:
            self.stats.cx_none_healthy.value += 1
        return host

    def _original_host(self, destination: str) -> Host | None:
        ip, colon, port_text = destination.rpartition(":")
        if not colon or not port_text.isdigit() or not is_ip(ip.strip("[]")):
            self.stats.cx_none_healthy.value += 1
            return None
        port = self.config.original_dst_port or int(port_text)
        address = Address(ip.strip("[]"), port)
        now = self.runtime.now()
        key = str(address)
        found = self._original.get(key)
        if found is None:
            host = Host(Endpoint(address=address), NOWHERE, 0)
            self.stats.membership_change.value += 1
        else:
            host = found[0]
        self._original[key] = (host, now)
        self.stats.membership_total.value = len(self._original)
        self.stats.membership_healthy.value = len(self._original)
        return host

    def _forget_unused(self) -> None:
        if self.closed:
            return
        limit = self.runtime.now() - self.config.cleanup_interval
        for key, (host, used) in list(self._original.items()):
            if used < limit and not host.stats.cx_active and not host.stats.rq_active:
                del self._original[key]
                for pool in [pool for pool in self.pools if pool[0] == key]:
                    del self.pools[pool]
        self.stats.membership_total.value = len(self._original)
        self.stats.membership_healthy.value = len(self._original)
        self.runtime.timers.after(self.config.cleanup_interval, self._forget_unused)

    def pool(self, host: Host, alpn: tuple[str, ...], server_name: str, *, high: bool) -> HostPool:
        """Return the pool of HTTP/1 connections to `host` with this way of TLS."""
        tls = self.tls_for(host)
        key = (host.address, (alpn, server_name, high) if tls is not None else high)
        found = self.pools.get(key)
        if found is None or found.tls is not tls:
            if found is not None:
                found.drain()
            breakers = self.high_breakers if high else self.breakers
            found = HostPool(self, host, tls, breakers, alpn, server_name)
            self.pools[key] = found
        return found

    def tls_for(self, host: Host) -> UpstreamTls | None:
        """Return the transport socket that matches the endpoint's metadata."""
        matches = self.config.transport_socket_matches
        if not matches:
            return self.config.tls
        labels: Mapping[str, object] = host.endpoint.metadata.get(
            "envoy.transport_socket_match", {}
        )
        for match in matches:
            if all(labels.get(key) == value for key, value in match.match.items()):
                return match.tls
        return self.config.tls

    def on_response(self, host: Host, status: int) -> None:
        if self.outlier is not None:
            if self.outlier.on_response(
                host.outlier, status, self.runtime.now(), self.runtime.dice()
            ):
                self._rebuild()
            self.outlier.on_local_origin_success(host.outlier)

    def on_local_origin_failure(self, host: Host, *, timeout: bool = False) -> None:
        if self.outlier is not None and self.outlier.on_local_origin_failure(
            host.outlier, self.runtime.now(), self.runtime.dice(), timeout=timeout
        ):
            self._rebuild()

    def _rebuild(self) -> None:
        self.balancer.rebuild(self.runtime.dice)
        self._count_members()

    def _sweep_now(self) -> None:
        if self.closed or self.outlier is None:
            return
        if self.outlier.sweep(self.runtime.now()):
            self._rebuild()
        self._sweep = self.runtime.timers.after(self.outlier.config.interval, self._sweep_now)

    async def _resolve_for_ever(self) -> None:
        assignment = self.config.load_assignment
        if assignment is None:
            return
        while not self.closed:
            try:
                self.set_assignment(await self._resolve(assignment))
            except OSError as error:
                log.warning("cluster %s: name does not resolve: %s", self.config.name, error)
            self.warm.set()
            await asyncio.sleep(self.config.dns_refresh_rate)

    async def _resolve(self, assignment: LoadAssignment) -> LoadAssignment:
        groups: list[LocalityEndpoints] = []
        for group in assignment.localities:
            found: list[Endpoint] = []
            for endpoint in group.endpoints:
                found += await self._resolve_endpoint(endpoint)
            groups.append(
                LocalityEndpoints(
                    endpoints=tuple(found),
                    locality=group.locality,
                    weight=group.weight,
                    priority=group.priority,
                )
            )
        return LoadAssignment(
            cluster_name=assignment.cluster_name,
            localities=tuple(groups),
            overprovisioning_factor=assignment.overprovisioning_factor,
        )

    async def _resolve_endpoint(self, endpoint: Endpoint) -> list[Endpoint]:
        address = endpoint.address
        if address.path or is_ip(address.host):
            return [endpoint]
        family = {
            "v4_only": socket.AF_INET,
            "v6_only": socket.AF_INET6,
        }.get(self.config.dns_lookup_family, socket.AF_UNSPEC)
        answers = await self.runtime.loop.getaddrinfo(
            address.host, address.port, family=family, type=socket.SOCK_STREAM
        )
        ips = sorted({str(answer[4][0]) for answer in answers})
        if self.config.dns_lookup_family in ("auto", "v4_preferred"):
            # One family: v6 first for AUTO, v4 first for V4_PREFERRED, as Envoy.
            first = [ip for ip in ips if (":" in ip) == (self.config.dns_lookup_family == "auto")]
            ips = first or ips
        if self.config.type == "logical_dns":
            ips = ips[:1]
        return [
            Endpoint(
                address=Address(ip, address.port),
                hostname=endpoint.hostname or address.host,
                health=endpoint.health,
                weight=endpoint.weight,
                metadata=endpoint.metadata,
            )
            for ip in ips
        ]

    def drain_connections(self) -> None:
        """Close idle connections now and busy ones after their request (new secrets, say)."""
        for pool in self.pools.values():
            pool.drain()
        self.pools.clear()

    def close(self) -> None:
        """End what runs by itself. Requests under way keep their connections to their end."""
        self.closed = True
        self.drain_connections()
        if self._dns is not None:
            self._dns.cancel()
        if self._sweep is not None:
            self._sweep.cancel()

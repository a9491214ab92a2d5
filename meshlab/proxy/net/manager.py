"""An HTTP connection manager ready to serve: its statistics, logs, filters and routes."""

from collections.abc import Sequence

from meshlab.errors import ConfigError
from meshlab.proxy.core.fault import CompiledFault, Fault
from meshlab.proxy.core.http_connection_manager import (
    Alpn,
    HttpConnectionManager,
    IstioStats,
    MetadataExchange,
    Router,
)
from meshlab.proxy.core.istio_stat import IstioReporter
from meshlab.proxy.core.route import RouteTable
from meshlab.proxy.core.stat import Counter, StatRegistry
from meshlab.proxy.core.stream_info import StreamInfo
from meshlab.proxy.net.runtime import LogStream, Runtime


class HttpStats:
    """Envoy's `http.<stat_prefix>.` statistics, the ones we count."""

    __slots__ = (
        "_by_class",
        "cx_active",
        "cx_destroy",
        "cx_destroy_local",
        "cx_destroy_remote",
        "cx_destroy_remote_active_rq",
        "cx_drain_close",
        "cx_http1_active",
        "cx_http1_total",
        "cx_idle_timeout",
        "cx_length_ms",
        "cx_max_duration_reached",
        "cx_max_requests_reached",
        "cx_protocol_error",
        "cx_rx_bytes_total",
        "cx_ssl_active",
        "cx_ssl_total",
        "cx_total",
        "cx_tx_bytes_total",
        "cx_upgrades_active",
        "cx_upgrades_total",
        "fault_aborts_injected",
        "fault_active",
        "fault_delays_injected",
        "no_cluster",
        "no_route",
        "router_rq_total",
        "rq_active",
        "rq_completed",
        "rq_direct_response",
        "rq_header_timeout",
        "rq_http1_total",
        "rq_idle_timeout",
        "rq_max_duration_reached",
        "rq_non_relative_path",
        "rq_rx_reset",
        "rq_time",
        "rq_timeout",
        "rq_too_large",
        "rq_total",
        "rq_tx_reset",
    )

    def __init__(self, registry: StatRegistry, prefix: str) -> None:
        count = registry.counter
        gauge = registry.gauge
        down = f"{prefix}downstream_"
        self.cx_active = gauge(f"{down}cx_active")
        self.cx_destroy = count(f"{down}cx_destroy")
        self.cx_destroy_local = count(f"{down}cx_destroy_local")
        self.cx_destroy_remote = count(f"{down}cx_destroy_remote")
        self.cx_destroy_remote_active_rq = count(f"{down}cx_destroy_remote_active_rq")
        self.cx_drain_close = count(f"{down}cx_drain_close")
        self.cx_http1_active = gauge(f"{down}cx_http1_active")
        self.cx_http1_total = count(f"{down}cx_http1_total")
        self.cx_idle_timeout = count(f"{down}cx_idle_timeout")
        self.cx_length_ms = registry.histogram(f"{down}cx_length_ms")
        self.cx_max_duration_reached = count(f"{down}cx_max_duration_reached")
        self.cx_max_requests_reached = count(f"{down}cx_max_requests_reached")
        self.cx_protocol_error = count(f"{down}cx_protocol_error")
        self.cx_rx_bytes_total = count(f"{down}cx_rx_bytes_total")
        self.cx_ssl_active = gauge(f"{down}cx_ssl_active")
        self.cx_ssl_total = count(f"{down}cx_ssl_total")
        self.cx_total = count(f"{down}cx_total")
        self.cx_tx_bytes_total = count(f"{down}cx_tx_bytes_total")
        self.cx_upgrades_active = gauge(f"{down}cx_upgrades_active")
        self.cx_upgrades_total = count(f"{down}cx_upgrades_total")
        self.fault_aborts_injected = count(f"{prefix}fault.aborts_injected")
        self.fault_active = gauge(f"{prefix}fault.active_faults")
        self.fault_delays_injected = count(f"{prefix}fault.delays_injected")
        self.no_cluster = count(f"{prefix}no_cluster")
        self.no_route = count(f"{prefix}no_route")
        self.rq_active = gauge(f"{down}rq_active")
        self.rq_completed = count(f"{down}rq_completed")
        self.rq_direct_response = count(f"{prefix}rq_direct_response")
        self.rq_header_timeout = count(f"{down}rq_header_timeout")
        self.rq_http1_total = count(f"{down}rq_http1_total")
        self.rq_idle_timeout = count(f"{down}rq_idle_timeout")
        self.rq_max_duration_reached = count(f"{down}rq_max_duration_reached")
        self.rq_non_relative_path = count(f"{down}rq_non_relative_path")
        self.rq_rx_reset = count(f"{down}rq_rx_reset")
        self.rq_time = registry.histogram(f"{down}rq_time")
        self.rq_timeout = count(f"{down}rq_timeout")
        self.rq_too_large = count(f"{down}rq_too_large")
        self.rq_total = count(f"{down}rq_total")
        self.rq_tx_reset = count(f"{down}rq_tx_reset")
        self.router_rq_total = count(f"{prefix}rq_total")
        self._by_class: list[Counter] = [count(f"{down}rq_{first}xx") for first in (1, 2, 3, 4, 5)]

    def count_response(self, status: int) -> None:
        self._by_class[status // 100 - 1].value += 1
        self.rq_completed.value += 1


class Manager:
    """A connection manager's settings, compiled.

    Attributes:
        fault: the filter's own settings; None where the filter is not in the chain.
        reporters: `istio.stats` filters.
        exchange_metadata: `istio.metadata_exchange` is in the chain.
        alpn: what `istio.alpn` offers upstream; (): the cluster's own.
    """

    __slots__ = (
        "_table",
        "alpn",
        "config",
        "exchange_metadata",
        "fault",
        "has_fault",
        "logs",
        "reporters",
        "runtime",
        "stats",
        "suppress_envoy_headers",
    )

    def __init__(self, config: HttpConnectionManager, runtime: Runtime) -> None:
        """Compile `config`.

        Raises:
            ConfigError: a route table, log or filter that does not compile.
        """
        self.config = config
        self.runtime = runtime
        self.stats = HttpStats(runtime.stats, f"http.{config.stat_prefix}.")
        self.logs: Sequence[LogStream] = [runtime.log(log) for log in config.access_logs]
        self._table = RouteTable(config.route_config) if config.route_config else None
        if self._table is None and not config.rds_name:
            raise ConfigError("neither rds nor route_config", field="route_specifier")
        if not config.http_filters or not isinstance(config.http_filters[-1], Router):
            raise ConfigError("the last HTTP filter is not the router", field="http_filters")
        self.fault: CompiledFault | None = None
        self.has_fault = False
        self.reporters: list[IstioReporter] = []
        self.exchange_metadata = False
        self.alpn: tuple[str, ...] = ()
        self.suppress_envoy_headers = False
        for http_filter in config.http_filters:
            if isinstance(http_filter, Fault):
                self.has_fault = True
                self.fault = CompiledFault(http_filter)
            elif isinstance(http_filter, IstioStats):
                self.reporters.append(IstioReporter(http_filter, runtime.node, runtime.stats))
            elif isinstance(http_filter, MetadataExchange):
                self.exchange_metadata = True
            elif isinstance(http_filter, Alpn):
                self.alpn = http_filter.http1
            elif isinstance(http_filter, Router):
                self.suppress_envoy_headers = http_filter.suppress_envoy_headers

    def table(self) -> RouteTable | None:
        """Return the routes in force now."""
        return self._table or self.runtime.routes.get(self.config.rds_name)

    def log(self, info: StreamInfo) -> None:
        for write in self.logs:
            write(info)
        for reporter in self.reporters:
            reporter.record_request(info)

"""The proxy as a process: worker, configuration, logs and admin end point, from start to drain."""

import asyncio
import gc
import logging
import signal
from collections.abc import Mapping
from importlib.metadata import version
from time import monotonic
from typing import Any as Anything

from google.protobuf import json_format

from meshlab.proxy.admin import Admin, serve
from meshlab.proxy.config.bootstrap import Bootstrap, GrpcSource, grpc_target
from meshlab.proxy.config.discovery import Discovery
from meshlab.proxy.config.snapshot import Configuration
from meshlab.proxy.core.listener import Listener
from meshlab.proxy.core.snapshot import Node
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.net.cluster import ClusterState
from meshlab.proxy.net.task import spawn
from meshlab.proxy.telemetry.access_log import AccessLogs
from meshlab.proxy.worker import Worker

log = logging.getLogger(__name__)

GC_THRESHOLD = 20_000
"""Objects made between two collections of the youngest: Python's 700 would stop a busy proxy
many times a second for next to nothing, since finished requests die by reference count."""

STATES = {"LIVE": 0, "DRAINING": 1, "PRE_INITIALIZING": 2, "INITIALIZING": 3}
"""`server.state` in Envoy's numbers."""


class Server:
    """Runs a bootstrap until it is told to end."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        drain_time: float = 5.0,
        command_line: Mapping[str, Anything] | None = None,
    ) -> None:
        """Read the static resources; nothing is opened yet.

        Raises:
            ConfigError: with the path in the bootstrap.
        """
        self.bootstrap = bootstrap
        self.drain_time = drain_time
        self.command_line = command_line or {}
        self.configuration = Configuration(bootstrap)
        self.configuration.load_static()
        self.stats = StatRegistry()
        self._started = monotonic()
        self._failing_health_checks = False
        self._stopping = asyncio.Event()
        self._graceful = True

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or /quitquitquit, then drain.

        Raises:
            ConfigError: an address of the file cannot be had.
        """
        logs = AccessLogs(self.bootstrap.node, self.stats, self._grpc_source)
        self.worker = Worker(node=core_node(self.bootstrap), access_log=logs.open, stats=self.stats)
        self.discovery = Discovery(self.configuration, self.worker.apply, self.stats)
        admin = None
        try:
            if self.bootstrap.admin_address or self.bootstrap.admin_path:
                host, port = self.bootstrap.admin_address or ("", 0)
                admin = await serve(
                    Admin(self, self.command_line),
                    host=host,
                    port=port,
                    path=self.bootstrap.admin_path,
                )
            self._handle_signals()
            await self.discovery.start()
            tune_garbage_collection()
            log.info("serving %d listeners", len(self.worker.listeners))
            await self._stopping.wait()
            if self._graceful:
                await self.worker.drain(self.drain_time)
        finally:
            if admin is not None:
                admin.close()
            await self.worker.close()
            await logs.close()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, True)

    def _stop(self, graceful: bool) -> None:
        """End; a second signal ends without waiting for connections."""
        if self._stopping.is_set():
            self.drain_time = 0.0
            for listener in self.worker.listeners.values():
                listener.close()
        self._graceful = graceful
        self._stopping.set()

    def _grpc_source(self, cluster_name: str) -> GrpcSource:
        target, roots, server_name = grpc_target(cluster_name, self.bootstrap.clusters, "cluster")
        return GrpcSource(
            cluster_name=cluster_name,
            target=target,
            delta=False,
            root_certificates=roots,
            server_name=server_name,
        )

    # What the admin end point asks for (`admin.Server`).

    def clusters(self) -> Mapping[str, ClusterState]:
        return self.worker.clusters

    def listeners(self) -> Mapping[str, Listener]:
        return {name: active.config for name, active in self.worker.listeners.items()}

    def state(self) -> str:
        if self._failing_health_checks or self._stopping.is_set() or self.worker.draining:
            return "DRAINING"
        return "LIVE" if self.discovery.initialized.is_set() else "INITIALIZING"

    def quit(self) -> None:
        self._stop(graceful=False)

    def drain(self, *, inbound_only: bool, graceful: bool) -> None:
        seconds = self.drain_time if graceful else 0.0
        if inbound_only:
            spawn(self._drain_inbound(seconds), "drain inbound listeners")
        else:
            spawn(self.worker.drain(seconds), "drain listeners")

    async def _drain_inbound(self, seconds: float) -> None:
        inbound = [
            listener
            for listener in self.worker.listeners.values()
            if listener.config.traffic_direction == "inbound"
        ]
        for listener in inbound:
            listener.drain()
        await asyncio.sleep(seconds)
        for listener in inbound:
            listener.close_sockets()

    def fail_health_check(self, failed: bool) -> None:
        self._failing_health_checks = failed

    def refresh_gauges(self) -> None:
        """Bring the statistics up to date that nobody counts."""
        state = self.state()
        gauges = {
            "server.live": int(state == "LIVE"),
            "server.state": STATES[state],
            "server.uptime": int(monotonic() - self._started),
            "server.concurrency": 1,
            "server.total_connections": sum(
                gauge.value
                for (name, _), gauge in self.stats.gauges.items()
                if name.startswith("listener.") and name.endswith(".downstream_cx_active")
            ),
            "control_plane.connected_state": int(
                self.discovery.ads is not None and self.discovery.ads.connected
            ),
        }
        for name, value in gauges.items():
            self.stats.gauge(name).value = value
        build = (("component", "proxy"), ("tag", version("meshlab")))
        self.stats.gauge("istio_build", build).value = 1


def core_node(bootstrap: Bootstrap) -> Node:
    """Return who we are, in the core's terms."""
    node = bootstrap.node
    return Node(
        id=node.id,
        cluster=node.cluster,
        metadata=json_format.MessageToDict(node.metadata),
        locality_region=node.locality.region,
        locality_zone=node.locality.zone,
        locality_sub_zone=node.locality.sub_zone,
    )


def tune_garbage_collection() -> None:
    """Leave what was made at start out of all collections, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)

"""Keep the configuration fed: who is asked for what, and when (Envoy's ADS order).

CDS first, then the endpoints of its clusters; LDS when the first clusters can be used, then the
route tables of its listeners; secrets wherever their `sds_config` says.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from meshlab.errors import ConfigError
from meshlab.proxy.config.bootstrap import GrpcSource
from meshlab.proxy.config.snapshot import DEFAULT_FETCH_TIMEOUT, Configuration
from meshlab.proxy.config.xds import (
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    ROUTE_TYPE,
    SECRET_TYPE,
    Update,
    XdsClient,
)
from meshlab.proxy.core.snapshot import Snapshot
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.net.task import spawn

log = logging.getLogger(__name__)

STAT_PREFIXES = {
    CLUSTER_TYPE: "cluster_manager.cds",
    ENDPOINT_TYPE: "cluster_manager.eds",
    LISTENER_TYPE: "listener_manager.lds",
    ROUTE_TYPE: "http.rds",
    SECRET_TYPE: "sds",
}


class Discovery:
    """Runs the xDS streams of a bootstrap and hands on each new snapshot.

    Attributes:
        initialized: the first answers of CDS and LDS are in, and what they named is there.
    """

    def __init__(
        self,
        configuration: Configuration,
        apply: Callable[[Snapshot], Awaitable[None]],
        stats: StatRegistry,
    ) -> None:
        """Prepare; `apply` puts a snapshot in force, or raises ConfigError and changes nothing."""
        self.configuration = configuration
        self.apply = apply
        self.stats = stats
        self.initialized = asyncio.Event()
        self.ads: XdsClient | None = None
        self.secret_streams: dict[str, tuple[GrpcSource, XdsClient, asyncio.Task[None]]] = {}
        self._lock = asyncio.Lock()  # a snapshot comes into force before the next is begun
        self._answered: set[str] = set()
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._listeners_asked = False
        self._clusters_timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Put in force what is static, open the streams.

        Raises:
            ConfigError: a static listener that cannot be opened.
        """
        bootstrap = self.configuration.bootstrap
        await self.apply(self.configuration.snapshot)
        if bootstrap.ads is not None:
            self.ads = XdsClient(bootstrap.ads, bootstrap.node, self)
            if bootstrap.dynamic_clusters:
                self.ads.subscribe(CLUSTER_TYPE, None)
                loop = asyncio.get_running_loop()
                self._clusters_timer = loop.call_later(
                    DEFAULT_FETCH_TIMEOUT, self._ask_for_listeners
                )
            spawn(self.ads.run(), "ADS")
        async with self._lock:
            await self._changed()

    async def update(self, update: Update) -> Mapping[str, ConfigError]:
        """Take over an answer (see `Subscriber`)."""
        async with self._lock:
            self._answered.add(update.type_url)
            errors = self.configuration.update(update)
            failed = await self._changed()
        if update.type_url == LISTENER_TYPE:
            names = {resource.name for resource in update.resources}
            errors.update({name: error for name, error in failed.items() if name in names})
        prefix = STAT_PREFIXES[update.type_url]
        self.stats.counter(f"{prefix}.update_attempt").value += 1
        outcome = "update_rejected" if errors else "update_success"
        self.stats.counter(f"{prefix}.{outcome}").value += 1
        return errors

    def pending(self, type_url: str) -> bool:
        return self.configuration.pending(type_url)

    async def _changed(self) -> dict[str, ConfigError]:
        """Ask for what is named by now, put in force what can be used.

        Returns:
            Listeners that could not be opened, by name.
        """
        configuration = self.configuration
        configuration.forget_unwanted()
        configuration.refresh()
        self._ask()
        failed = await self._apply()
        warming = configuration.warming()
        if CLUSTER_TYPE in self._answered and not warming[CLUSTER_TYPE]:
            self._ask_for_listeners()
        if not configuration.bootstrap.dynamic_clusters:
            self._ask_for_listeners()
        self._set_gauges(warming)
        if self._is_initialized(warming):
            self.initialized.set()
        if self.ads is not None:
            self.ads.release()
        return failed

    async def _apply(self) -> dict[str, ConfigError]:
        """Put the snapshot in force without the listeners that cannot be opened."""
        failed: dict[str, ConfigError] = {}
        while True:
            try:
                await self.apply(self.configuration.snapshot)
            except ConfigError as error:
                kind, _, name = error.object.partition(" ")
                entry = self.configuration.entries[LISTENER_TYPE].get(name)
                if kind != "Listener" or entry is None or entry.static:
                    raise
                self.configuration.refuse(LISTENER_TYPE, name, error)
                failed[name] = error
            else:
                return failed

    def _is_initialized(self, warming: Mapping[str, list[str]]) -> bool:
        bootstrap = self.configuration.bootstrap
        asked = {
            type_url
            for type_url, dynamic in (
                (CLUSTER_TYPE, bootstrap.dynamic_clusters),
                (LISTENER_TYPE, bootstrap.dynamic_listeners),
            )
            if dynamic
        }
        return asked <= self._answered and not warming[CLUSTER_TYPE] and not warming[LISTENER_TYPE]

    def _set_gauges(self, warming: Mapping[str, list[str]]) -> None:
        gauges = {
            "cluster_manager.active_clusters": len(self.configuration.snapshot.clusters),
            "cluster_manager.warming_clusters": len(warming[CLUSTER_TYPE]),
            "listener_manager.total_listeners_active": len(self.configuration.snapshot.listeners),
            "listener_manager.total_listeners_warming": len(warming[LISTENER_TYPE]),
            "control_plane.connected_state": int(self.ads is not None and self.ads.connected),
        }
        for name, value in gauges.items():
            self.stats.gauge(name).value = value

    def _ask(self) -> None:
        secrets = self.configuration.wanted_secrets()
        self._open_secret_streams(
            {name: source.grpc for name, source in secrets.items() if source.grpc is not None}
        )
        if self.ads is None:
            return
        for type_url, names in self.configuration.wanted().items():
            self.ads.subscribe(type_url, names)
            for name, timeout in names.items():
                self._wait(type_url, name, timeout)
        self.ads.subscribe(
            SECRET_TYPE, [name for name, source in secrets.items() if source.grpc is None]
        )

    def _wait(self, type_url: str, name: str, timeout: float) -> None:
        """Stop waiting for a resource after its `initial_fetch_timeout` (0: never stop)."""
        key = (type_url, name)
        if timeout <= 0 or key in self._timers or name in self.configuration.entries[type_url]:
            return

        def give_up() -> None:
            if name not in self.configuration.entries[type_url]:
                log.warning("%s %s did not come within %g s", type_url, name, timeout)
                spawn(self._give_up(type_url, name), f"give up waiting for {name}")

        self._timers[key] = asyncio.get_running_loop().call_later(timeout, give_up)

    async def _give_up(self, type_url: str, name: str) -> None:
        async with self._lock:
            self.configuration.give_up(type_url, name)
            await self._changed()

    def _ask_for_listeners(self) -> None:
        if self._listeners_asked or self.ads is None:
            return
        self._listeners_asked = True
        if self._clusters_timer is not None:
            self._clusters_timer.cancel()
        if self.configuration.bootstrap.dynamic_listeners:
            self.ads.subscribe(LISTENER_TYPE, None)

    def _open_secret_streams(self, wanted: Mapping[str, GrpcSource]) -> None:
        """Keep one stream for each secret, as Envoy does; SDS servers expect that."""
        for name in [name for name in self.secret_streams if name not in wanted]:
            self.secret_streams.pop(name)[2].cancel()
        for name, source in wanted.items():
            running = self.secret_streams.get(name)
            if running is not None and running[0] == source:
                continue
            if running is not None:
                running[2].cancel()
            client = XdsClient(source, self.configuration.bootstrap.node, self, service="sds")
            client.subscribe(SECRET_TYPE, [name])
            self.secret_streams[name] = (source, client, spawn(client.run(), f"SDS {name}"))

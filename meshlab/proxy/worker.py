"""One process of the proxy: its listeners and clusters, and how a new snapshot comes into force."""

import asyncio
import logging
from collections.abc import Callable

from meshlab.errors import ConfigError
from meshlab.proxy.core.cluster import Cluster
from meshlab.proxy.core.listener import Listener
from meshlab.proxy.core.route import RouteTable
from meshlab.proxy.core.snapshot import Node, Snapshot
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.net.cluster import ClusterState
from meshlab.proxy.net.listener import ActiveListener
from meshlab.proxy.net.runtime import OpenLog, Runtime
from meshlab.proxy.net.task import spawn

log = logging.getLogger(__name__)

_DNS_WAIT = 5.0
_SWEEP = 1.0


class Worker:
    """Runs what a snapshot says. All calls are made from the event loop it was made in.

    Attributes:
        snapshot: in force.
        stats: all statistics, also of telemetry outside the data path.
        listeners: by name.
        clusters: by name.
    """

    def __init__(
        self,
        *,
        node: Node,
        access_log: OpenLog,
        stats: StatRegistry | None = None,
        seed: int | None = None,
    ) -> None:
        """Make a worker that does nothing yet.

        Args:
            node: who we are, for metadata exchange and Istio's metrics.
            access_log: gives each configured log the function that takes finished streams.
            stats: where to count.
            seed: of all dice, for runs that can be repeated.
        """
        self.stats = stats or StatRegistry()
        self.snapshot = Snapshot()
        self.listeners: dict[str, ActiveListener] = {}
        self._runtime = Runtime(asyncio.get_running_loop(), node, self.stats, access_log, seed)
        self._draining: set[ActiveListener] = set()
        self._closed = False
        self._runtime.timers.after(_SWEEP, self._sweep)

    @property
    def clusters(self) -> dict[str, ClusterState]:
        return self._runtime.clusters

    @property
    def draining(self) -> bool:
        return self._runtime.draining

    @property
    def on_missing_secret(self) -> Callable[[str], None] | None:
        """Told the name of an SDS secret that a connection needed and the snapshot has not."""
        return self._runtime.tls.on_missing_secret

    @on_missing_secret.setter
    def on_missing_secret(self, tell: Callable[[str], None] | None) -> None:
        self._runtime.tls.on_missing_secret = tell

    async def apply(self, snapshot: Snapshot) -> None:
        """Put `snapshot` in force. What did not change keeps running untouched.

        Requests under way keep the route and cluster they began with; listeners that changed keep
        their sockets, and their connections end after the request that they carry.

        Raises:
            ConfigError: something does not compile, or an address cannot be bound. Then nothing
                has changed.
        """
        routes = self._compile_routes(snapshot)
        listeners = self._compile_listeners(snapshot)
        fresh: list[ActiveListener] = []
        try:
            for name, listener in listeners.items():
                earlier = self.listeners.get(name)
                if listener is not earlier and not takes_over(listener.config, earlier):
                    listener.bind()
                    fresh.append(listener)
        except ConfigError:
            for listener in fresh:
                listener.close_sockets()
            raise
        clusters = self._make_clusters(snapshot)
        new = [state for name, state in clusters.items() if self.clusters.get(name) is not state]
        await wait_for_names(new)
        self._swap(snapshot, routes, clusters, listeners)

    def _compile_routes(self, snapshot: Snapshot) -> dict[str, RouteTable]:
        tables: dict[str, RouteTable] = {}
        for name, config in snapshot.routes.items():
            known = self._runtime.routes.get(name)
            unchanged = known is not None and (known.config is config or known.config == config)
            tables[name] = known if known is not None and unchanged else RouteTable(config)
        return tables

    def _compile_listeners(self, snapshot: Snapshot) -> dict[str, ActiveListener]:
        found: dict[str, ActiveListener] = {}
        for name, config in snapshot.listeners.items():
            known = self.listeners.get(name)
            if known is not None and (known.config is config or known.config == config):
                found[name] = known
            else:
                found[name] = ActiveListener(config, self._runtime, self.listeners)
        return found

    def _make_clusters(self, snapshot: Snapshot) -> dict[str, ClusterState]:
        clusters: dict[str, ClusterState] = {}
        for name, config in snapshot.clusters.items():
            known = self.clusters.get(name)
            if known is not None and (known.config is config or known.config == config):
                clusters[name] = known
            else:
                clusters[name] = ClusterState(config, self._runtime)
            if config.type == "eds":
                assignment = snapshot.endpoints.get(config.eds_service_name or name)
                if assignment is not None:
                    clusters[name].set_assignment(assignment)
        return clusters

    def _swap(
        self,
        snapshot: Snapshot,
        routes: dict[str, RouteTable],
        clusters: dict[str, ClusterState],
        listeners: dict[str, ActiveListener],
    ) -> None:
        runtime = self._runtime
        before = runtime.clusters
        secrets_changed = runtime.tls.set_secrets(snapshot.secrets)
        for name, state in clusters.items():
            earlier = before.get(name)
            if earlier is not None and earlier is not state:
                state.take_over(earlier)
            elif earlier is not None and secrets_changed and uses_tls(state.config):
                state.drain_connections()
        runtime.clusters = clusters
        runtime.routes = routes
        live = {stat_prefix(state.config) for state in clusters.values()}
        for name, earlier in before.items():
            if clusters.get(name) is not earlier:
                earlier.close()
            prefix = stat_prefix(earlier.config)
            if prefix not in live:
                # `cluster.a.` is also the beginning of cluster `a.b`, which may live on.
                keep = tuple(other for other in live if other.startswith(prefix))
                self.stats.drop(prefix, keep)
        self._swap_listeners(listeners)
        self.snapshot = snapshot

    def _swap_listeners(self, listeners: dict[str, ActiveListener]) -> None:
        before = dict(self.listeners)
        # Listeners know each other by this very dictionary: it is changed, not replaced.
        self.listeners.clear()
        self.listeners.update(listeners)
        for name, listener in listeners.items():
            earlier = before.get(name)
            if listener is earlier:
                continue
            if earlier is not None and takes_over(listener.config, earlier):
                listener.take_sockets(earlier)
            listener.start()
        for name, earlier in before.items():
            if listeners.get(name) is not earlier:
                earlier.close_sockets()
                earlier.drain()
                self._draining.add(earlier)

    def _sweep(self) -> None:
        """Look once a second for connections that are idle for too long."""
        if self._closed:
            return
        runtime = self._runtime
        now = runtime.now()
        for listener in (*self.listeners.values(), *self._draining):
            listener.close_idle(now)
        for cluster in runtime.clusters.values():
            idle = cluster.config.idle_timeout
            if idle:
                for pool in cluster.pools.values():
                    pool.close_idle_since(now - idle)
        self._draining = {listener for listener in self._draining if listener.open}
        runtime.timers.after(_SWEEP, self._sweep)

    async def drain(self, seconds: float) -> None:
        """Tell clients to go elsewhere for `seconds`, then accept no more.

        Answers carry `connection: close`; idle connections end after a second. It is over early
        when the last connection has ended.
        """
        self._runtime.draining = True
        for listener in self.listeners.values():
            listener.drain()
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            if not any(listener.open for listener in (*self.listeners.values(), *self._draining)):
                break
            await asyncio.sleep(0.05)
        for listener in self.listeners.values():
            listener.close_sockets()

    async def close(self) -> None:
        """End everything now."""
        self._closed = True
        for listener in (*self.listeners.values(), *self._draining):
            listener.close()
        for cluster in self._runtime.clusters.values():
            cluster.close()
        self._runtime.timers.close()
        await asyncio.sleep(0)


def takes_over(config: Listener, earlier: ActiveListener | None) -> bool:
    """Tell whether a changed listener can go on with the sockets of its predecessor."""
    if earlier is None:
        return False
    old = earlier.config
    return (
        config.bind_to_port
        and old.bind_to_port
        and config.address == old.address
        and config.additional_addresses == old.additional_addresses
        and config.reuse_port == old.reuse_port
    )


def stat_prefix(config: Cluster) -> str:
    return f"cluster.{config.stat_name or config.name}."


def uses_tls(config: Cluster) -> bool:
    return config.tls is not None or bool(config.transport_socket_matches)


async def wait_for_names(clusters: list[ClusterState]) -> None:
    """Wait for the first DNS answers of new clusters, for a few seconds at most."""
    waiting = [
        spawn(wait_until_warm(cluster), f"warm {cluster.config.name}")
        for cluster in clusters
        if not cluster.warm.is_set()
    ]
    if waiting:
        await asyncio.wait(waiting, timeout=_DNS_WAIT)
        for task in waiting:
            task.cancel()


async def wait_until_warm(cluster: ClusterState) -> None:
    await cluster.warm.wait()

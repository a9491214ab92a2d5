"""Keep all resources compiled, and say which of them can be used: the next snapshot.

A cluster is used once its endpoints and certificates are there, a route table once its new
clusters can be used, a listener once its routes and certificates are there. Until then what was
used before stays in use. What is refused never gets in: the last good version stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import time
from typing import Any as Anything
from typing import cast

from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (  # noqa: E501 - the module's own name
    HttpConnectionManager as HcmMessage,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from google.protobuf.message import Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.bootstrap import Bootstrap, GrpcSource, compile_api_source
from meshlab.proxy.config.cluster import compile_cluster, is_http2
from meshlab.proxy.config.endpoint import compile_load_assignment
from meshlab.proxy.config.listener import compile_listener
from meshlab.proxy.config.protobuf import join, located, seconds, walk, wrapped
from meshlab.proxy.config.route import compile_route_configuration
from meshlab.proxy.config.secret import compile_secret
from meshlab.proxy.config.unsupported import refuse_unsupported
from meshlab.proxy.config.xds import (
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    ROUTE_TYPE,
    SECRET_TYPE,
    Resource,
    Update,
    resource_name,
    short_type,
)
from meshlab.proxy.core.access_log import AccessLog, GrpcAccessLog
from meshlab.proxy.core.cluster import Cluster, LoadAssignment
from meshlab.proxy.core.filter_chain import FilterChain
from meshlab.proxy.core.http_connection_manager import HttpConnectionManager
from meshlab.proxy.core.listener import Listener
from meshlab.proxy.core.route import RouteAction, RouteConfiguration, RouteTable
from meshlab.proxy.core.snapshot import Snapshot
from meshlab.proxy.core.tls import Secret, UpstreamTls, secret_names

DEFAULT_FETCH_TIMEOUT = 15.0
"""`initial_fetch_timeout` where it is not set, seconds."""

COMPILERS: Mapping[str, Callable[[Anything], object]] = {
    CLUSTER_TYPE: compile_cluster,
    ENDPOINT_TYPE: compile_load_assignment,
    LISTENER_TYPE: compile_listener,
    ROUTE_TYPE: compile_route_configuration,
    SECRET_TYPE: compile_secret,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a secret is asked for."""

    grpc: GrpcSource | None
    """None: the ADS stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A resource in its two forms, and what it refers to."""

    message: Message
    compiled: object
    version: str = ""
    updated: float = 0.0
    """Unix seconds."""
    static: bool = False
    clusters: frozenset[str] = frozenset()
    """Clusters that it names."""
    routes: frozenset[str] = frozenset()
    """RDS tables that it names."""
    secrets: frozenset[str] = frozenset()
    """SDS secrets that it names."""
    inline_routes: tuple[Message, ...] = ()
    """Route tables inside."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A resource that was refused, for /config_dump."""

    message: Message
    version: str
    details: str
    time: float


@dataclass(slots=True)
class Configuration:
    """All resources, from the bootstrap and from xDS."""

    bootstrap: Bootstrap
    entries: dict[str, dict[str, Entry]] = field(
        default_factory=lambda: {type_url: {} for type_url in COMPILERS}
    )
    """Type URL → name → the last good version."""
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    """(type URL, name) → what is refused at present."""
    grpc_clusters: dict[str, ClusterMessage] = field(default_factory=dict)
    """Static clusters that speak HTTP/2: for xDS and ALS, never for requests."""
    secret_sources: dict[str, SecretSource] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    given_up: set[tuple[str, str]] = field(default_factory=set)
    """(type URL, name) that did not come in time, or that the server says is not there."""
    replaced: dict[tuple[str, str], Entry] = field(default_factory=dict)
    """(type URL, name) → the version before the present one, for `refuse`."""
    now: Callable[[], float] = time

    def load_static(self) -> None:
        """Take over the bootstrap's resources.

        Raises:
            ConfigError: with the path in the bootstrap; nothing may be left out of a static file.
        """
        static = "static_resources"
        for index, secret in enumerate(self.bootstrap.secrets):
            self._add_static(SECRET_TYPE, secret, join(static, f"secrets[{index}]"))
        for index, cluster in enumerate(self.bootstrap.clusters):
            path = join(static, f"clusters[{index}]")
            if cluster.name in self.grpc_clusters or cluster.name in self.entries[CLUSTER_TYPE]:
                raise ConfigError(
                    "is another cluster's name, too", field=join(path, "name"), found=cluster.name
                )
            if is_http2(cluster):
                self.grpc_clusters[cluster.name] = cluster
            else:
                self._add_static(CLUSTER_TYPE, cluster, path)
        for index, listener in enumerate(self.bootstrap.listeners):
            self._add_static(LISTENER_TYPE, listener, join(static, f"listeners[{index}]"))
        self.refresh()

    def _add_static(self, type_url: str, message: Message, path: str) -> None:
        try:
            entry = self._compile(type_url, Resource(resource_name(message), "", message))
        except ConfigError as error:
            raise located(error, path=path) from error
        name = entry.compiled.name if isinstance(entry.compiled, Listener) else ""
        self.entries[type_url][name or resource_name(message)] = replace(entry, static=True)

    def update(self, update: Update) -> dict[str, ConfigError]:
        """Take over what is good of an answer; return why the others are refused, by name."""
        errors: dict[str, ConfigError] = {}
        table = self.entries[update.type_url]
        for resource in update.resources:
            key = (update.type_url, resource.name)
            try:
                if resource.name in table and table[resource.name].static:
                    raise ConfigError("is the name of a static resource of the bootstrap")
                entry = self._compile(update.type_url, resource)
                if resource.name in table:
                    self.replaced[key] = table[resource.name]
                table[resource.name] = entry
                self.failures.pop(key, None)
                self.given_up.discard(key)
            except ConfigError as found:
                error = located(found, owner=f"{short_type(update.type_url)} {resource.name}")
                errors[resource.name] = error
                self.failures[key] = Failure(
                    resource.message, resource.version, str(error), self.now()
                )
        for name in update.removed:
            self.failures.pop((update.type_url, name), None)
            if name in table and not table[name].static:
                del table[name]
            if update.type_url in (ENDPOINT_TYPE, ROUTE_TYPE):
                self.given_up.add((update.type_url, name))  # the answer is: there is none
        self.refresh()
        return errors

    def refuse(self, type_url: str, name: str, error: ConfigError) -> None:
        """Take back what compiled but could not be put in force (an address in use, say)."""
        key = (type_url, name)
        refused = self.entries[type_url].pop(name)
        earlier = self.replaced.pop(key, None)
        if earlier is not None:
            self.entries[type_url][name] = earlier
        self.failures[key] = Failure(refused.message, refused.version, str(error), self.now())
        self.snapshot = replace(
            self.snapshot,
            listeners={k: v for k, v in self.snapshot.listeners.items() if k != name},
        )
        self.refresh()

    def pending(self, type_url: str) -> bool:
        """Tell whether a route table waits for endpoints, or a listener for its route tables."""
        if type_url == ROUTE_TYPE:
            return any(
                self.snapshot.routes.get(name) is not entry.compiled
                for name, entry in self.entries[ROUTE_TYPE].items()
            )
        if type_url == LISTENER_TYPE:
            return any(
                not self._has_routes(entry) for entry in self.entries[LISTENER_TYPE].values()
            )
        return False

    def give_up(self, type_url: str, name: str) -> None:
        """Stop waiting for a resource: its `initial_fetch_timeout` is over."""
        if name not in self.entries[type_url]:
            self.given_up.add((type_url, name))
            self.refresh()

    def wanted(self) -> dict[str, dict[str, float]]:
        """Return what must be asked for: type URL → name → `initial_fetch_timeout` (0: none)."""
        endpoints: dict[str, float] = {}
        for entry in self.entries[CLUSTER_TYPE].values():
            cluster = compiled_cluster(entry)
            if cluster.type == "eds":
                name = cluster.eds_service_name or cluster.name
                source = entry.message.eds_cluster_config.eds_config  # type: ignore[attr-defined]  # a Cluster
                endpoints[name] = fetch_timeout(source)
        routes: dict[str, float] = {}
        for entry in self.entries[LISTENER_TYPE].values():
            if not entry.routes:
                continue
            for _, message in walk(entry.message):
                if isinstance(message, HcmMessage) and message.HasField("rds"):
                    routes[message.rds.route_config_name] = fetch_timeout(message.rds.config_source)
        return {ENDPOINT_TYPE: endpoints, ROUTE_TYPE: routes}

    def wanted_secrets(self) -> dict[str, SecretSource]:
        """Return the SDS secrets that are used, and where each is asked for."""
        names = {
            name
            for type_url in (CLUSTER_TYPE, LISTENER_TYPE)
            for entry in self.entries[type_url].values()
            for name in entry.secrets
        }
        return {name: self.secret_sources[name] for name in names if name in self.secret_sources}

    def forget_unwanted(self) -> None:
        """Drop endpoints, route tables and secrets that nothing names any more."""
        wanted: dict[str, Iterable[str]] = {
            **self.wanted(),
            SECRET_TYPE: self.wanted_secrets(),
        }
        for type_url, names in wanted.items():
            table = self.entries[type_url]
            for name in [name for name in table if name not in names]:
                if not table[name].static:
                    del table[name]
        self.given_up = {
            (type_url, name) for type_url, name in self.given_up if name in wanted[type_url]
        }

    def refresh(self) -> None:
        """Make the next snapshot: of each resource the newest version that can be used."""
        clusters = {
            name: cluster
            for name, entry in self.entries[CLUSTER_TYPE].items()
            if (cluster := self._usable_cluster(name, entry)) is not None
        }
        routes = {
            name: table
            for name, entry in self.entries[ROUTE_TYPE].items()
            if (table := self._usable_routes(name, entry, clusters)) is not None
        }
        self.snapshot = Snapshot(
            clusters=clusters,
            routes=routes,
            endpoints={
                name: compiled_endpoints(entry)
                for name, entry in self.entries[ENDPOINT_TYPE].items()
            },
            secrets={
                name: compiled_secret(entry) for name, entry in self.entries[SECRET_TYPE].items()
            },
            listeners=self.snapshot.listeners,
        )
        listeners = {
            name: listener
            for name, entry in self.entries[LISTENER_TYPE].items()
            if (listener := self._usable_listener(name, entry)) is not None
        }
        self.snapshot = Snapshot(
            clusters=clusters,
            routes=routes,
            endpoints=self.snapshot.endpoints,
            secrets=self.snapshot.secrets,
            listeners=listeners,
        )

    def warming(self) -> dict[str, list[str]]:
        """Return what waits, by type URL."""
        snapshot = self.snapshot
        used: dict[str, Mapping[str, object]] = {
            CLUSTER_TYPE: snapshot.clusters,
            LISTENER_TYPE: snapshot.listeners,
            ROUTE_TYPE: snapshot.routes,
        }
        return {
            type_url: [
                name
                for name, entry in self.entries[type_url].items()
                if table.get(name) is not entry.compiled
            ]
            for type_url, table in used.items()
        }

    def _usable_cluster(self, name: str, entry: Entry) -> Cluster | None:
        cluster = compiled_cluster(entry)
        service = cluster.eds_service_name or cluster.name
        has_endpoints = (
            cluster.type != "eds"
            or service in self.entries[ENDPOINT_TYPE]
            or (ENDPOINT_TYPE, service) in self.given_up
        )
        if has_endpoints and self._has_secrets(entry):
            return cluster
        return self.snapshot.clusters.get(name)

    def _usable_routes(
        self, name: str, entry: Entry, clusters: Mapping[str, Cluster]
    ) -> RouteConfiguration | None:
        known = self.entries[CLUSTER_TYPE]
        waits = any(
            cluster in known and cluster not in clusters and self._has_secrets(known[cluster])
            for cluster in entry.clusters
        )
        return self.snapshot.routes.get(name) if waits else compiled_routes(entry)

    def _usable_listener(self, name: str, entry: Entry) -> Listener | None:
        if self._has_routes(entry) and self._has_secrets(entry):
            return compiled_listener(entry)
        return self.snapshot.listeners.get(name)

    def _has_routes(self, entry: Entry) -> bool:
        return all(
            name in self.snapshot.routes or (ROUTE_TYPE, name) in self.given_up
            for name in entry.routes
        )

    def _has_secrets(self, entry: Entry) -> bool:
        return all(name in self.entries[SECRET_TYPE] for name in entry.secrets)

    def _compile(self, type_url: str, resource: Resource) -> Entry:
        """Return the entry; raises ConfigError with the path in the resource."""
        message = resource.message
        refuse_unsupported(message)
        if isinstance(message, ClusterMessage) and is_http2(message):
            raise ConfigError(
                "HTTP/2 is not supported towards upstreams",
                field="typed_extension_protocol_options",
                fix="Use HTTP/1.1, or TCP without a protocol",
            )
        compiled = COMPILERS[type_url](message)
        clusters: frozenset[str] = frozenset()
        routes: frozenset[str] = frozenset()
        secrets: frozenset[str] = frozenset()
        inline: tuple[Message, ...] = ()
        if isinstance(compiled, RouteConfiguration):
            RouteTable(compiled)  # what it refuses must be refused here, under this name
            clusters = frozenset(route_clusters(compiled))
            self._check_clusters(clusters, "virtual_hosts")
        elif isinstance(compiled, Listener):
            routes = frozenset(listener_routes(compiled))
            secrets = frozenset(listener_secrets(compiled))
            self._check_clusters(frozenset(listener_clusters(compiled)), "filter_chains")
            inline = self._check_inline_routes(message)
            self._check_access_logs(compiled)
        elif isinstance(compiled, Cluster):
            secrets = frozenset(cluster_secrets(compiled))
        if secrets:
            self._note_secret_sources(message)
        return Entry(
            message=message,
            compiled=compiled,
            version=resource.version,
            updated=self.now(),
            clusters=clusters,
            routes=routes,
            secrets=secrets,
            inline_routes=inline,
        )

    def _check_clusters(self, names: Iterable[str], path: str) -> None:
        for name in names:
            if name in self.grpc_clusters:
                raise ConfigError(
                    f"sends requests to cluster {name!r}, which speaks HTTP/2 only", field=path
                )

    def _check_inline_routes(self, message: Message) -> tuple[Message, ...]:
        """Return the route tables inside.

        Raises:
            ConfigError: routes to an unknown cluster, where `validate_clusters` is not false.
        """
        tables: list[Message] = []
        for path, inner in walk(message):
            if not isinstance(inner, HcmMessage) or not inner.HasField("route_config"):
                continue
            tables.append(inner.route_config)
            if not wrapped(inner.route_config, "validate_clusters", True):
                continue
            compiled = compile_route_configuration(inner.route_config)
            for name in sorted(set(route_clusters(compiled))):
                if name not in self.entries[CLUSTER_TYPE]:
                    raise ConfigError(
                        f"routes to cluster {name!r}, which does not exist",
                        field=join(path, "route_config"),
                        allowed=", ".join(sorted(self.entries[CLUSTER_TYPE])) or "none",
                        fix="Add the cluster, or set validate_clusters to false",
                    )
        return tuple(tables)

    def _check_access_logs(self, listener: Listener) -> None:
        for access_log in listener_access_logs(listener):
            if isinstance(access_log, GrpcAccessLog) and (
                access_log.cluster not in self.grpc_clusters
            ):
                raise ConfigError(
                    f"logs to cluster {access_log.cluster!r}: must be a static cluster with HTTP/2",
                    field="access_log",
                    allowed=", ".join(sorted(self.grpc_clusters)) or "none",
                )

    def _note_secret_sources(self, message: Message) -> None:
        for path, inner in walk(message):
            if not isinstance(inner, SdsSecretConfig):
                continue
            if not inner.HasField("sds_config"):
                if inner.name not in self.entries[SECRET_TYPE]:
                    raise ConfigError(
                        "names no static secret", field=join(path, "name"), found=repr(inner.name)
                    )
                continue
            self.secret_sources[inner.name] = self._secret_source(
                inner.sds_config, join(path, "sds_config")
            )

    def _secret_source(self, source: ConfigSource, path: str) -> SecretSource:
        kind = source.WhichOneof("config_source_specifier")
        if kind == "ads":
            return SecretSource(grpc=None)
        if kind == "api_config_source":
            return SecretSource(
                grpc=compile_api_source(
                    source.api_config_source, self.bootstrap.clusters, join(path, kind)
                )
            )
        raise ConfigError("must be ads or api_config_source", field=path)


def fetch_timeout(source: ConfigSource) -> float:
    if source.HasField("initial_fetch_timeout"):
        return seconds(source.initial_fetch_timeout)
    return DEFAULT_FETCH_TIMEOUT


def compiled_cluster(entry: Entry) -> Cluster:
    return cast(Cluster, entry.compiled)


def compiled_listener(entry: Entry) -> Listener:
    return cast(Listener, entry.compiled)


def compiled_routes(entry: Entry) -> RouteConfiguration:
    return cast(RouteConfiguration, entry.compiled)


def compiled_endpoints(entry: Entry) -> LoadAssignment:
    return cast(LoadAssignment, entry.compiled)


def compiled_secret(entry: Entry) -> Secret:
    return cast(Secret, entry.compiled)


def route_clusters(table: RouteConfiguration) -> Iterator[str]:
    """Yield the clusters that the routes name."""
    for host in table.virtual_hosts:
        for route in host.routes:
            if isinstance(route.action, RouteAction):
                if route.action.cluster:
                    yield route.action.cluster
                for share in route.action.weighted_clusters:
                    yield share.name


def chains(listener: Listener) -> Iterator[FilterChain]:
    yield from listener.filter_chains
    if listener.default_filter_chain is not None:
        yield listener.default_filter_chain


def listener_routes(listener: Listener) -> Iterator[str]:
    """Yield the RDS tables that a listener names."""
    for chain in chains(listener):
        if isinstance(chain.terminal, HttpConnectionManager) and chain.terminal.rds_name:
            yield chain.terminal.rds_name


def listener_clusters(listener: Listener) -> Iterator[str]:
    """Yield the clusters that a listener names itself."""
    for chain in chains(listener):
        terminal = chain.terminal
        if isinstance(terminal, HttpConnectionManager):
            if terminal.route_config is not None:
                yield from route_clusters(terminal.route_config)
            continue
        if terminal.cluster:
            yield terminal.cluster
        for share in terminal.weighted_clusters:
            yield share.name


def listener_secrets(listener: Listener) -> Iterator[str]:
    for chain in chains(listener):
        if chain.tls is not None:
            yield from secret_names(chain.tls.context)


def listener_access_logs(listener: Listener) -> Iterator[AccessLog]:
    yield from listener.access_logs
    for chain in chains(listener):
        yield from chain.terminal.access_logs


def cluster_secrets(cluster: Cluster) -> Iterator[str]:
    sockets: list[UpstreamTls | None] = [
        cluster.tls,
        *(match.tls for match in cluster.transport_socket_matches),
    ]
    for socket in sockets:
        if socket is not None:
            yield from secret_names(socket.context)

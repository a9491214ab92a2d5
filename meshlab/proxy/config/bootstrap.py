"""Read an Envoy v3 bootstrap, JSON or YAML: who this proxy is and where its configuration is.

Envoy: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/bootstrap/v3/bootstrap.proto
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any as Anything

import yaml
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap as BootstrapMessage
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.core.v3.config_source_pb2 import ApiConfigSource, ConfigSource
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import join, located, parse_json, seconds
from meshlab.proxy.config.tls import compile_upstream_socket
from meshlab.proxy.config.unsupported import EXTENSIONS, refuse_unsupported

IGNORED_RUNTIME_PREFIXES = ("envoy.reloadable_features.", "envoy.restart_features.", "re2.")
"""Runtime keys that switch Envoy's own code paths; this proxy has none of them."""


class BootstrapLoader(yaml.CSafeLoader):
    """YAML 1.2's core schema, as Envoy's parser: `on` and `2026-01-01` are strings, not more."""


BootstrapLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
        or (tag.endswith("bool") and first in "tTfF")
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSource:
    """An xDS server: how to reach it and which form it speaks (`ApiConfigSource`)."""

    cluster_name: str
    """Static cluster of the bootstrap that the target was taken from."""
    target: str
    """gRPC's own name for the address: `unix:/path`, `ipv4:127.0.0.1:15010`, `dns:///istiod:15010`."""
    delta: bool
    """DELTA_GRPC; False: GRPC, the state of the world in each answer."""
    metadata: tuple[tuple[str, str], ...] = ()
    """`initial_metadata`, sent with the stream."""
    root_certificates: bytes | None = None
    """PEM bundle; None: plain text."""
    server_name: str = ""
    """`sni` of the cluster's TLS context, also the name the certificate must carry."""
    authority: str = ""
    """`:authority` of the calls; "": gRPC's own choice."""
    base_interval: float = 0.5
    """Seconds before a reconnect (`retry_policy.retry_back_off`), doubled up to the next."""
    max_interval: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """What the file says, read."""

    message: BootstrapMessage
    node: Node
    admin_address: tuple[str, int] | None = None
    """Host and port of the admin end point."""
    admin_path: str = ""
    """Unix socket of the admin end point instead."""
    clusters: Sequence[Cluster] = ()
    listeners: Sequence[Listener] = ()
    secrets: Sequence[Secret] = ()
    ads: GrpcSource | None = None
    dynamic_clusters: bool = False
    dynamic_listeners: bool = False
    stats_flush_interval: float = 5.0
    flags: Mapping[str, Anything] = field(default_factory=dict)


def parse_text(text: str, name: str) -> dict[str, Anything]:
    """Return the document in `text`, YAML (of which JSON is a part).

    Raises:
        ConfigError: not YAML, or not an object; the object is `name`.
    """
    try:
        document = yaml.load(text, Loader=BootstrapLoader)  # noqa: S506 - a CSafeLoader, see above
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or error)
        raise ConfigError(f"is not YAML or JSON: {problem}", object=name, field=place) from None
    if not isinstance(document, dict):
        raise ConfigError("must be an object", object=name, found=type(document).__name__)
    return document


def merge(base: dict[str, Anything], overlay: dict[str, Anything]) -> dict[str, Anything]:
    """Lay `--config-yaml` over the file as protobuf's merge does: objects merge, lists grow."""
    merged = dict(base)
    for key, value in overlay.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            merged[key] = old + value
        else:
            merged[key] = value
    return merged


def read_bootstrap(
    text: str,
    *,
    name: str = "bootstrap",
    config_yaml: str = "",
    service_node: str = "",
    service_cluster: str = "",
    flags: Mapping[str, Anything] | None = None,
) -> Bootstrap:
    """Read a bootstrap; `config_yaml` is laid over it, the two names over those of `node`.

    Raises:
        ConfigError: `object` is `name`, `field` the path of what is wrong.
    """
    document = parse_text(text, name) if text.strip() else {}
    if config_yaml:
        document = merge(document, parse_text(config_yaml, "--config-yaml"))
    try:
        message = parse_json(document, BootstrapMessage)
        refuse_unsupported(message)
        return compile_bootstrap(
            message, service_node=service_node, service_cluster=service_cluster, flags=flags or {}
        )
    except ConfigError as error:
        raise located(error, owner=error.object or name) from error


def compile_bootstrap(
    message: BootstrapMessage,
    *,
    service_node: str = "",
    service_cluster: str = "",
    flags: Mapping[str, Anything],
) -> Bootstrap:
    """Return what `message` says; raises ConfigError with the path of the field."""
    check_runtime(message)
    static, dynamic = message.static_resources, message.dynamic_resources
    ads = None
    if dynamic.HasField("ads_config"):
        ads = compile_api_source(
            dynamic.ads_config, static.clusters, "dynamic_resources.ads_config"
        )
    for name in ("cds_config", "lds_config"):
        if dynamic.HasField(name):
            require_ads(getattr(dynamic, name), ads, f"dynamic_resources.{name}")
    host, port, path = compile_admin_address(message)
    return Bootstrap(
        message=message,
        node=make_node(message.node, service_node, service_cluster),
        admin_address=(host, port) if host else None,
        admin_path=path,
        clusters=tuple(static.clusters),
        listeners=tuple(static.listeners),
        secrets=tuple(static.secrets),
        ads=ads,
        dynamic_clusters=dynamic.HasField("cds_config"),
        dynamic_listeners=dynamic.HasField("lds_config"),
        stats_flush_interval=(
            seconds(message.stats_flush_interval)
            if message.HasField("stats_flush_interval")
            else 5.0
        ),
        flags=flags,
    )


def make_node(given: Node, service_node: str, service_cluster: str) -> Node:
    """Return the node that xDS requests carry: from the file, the flags, and what is built in."""
    node = Node()
    node.CopyFrom(given)
    node.id = service_node or node.id
    node.cluster = service_cluster or node.cluster
    node.user_agent_name = "meshlab-proxy"
    build = node.user_agent_build_version.version
    build.major_number, build.minor_number, build.patch = map(int, version("meshlab").split("."))
    del node.extensions[:]
    for name, (category, type_names) in EXTENSIONS.items():
        node.extensions.add(name=name, category=category, type_urls=type_names)
    return node


def check_runtime(message: BootstrapMessage) -> None:
    """Refuse runtime keys that would change what this proxy does."""
    for index, layer in enumerate(message.layered_runtime.layers):
        path = f"layered_runtime.layers[{index}]"
        for key, value in layer.static_layer.items():
            unlimited = key == "overload.global_downstream_max_connections" and (
                float(value) >= 2**31 - 1  # Istio's way to say: no limit
            )
            if not unlimited and not key.startswith(IGNORED_RUNTIME_PREFIXES):
                raise ConfigError(
                    "is a runtime key that this proxy does not have",
                    field=f"{path}.static_layer[{key!r}]",
                    fix="Remove it, or set the field that it overrides",
                )


def compile_admin_address(message: BootstrapMessage) -> tuple[str, int, str]:
    """Return (host, port, unix socket path); both empty where no admin end point is asked for."""
    if not message.HasField("admin") or not message.admin.HasField("address"):
        return "", 0, ""
    address = message.admin.address
    if address.WhichOneof("address") == "pipe":
        return "", 0, address.pipe.path
    if address.WhichOneof("address") != "socket_address":
        raise ConfigError("must be a socket_address or a pipe", field="admin.address")
    socket_address = address.socket_address
    return socket_address.address, socket_address.port_value, ""


def require_ads(source: ConfigSource, ads: GrpcSource | None, path: str) -> None:
    """Check that a `ConfigSource` is `ads: {}` and that there is an ADS server to ask."""
    kind = source.WhichOneof("config_source_specifier")
    if kind != "ads":
        raise ConfigError(
            "must be `ads: {}`: this proxy takes it from its ADS server only",
            field=join(path, kind or "ads"),
        )
    if ads is None:
        raise ConfigError(
            "asks for ADS, but there is no dynamic_resources.ads_config", field=join(path, "ads")
        )


def compile_api_source(
    source: ApiConfigSource, clusters: Sequence[Cluster], path: str
) -> GrpcSource:
    """Return the xDS server that `source` names by a static cluster.

    Raises:
        ConfigError: an api_type other than gRPC, no such cluster, or one without a fixed address.
    """
    kinds = {ApiConfigSource.GRPC: False, ApiConfigSource.DELTA_GRPC: True}
    if source.api_type not in kinds:
        raise ConfigError(
            "is not supported",
            field=join(path, "api_type"),
            found=ApiConfigSource.ApiType.Name(source.api_type),
            allowed="GRPC, DELTA_GRPC",
        )
    if len(source.grpc_services) != 1:
        raise ConfigError(
            "must name exactly one server",
            field=join(path, "grpc_services"),
            found=str(len(source.grpc_services)),
        )
    service = source.grpc_services[0]
    path = join(path, "grpc_services[0]")
    backoff = service.envoy_grpc.retry_policy.retry_back_off
    base = seconds(backoff.base_interval) if backoff.HasField("base_interval") else 0.5
    target, root, server_name = grpc_target(
        service.envoy_grpc.cluster_name, clusters, join(path, "envoy_grpc.cluster_name")
    )
    return GrpcSource(
        cluster_name=service.envoy_grpc.cluster_name,
        target=target,
        delta=kinds[source.api_type],
        metadata=tuple((item.key.lower(), item.value) for item in service.initial_metadata),
        root_certificates=root,
        server_name=server_name,
        authority=service.envoy_grpc.authority,
        base_interval=base,
        max_interval=seconds(backoff.max_interval) if backoff.HasField("max_interval") else 30.0,
    )


def grpc_target(
    cluster_name: str, clusters: Sequence[Cluster], path: str
) -> tuple[str, bytes | None, str]:
    """Return (gRPC target, PEM roots or None, server name) of a static cluster."""
    cluster = next((cluster for cluster in clusters if cluster.name == cluster_name), None)
    if cluster is None:
        known = ", ".join(sorted(cluster.name for cluster in clusters)) or "none"
        raise ConfigError(
            "names no cluster of static_resources",
            field=path,
            found=repr(cluster_name),
            allowed=known,
        )
    endpoints = [
        endpoint.endpoint.address
        for locality in cluster.load_assignment.endpoints
        for endpoint in locality.lb_endpoints
    ]
    if not endpoints:
        raise ConfigError(
            "must have an endpoint in its load_assignment",
            object=f"Cluster {cluster_name}",
            field="load_assignment.endpoints",
        )
    root, server_name = grpc_tls(cluster)
    strict_dns = cluster.type in (Cluster.STRICT_DNS, Cluster.LOGICAL_DNS)
    return address_target(endpoints[0], strict_dns), root, server_name


def grpc_tls(cluster: Cluster) -> tuple[bytes | None, str]:
    """Return the trusted PEM roots and the server name of the cluster's TLS context; (None, "")."""
    if not cluster.HasField("transport_socket"):
        return None, ""
    path = "transport_socket"
    try:
        tls = compile_upstream_socket(cluster.transport_socket, path)
    except ConfigError as error:
        raise located(error, owner=f"Cluster {cluster.name}") from error
    if tls is None:
        return None, ""
    validation = tls.context.validation
    if tls.context.certificates or validation is None or not validation.trusted_ca:
        raise ConfigError(
            "must trust a CA by validation_context.trusted_ca and have no client certificate",
            object=f"Cluster {cluster.name}",
            field=join(path, "typed_config.common_tls_context"),
        )
    return validation.trusted_ca, tls.sni


def address_target(address: Address, by_name: bool) -> str:
    """Return gRPC's target for an Envoy address."""
    if address.WhichOneof("address") == "pipe":
        return f"unix:{address.pipe.path}"
    host, port = address.socket_address.address, address.socket_address.port_value
    if by_name:
        return f"dns:///{host}:{port}"
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

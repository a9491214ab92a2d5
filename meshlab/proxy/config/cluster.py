"""Read upstream clusters (Envoy `Cluster`)."""

from dataclasses import replace
from typing import Any as Anything
from typing import Literal

from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions as CommonOptions
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf import json_format

from meshlab.errors import ConfigError
from meshlab.proxy.config.circuit_breaker import compile_circuit_breakers
from meshlab.proxy.config.endpoint import compile_load_assignment
from meshlab.proxy.config.http_filter import ISTIO_METADATA_EXCHANGE, config_type
from meshlab.proxy.config.load_balancer import compile_load_balancer
from meshlab.proxy.config.outlier_detection import compile_outlier_detection
from meshlab.proxy.config.protobuf import duration, join, unpack, wrapped
from meshlab.proxy.config.route import compile_metadata
from meshlab.proxy.config.tls import compile_upstream_socket
from meshlab.proxy.core.circuit_breaker import DEFAULT_BREAKERS
from meshlab.proxy.core.cluster import Cluster, TcpKeepalive, TransportSocketMatch
from meshlab.proxy.core.http_connection_manager import MetadataExchange
from meshlab.proxy.core.tls import UpstreamTls

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

ClusterType = Literal["static", "strict_dns", "logical_dns", "eds", "original_dst"]
TYPES: dict[int, ClusterType] = {
    ClusterMessage.STATIC: "static",
    ClusterMessage.STRICT_DNS: "strict_dns",
    ClusterMessage.LOGICAL_DNS: "logical_dns",
    ClusterMessage.EDS: "eds",
    ClusterMessage.ORIGINAL_DST: "original_dst",
}
DNS_FAMILIES: dict[int, Literal["auto", "v4_only", "v6_only", "v4_preferred", "all"]] = {
    ClusterMessage.AUTO: "auto",
    ClusterMessage.V4_ONLY: "v4_only",
    ClusterMessage.V6_ONLY: "v6_only",
    ClusterMessage.V4_PREFERRED: "v4_preferred",
    ClusterMessage.ALL: "all",
}


def is_http2(message: ClusterMessage) -> bool:
    """Tell whether the cluster's requests are HTTP/2: only gRPC services (xDS, ALS) may use it."""
    if message.HasField("http2_protocol_options"):
        return True
    options = message.typed_extension_protocol_options.get(HTTP_OPTIONS)
    return (
        options is not None
        and unpack(options, HttpProtocolOptions, "").explicit_http_config.WhichOneof(
            "protocol_config"
        )
        == "http2_protocol_options"
    )


def compile_cluster(message: ClusterMessage, path: str = "") -> Cluster:
    """Return the cluster.

    Raises:
        ConfigError: with the path of the field. HTTP/2 is not refused here: see `is_http2`.
    """
    if not message.name:
        raise ConfigError("must not be empty", field=join(path, "name"))
    kind = compile_type(message, path)
    load_balancer = compile_load_balancer(message, path)
    if (kind == "original_dst") != (load_balancer["lb_policy"] == "cluster_provided"):
        raise ConfigError(
            "must be CLUSTER_PROVIDED for ORIGINAL_DST, and only there",
            field=join(path, "lb_policy"),
        )
    http_options, auto_sni = compile_http_options(message, path)
    tls, matches = compile_sockets(message, path)
    if auto_sni and tls is not None:
        tls = replace(tls, auto_sni_from_request=True)
    cluster = Cluster(
        name=message.name,
        type=kind,
        stat_name=message.alt_stat_name,
        connect_timeout=duration(message, "connect_timeout", 5.0, path),
        circuit_breakers=(
            compile_circuit_breakers(message.circuit_breakers, join(path, "circuit_breakers"))
            if message.HasField("circuit_breakers")
            else DEFAULT_BREAKERS
        ),
        outlier_detection=(
            compile_outlier_detection(message.outlier_detection, join(path, "outlier_detection"))
            if message.HasField("outlier_detection")
            else None
        ),
        tls=tls,
        transport_socket_matches=tuple(
            replace(item, tls=replace(item.tls, auto_sni_from_request=True))
            if auto_sni and item.tls is not None
            else item
            for item in matches
        ),
        filters=compile_upstream_filters(message, path),
        buffer_limit=wrapped(message, "per_connection_buffer_limit_bytes", 1024 * 1024),
        dns_refresh_rate=duration(message, "dns_refresh_rate", 5.0, path),
        respect_dns_ttl=message.respect_dns_ttl,
        dns_lookup_family=DNS_FAMILIES[message.dns_lookup_family],
        cleanup_interval=duration(message, "cleanup_interval", 5.0, path),
        metadata=compile_metadata(message.metadata),
        **load_balancer,
        **compile_source(message, kind, path),
        **compile_connection_options(message, path),
        **compile_original_dst(message),
        **http_options,
    )
    if cluster.connect_timeout <= 0:
        raise ConfigError("must be more than 0 s", field=join(path, "connect_timeout"))
    return cluster


def compile_type(message: ClusterMessage, path: str) -> ClusterType:
    if message.WhichOneof("cluster_discovery_type") == "cluster_type":
        raise ConfigError(
            "is not supported by this proxy",
            field=join(path, "cluster_type"),
            found=message.cluster_type.name,
            fix="Use type",
        )
    return TYPES[message.type]


def compile_source(message: ClusterMessage, kind: ClusterType, path: str) -> dict[str, Anything]:
    """Return where the endpoints come from: the cluster itself, or EDS."""
    if kind == "eds":
        place = join(path, "eds_cluster_config.eds_config")
        source = message.eds_cluster_config.eds_config
        if source.WhichOneof("config_source_specifier") != "ads":
            raise ConfigError("must be `ads: {}`", field=place)
        return {"eds_service_name": message.eds_cluster_config.service_name}
    if message.HasField("eds_cluster_config"):
        raise ConfigError("is for type EDS only", field=join(path, "eds_cluster_config"))
    if kind == "original_dst":
        if message.HasField("load_assignment"):
            raise ConfigError("has no place with ORIGINAL_DST", field=join(path, "load_assignment"))
        return {}
    if not message.HasField("load_assignment"):
        return {}
    place = join(path, "load_assignment")
    assignment = compile_load_assignment(
        message.load_assignment, place, allow_name=kind in ("strict_dns", "logical_dns")
    )
    endpoints = sum(len(locality.endpoints) for locality in assignment.localities)
    if kind == "logical_dns" and endpoints != 1:
        raise ConfigError(
            "must have exactly one endpoint with LOGICAL_DNS", field=place, found=str(endpoints)
        )
    return {"load_assignment": assignment}


def compile_sockets(
    message: ClusterMessage, path: str
) -> tuple[UpstreamTls | None, tuple[TransportSocketMatch, ...]]:
    """Return (TLS of the cluster or None, what endpoints with certain metadata use instead)."""
    tls = None
    if message.HasField("transport_socket"):
        tls = compile_upstream_socket(message.transport_socket, join(path, "transport_socket"))
    matches = tuple(
        TransportSocketMatch(
            name=item.name,
            match=json_format.MessageToDict(item.match),
            tls=compile_upstream_socket(
                item.transport_socket,
                join(path, f"transport_socket_matches[{index}].transport_socket"),
            ),
        )
        for index, item in enumerate(message.transport_socket_matches)
    )
    return tls, matches


def compile_upstream_filters(message: ClusterMessage, path: str) -> tuple[MetadataExchange, ...]:
    for index, item in enumerate(message.filters):
        place = join(path, f"filters[{index}].typed_config")
        name = config_type(item.typed_config, place)
        if name != ISTIO_METADATA_EXCHANGE:
            raise ConfigError(
                "is an upstream filter that this proxy does not have", field=place, found=name
            )
    return tuple(MetadataExchange() for _ in message.filters)


def compile_connection_options(message: ClusterMessage, path: str) -> dict[str, Anything]:
    """Return the source address and TCP keep-alive of upstream connections."""
    options: dict[str, Anything] = {}
    if message.upstream_bind_config.HasField("source_address"):
        source = message.upstream_bind_config.source_address
        if source.port_value:
            raise ConfigError(
                "must be 0: a fixed port allows one connection only",
                field=join(path, "upstream_bind_config.source_address.port_value"),
                found=str(source.port_value),
            )
        options["bind_source"] = source.address
    if message.upstream_connection_options.HasField("tcp_keepalive"):
        keepalive = message.upstream_connection_options.tcp_keepalive
        options["tcp_keepalive"] = TcpKeepalive(
            probes=wrapped(keepalive, "keepalive_probes", None),
            time=wrapped(keepalive, "keepalive_time", None),
            interval=wrapped(keepalive, "keepalive_interval", None),
        )
    return options


def compile_original_dst(message: ClusterMessage) -> dict[str, Anything]:
    config = message.original_dst_lb_config
    header = ""
    if config.use_http_header:
        header = config.http_header_name or "x-envoy-original-dst-host"
    return {
        "original_dst_http_header": header.lower().encode(),
        "original_dst_port": wrapped(config, "upstream_port_override", 0),
    }


def compile_http_options(message: ClusterMessage, path: str) -> tuple[dict[str, Anything], bool]:
    """Return (fields of `core.cluster.Cluster`, whether the SNI follows the request's host)."""
    common, common_path = (
        message.common_http_protocol_options,
        join(path, "common_http_protocol_options"),
    )
    http1 = message.http_protocol_options
    upstream = message.upstream_http_protocol_options
    for name in message.typed_extension_protocol_options:
        place = f"{join(path, 'typed_extension_protocol_options')}[{name!r}]"
        options = unpack(message.typed_extension_protocol_options[name], HttpProtocolOptions, place)
        common = options.common_http_protocol_options
        common_path = join(place, "common_http_protocol_options")
        upstream = options.upstream_http_protocol_options
        http1 = (
            options.use_downstream_protocol_config.http_protocol_options
            if options.HasField("use_downstream_protocol_config")
            else options.explicit_http_config.http_protocol_options
        )
    check_common_options(common, common_path)
    fields = {
        "idle_timeout": duration(common, "idle_timeout", 3600.0, common_path),
        "max_connection_duration": duration(common, "max_connection_duration", 0.0, common_path),
        "max_requests_per_connection": wrapped(
            common,
            "max_requests_per_connection",
            wrapped(message, "max_requests_per_connection", 0),
        ),
        "max_response_headers_bytes": wrapped(common, "max_response_headers_kb", 60) * 1024,
        "max_response_headers_count": wrapped(common, "max_headers_count", 100),
        "enable_trailers": http1.enable_trailers,
    }
    return fields, upstream.auto_sni


def check_common_options(common: CommonOptions, path: str) -> None:
    for field in ("max_stream_duration", "headers_with_underscores_action"):
        if any(item.name == field for item, _ in common.ListFields()):
            raise ConfigError("is not supported for clusters", field=join(path, field))

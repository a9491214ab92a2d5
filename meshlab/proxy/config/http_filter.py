"""Read the HTTP filters of a connection manager, in their order."""

from collections.abc import Sequence
from typing import Literal

from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.grpc_stats.v3.config_pb2 import FilterConfig as GrpcStats
from envoy.extensions.filters.http.router.v3.router_pb2 import Router as RouterMessage
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from google.protobuf.any_pb2 import Any

from meshlab.errors import ConfigError
from meshlab.proxy.config.fault import compile_fault
from meshlab.proxy.config.protobuf import (
    TYPED_STRUCT_NAMES,
    join,
    type_name,
    unpack,
    unpack_typed_struct,
    wrapped,
)
from meshlab.proxy.core.http_connection_manager import (
    Alpn,
    HttpFilter,
    IstioStats,
    MetadataExchange,
    Noop,
    Router,
)

Reporter = Literal["source", "destination"]

ISTIO_STATS = "stats.PluginConfig"
ISTIO_PEER_METADATA = "io.istio.http.peer_metadata.Config"
ISTIO_METADATA_EXCHANGE = "envoy.tcp.metadataexchange.config.MetadataExchange"
ISTIO_ALPN = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"

WITHOUT_EFFECT = frozenset((Cors.DESCRIPTOR.full_name, GrpcStats.DESCRIPTOR.full_name))
"""CORS without a policy on a route (those are refused) and gRPC counters without gRPC."""


def compile_http_filters(
    messages: Sequence[hcm.HttpFilter], reporter: Reporter, path: str
) -> tuple[HttpFilter, ...]:
    """Return the filters; the last one is the router.

    Raises:
        ConfigError: a filter that this proxy does not have, no router, or something behind it.
    """
    filters: list[HttpFilter] = []
    for index, message in enumerate(messages):
        place = f"{path}[{index}]"
        if filters and isinstance(filters[-1], Router):
            raise ConfigError("stands behind the router, which ends the chain", field=place)
        if not message.disabled:
            filters.append(compile_http_filter(message, reporter, place))
    if not filters or not isinstance(filters[-1], Router):
        raise ConfigError("must end in envoy.filters.http.router", field=path)
    return tuple(filters)


def compile_http_filter(message: hcm.HttpFilter, reporter: Reporter, path: str) -> HttpFilter:
    path = join(path, "typed_config")
    name = config_type(message.typed_config, path)
    if name == RouterMessage.DESCRIPTOR.full_name:
        router = unpack(message.typed_config, RouterMessage, path)
        return Router(
            suppress_envoy_headers=router.suppress_envoy_headers,
            dynamic_stats=bool(wrapped(router, "dynamic_stats", True)),
        )
    if name == HTTPFault.DESCRIPTOR.full_name:
        return compile_fault(unpack(message.typed_config, HTTPFault, path), path)
    if name == ISTIO_STATS:
        return compile_istio_stats(message.typed_config, reporter, path)
    if name == ISTIO_PEER_METADATA:
        return MetadataExchange()
    if name == ISTIO_ALPN:
        return compile_alpn(message.typed_config, path)
    if name in WITHOUT_EFFECT:
        return Noop(name=message.name)
    raise ConfigError("is an HTTP filter that this proxy does not have", field=path, found=name)


def config_type(message: Any, path: str) -> str:
    """Return the full name of a filter's configuration, the inner one of a `TypedStruct`."""
    name = type_name(message)
    return unpack_typed_struct(message, path)[0] if name in TYPED_STRUCT_NAMES else name


def typed_struct_value(message: Any, path: str) -> dict[str, object]:
    """Return the fields of a `TypedStruct`; {} for the empty message itself."""
    if type_name(message) not in TYPED_STRUCT_NAMES:
        return {}
    return dict(unpack_typed_struct(message, path)[1])


def compile_istio_stats(message: Any, reporter: Reporter, path: str) -> IstioStats:
    value = typed_struct_value(message, path)
    return IstioStats(
        reporter=reporter,
        disable_host_header_fallback=bool(value.get("disable_host_header_fallback", False)),
    )


def compile_alpn(message: Any, path: str) -> Alpn:
    """Return what `istio.alpn` offers to HTTP/1.1 upstreams.

    Raises:
        ConfigError: not a list of overrides.
    """
    overrides = typed_struct_value(message, path).get("alpn_override", [])
    place = join(path, "value.alpn_override")
    if not isinstance(overrides, list):
        raise ConfigError("must be a list", field=place)
    for index, override in enumerate(overrides):
        if not isinstance(override, dict):
            raise ConfigError("must be an object", field=f"{place}[{index}]")
        # protobuf's JSON leaves out what has the default value, and HTTP11 is 1
        if override.get("upstream_protocol") in ("HTTP11", 1):
            return Alpn(http1=tuple(str(item) for item in override.get("alpn_override", [])))
    return Alpn()

"""The HTTP connection manager as Istio sets it, and its filters in their order."""

from typing import Any, Literal

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.request_id.uuid.v3 import uuid_pb2

from meshlab.control.snapshot import Mesh
from meshlab.control.translate import access_log, capability
from meshlab.control.translate.capability import Capabilities
from meshlab.control.translate.cluster import ads
from meshlab.control.translate.protobuf import duration, pack, typed_struct

Place = Literal["inbound", "outbound", "gateway"]

_Hcm = hcm_pb2.HttpConnectionManager


def http_filter(
    mesh: Mesh,
    can: Capabilities,
    place: Place,
    stat_prefix: str,
    *,
    rds: str = "",
    route_config: Any = None,
) -> Any:
    """Return the network filter; routes come by name over RDS, or stand in `route_config`."""
    made = _Hcm(
        stat_prefix=stat_prefix,
        http_filters=_filters(can, place),
        access_log=access_log.http_logs(mesh),
        upgrade_configs=[_Hcm.UpgradeConfig(upgrade_type="websocket")],
        path_with_escaped_slashes_action=_Hcm.KEEP_UNCHANGED,
        # Streams may be idle for ever, as an app behind no proxy lets them.
        stream_idle_timeout=duration(0),
        proxy_100_continue=True,
        request_id_extension=_request_id(),
    )
    made.normalize_path.value = True
    made.use_remote_address.value = place == "gateway"
    _forward_client_certificate(made, place)
    if route_config is not None:
        made.route_config.CopyFrom(route_config)
    else:
        made.rds.route_config_name = rds
        made.rds.config_source.CopyFrom(ads())
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(made)
    )


def _forward_client_certificate(made: Any, place: Place) -> None:
    """Say who called (XFCC): a sidecar appends the peer it saw, a gateway believes nobody."""
    if place == "outbound":
        return
    made.server_name = "istio-envoy"
    details = made.set_current_client_cert_details
    details.subject.value = True
    details.dns = True
    details.uri = True
    if place == "inbound":
        made.forward_client_cert_details = _Hcm.APPEND_FORWARD
    else:
        made.forward_client_cert_details = _Hcm.SANITIZE_SET
        details.cert = True


def _filters(can: Capabilities, place: Place) -> list[Any]:
    made = []
    if can.metadata_exchange:
        config = typed_struct("io.istio.http.peer_metadata.Config")
        made.append(_Filter(name=capability.METADATA_EXCHANGE, typed_config=config))
    if can.grpc_stats:
        stats = grpc_stats_pb2.FilterConfig(emit_filter_state=True)
        stats.stats_for_all_methods.value = False
        made.append(_Filter(name=capability.GRPC_STATS, typed_config=pack(stats)))
    if can.alpn and place != "inbound":
        made.append(_Filter(name=capability.ALPN, typed_config=_alpn()))
    if can.fault:
        made.append(_Filter(name=capability.FAULT, typed_config=pack(fault_pb2.HTTPFault())))
    if can.stats:
        # Gateways must not put the Host header of strangers into the metrics' labels.
        options = {"disable_host_header_fallback": True} if place == "gateway" else {}
        made.append(
            _Filter(name=capability.STATS, typed_config=typed_struct("stats.PluginConfig", options))
        )
    made.append(_Filter(name="envoy.filters.http.router", typed_config=pack(router_pb2.Router())))
    return made


_Filter = hcm_pb2.HttpFilter


def _alpn() -> Any:
    """Return the offer by the upstream's protocol; a sidecar tells HTTP from it."""
    overrides = [
        {"upstream_protocol": upstream, "alpn_override": [f"istio-{name}", "istio", plain]}
        for upstream, name, plain in (
            ("HTTP10", "http/1.0", "http/1.0"),
            ("HTTP11", "http/1.1", "http/1.1"),
            ("HTTP2", "h2", "h2"),
        )
    ]
    return typed_struct(
        "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", {"alpn_override": overrides}
    )


def _request_id() -> Any:
    config = uuid_pb2.UuidRequestIdConfig()
    config.use_request_id_for_trace_sampling.value = True
    return hcm_pb2.RequestIDExtension(typed_config=pack(config))

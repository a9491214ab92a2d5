"""The data plane's first configuration: an Envoy v3 bootstrap, the same for every data plane.

It holds what must be known before the control plane has spoken: who this is (node), where ADS and
secrets come from (the agent's own sockets), the admin port and the metrics listener.
"""

from pathlib import Path
from typing import Any

from meshlab.agent.settings import Settings

Json = dict[str, Any]

_HCM = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    ".HttpConnectionManager"
)
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(settings: Settings) -> Json:
    """Return the bootstrap, ready to be written as JSON."""
    return {
        "node": node(settings),
        "admin": {"address": _address("127.0.0.1", settings.ports.admin)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "lds_config": _over_ads(),
            "cds_config": _over_ads(),
        },
        "static_resources": {
            "clusters": [
                _socket_cluster("xds-grpc", settings.xds_socket),
                _socket_cluster("als-grpc", settings.xds_socket),
                _socket_cluster("sds-grpc", settings.workload_socket),
                _local_cluster("prometheus_stats", settings.ports.admin),
                _local_cluster("agent", settings.ports.status),
            ],
            "listeners": [_prometheus_listener(settings.ports.prometheus)],
        },
    }


def node(settings: Settings) -> Json:
    """Return the xDS node: id, cluster and metadata (istio.md 3.1)."""
    labels = settings.metadata.get("LABELS", {})
    app = labels.get("app") or settings.metadata.get("WORKLOAD_NAME") or settings.pod
    return {
        "id": settings.node_id,
        "cluster": f"{app}.{settings.namespace}",
        "metadata": {
            **settings.metadata,
            "CLUSTER_ID": settings.cluster_id,
            "ENVOY_STATUS_PORT": settings.ports.ready,
            "ENVOY_PROMETHEUS_PORT": settings.ports.prometheus,
        },
    }


def _over_ads() -> Json:
    return {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _socket_cluster(name: str, path: Path) -> Json:
    http2 = {
        "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {_HTTP_OPTIONS: http2},
        "load_assignment": _assignment(name, {"pipe": {"path": str(path)}}),
    }


def _local_cluster(name: str, port: int) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": _assignment(name, _address("127.0.0.1", port)),
    }


def _assignment(name: str, address: Json) -> Json:
    endpoint = {"endpoint": {"address": address}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _prometheus_listener(port: int) -> Json:
    route = {"match": {"prefix": "/stats/prometheus"}, "route": {"cluster": "prometheus_stats"}}
    manager = {
        "@type": _HCM,
        "stat_prefix": "stats",
        "route_config": {
            "virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": [route]}]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    name = "envoy.filters.network.http_connection_manager"
    return {
        "name": "prometheus_stats",
        "address": _address("0.0.0.0", port),  # noqa: S104 - Prometheus scrapes the pod's address
        "filter_chains": [{"filters": [{"name": name, "typed_config": manager}]}],
    }

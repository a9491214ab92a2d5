"""Show clusters and their hosts as Envoy's /clusters does, as text and as JSON."""

from collections.abc import Iterator, Mapping
from typing import Any as Anything

from meshlab.proxy.core.circuit_breaker import Thresholds
from meshlab.proxy.core.listener import Address
from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.net.cluster import ClusterState

HOST_STATS = (
    *("cx_active", "cx_connect_fail", "cx_total", "rq_active", "rq_error", "rq_success"),
    *("rq_timeout", "rq_total"),
)
GAUGES = frozenset(("cx_active", "rq_active"))

EDS_HEALTH = {
    "unknown": "UNKNOWN",
    "healthy": "HEALTHY",
    "unhealthy": "UNHEALTHY",
    "draining": "DRAINING",
    "timeout": "TIMEOUT",
    "degraded": "DEGRADED",
}


def clusters_text(clusters: Mapping[str, ClusterState], dynamic: frozenset[str]) -> str:
    """Return the text form; `dynamic` names the clusters that came by CDS."""
    return "".join(
        f"{line}\n"
        for name in sorted(clusters)
        for line in cluster_lines(name, clusters[name], name in dynamic)
    )


def cluster_lines(name: str, state: ClusterState, dynamic: bool) -> Iterator[str]:
    breakers = state.config.circuit_breakers
    yield f"{name}::observability_name::{state.config.stat_name or name}"
    if state.config.outlier_detection is not None:
        yield f"{name}::outlier::success_rate_average::-1"
        yield f"{name}::outlier::success_rate_ejection_threshold::-1"
    yield from threshold_lines(f"{name}::default_priority", breakers.default)
    yield from threshold_lines(f"{name}::high_priority", breakers.high)
    yield f"{name}::added_via_api::{'true' if dynamic else 'false'}"
    if state.config.type == "eds":
        yield f"{name}::eds_service_name::{state.config.eds_service_name or name}"
    for host in state.hosts:
        yield from host_lines(f"{name}::{host.address}", host)


def threshold_lines(prefix: str, thresholds: Thresholds) -> Iterator[str]:
    yield f"{prefix}::max_connections::{thresholds.max_connections}"
    yield f"{prefix}::max_pending_requests::{thresholds.max_pending_requests}"
    yield f"{prefix}::max_requests::{thresholds.max_requests}"
    yield f"{prefix}::max_retries::{thresholds.max_retries}"


def host_lines(prefix: str, host: Host) -> Iterator[str]:
    for stat in HOST_STATS:
        yield f"{prefix}::{stat}::{getattr(host.stats, stat)}"
    yield f"{prefix}::hostname::{host.endpoint.hostname}"
    yield f"{prefix}::health_flags::{health_flags(host)}"
    yield f"{prefix}::weight::{host.weight}"
    yield f"{prefix}::region::{host.locality.region}"
    yield f"{prefix}::zone::{host.locality.zone}"
    yield f"{prefix}::sub_zone::{host.locality.sub_zone}"
    yield f"{prefix}::canary::false"
    yield f"{prefix}::priority::{host.priority}"
    yield f"{prefix}::success_rate::-1"
    yield f"{prefix}::local_origin_success_rate::-1"


def health_flags(host: Host) -> str:
    flags = []
    if host.ejected:
        flags.append("/failed_outlier_check")
    if host.endpoint.health in ("unhealthy", "draining", "timeout"):
        flags.append("/failed_eds_health")
    if host.endpoint.health == "degraded":
        flags.append("/degraded_eds_health")
    return "".join(flags) or "healthy"


def clusters_json(
    clusters: Mapping[str, ClusterState], dynamic: frozenset[str]
) -> dict[str, Anything]:
    """Return `envoy.admin.v3.Clusters` in its JSON form."""
    return {
        "cluster_statuses": [
            cluster_status(name, clusters[name], name in dynamic) for name in sorted(clusters)
        ]
    }


def cluster_status(name: str, state: ClusterState, dynamic: bool) -> dict[str, Anything]:
    breakers = state.config.circuit_breakers
    status: dict[str, Anything] = {
        "name": name,
        "observability_name": state.config.stat_name or name,
        "host_statuses": [host_status(host) for host in state.hosts],
        "circuit_breakers": {
            "thresholds": [
                threshold_status("DEFAULT", breakers.default),
                threshold_status("HIGH", breakers.high),
            ]
        },
    }
    if dynamic:
        status["added_via_api"] = True
    if state.config.type == "eds":
        status["eds_service_name"] = state.config.eds_service_name or name
    return status


def threshold_status(priority: str, thresholds: Thresholds) -> dict[str, Anything]:
    status: dict[str, Anything] = {
        "max_connections": thresholds.max_connections,
        "max_pending_requests": thresholds.max_pending_requests,
        "max_requests": thresholds.max_requests,
        "max_retries": thresholds.max_retries,
    }
    # protobuf's JSON leaves out the first value of an enum
    return status if priority == "DEFAULT" else {"priority": priority, **status}


def host_status(host: Host) -> dict[str, Anything]:
    health: dict[str, Anything] = {"eds_health_status": EDS_HEALTH[host.endpoint.health]}
    if host.endpoint.health == "unknown":
        health["eds_health_status"] = "HEALTHY"  # Envoy shows what it makes of "not said"
    if host.ejected:
        health["failed_outlier_check"] = True
    locality = {
        key: value
        for key in ("region", "zone", "sub_zone")
        if (value := getattr(host.locality, key))
    }
    status: dict[str, Anything] = {
        "address": address_json(host.endpoint.address),
        "stats": [stat_json(host, stat) for stat in HOST_STATS],
        "health_status": health,
        "weight": host.weight,
        "locality": locality,
    }
    if host.endpoint.hostname:
        status["hostname"] = host.endpoint.hostname
    if host.priority:
        status["priority"] = host.priority
    return status


def stat_json(host: Host, stat: str) -> dict[str, Anything]:
    """Return one counter; protobuf's JSON writes 64-bit numbers as text and leaves out 0."""
    found: dict[str, Anything] = {"name": stat}
    if value := getattr(host.stats, stat):
        found["value"] = str(value)
    if stat in GAUGES:
        found["type"] = "GAUGE"
    return found


def address_json(address: Address) -> dict[str, Anything]:
    if address.path:
        return {"pipe": {"path": address.path}}
    return {"socket_address": {"address": address.host, "port_value": address.port}}

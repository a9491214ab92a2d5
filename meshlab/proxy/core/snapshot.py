"""The whole configuration of a worker at one moment, immutable."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshlab.proxy.core.cluster import Cluster, LoadAssignment
from meshlab.proxy.core.listener import Listener
from meshlab.proxy.core.route import RouteConfiguration
from meshlab.proxy.core.tls import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Who this proxy is (`core.v3.Node`)."""

    id: str = ""
    cluster: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Istio's keys: NAME, NAMESPACE, WORKLOAD_NAME, CLUSTER_ID, LABELS, …"""
    locality_region: str = ""
    locality_zone: str = ""
    locality_sub_zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the worker runs.

    Whoever makes the next one passes on the very objects that did not change: listeners, clusters,
    routes and secrets are compared with the running ones, and what is equal stays as it is.
    """

    listeners: Mapping[str, Listener] = field(default_factory=dict)
    """By name; a static listener without a name gets its address as name."""
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    endpoints: Mapping[str, LoadAssignment] = field(default_factory=dict)
    """EDS, by service name."""
    routes: Mapping[str, RouteConfiguration] = field(default_factory=dict)
    """RDS, by name. One that is not there (yet): the requests wait for nothing and get 404."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """SDS, by name. A chain whose secret is missing refuses its connections."""

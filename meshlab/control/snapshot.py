"""The world as translation sees it: one immutable value, made by the registry from Kubernetes.

All but `World` is compared by value. Parts that did not change should stay the same objects from
one `World` to the next: the translation's cache then recognises them by identity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from meshlab.api.object import ConfigObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One entry of `Service.spec.ports`."""

    name: str
    """May be "" when the service has one port only."""
    number: int
    """`port`: where clients dial the service."""
    target_port: int | str
    """`targetPort`: number, or the name of a container port; Kubernetes' default is `port`."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str = ""
    """`appProtocol`; beats the port's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Kubernetes Service of any type but ExternalName (a DNS alias, not a destination)."""

    name: str
    namespace: str
    fqdn: str
    """`reviews.shop.svc.cluster.local`: the host that configuration resolves to."""
    ports: tuple[ServicePort, ...]
    cluster_ip: str = ""
    """Virtual address; "" when headless."""
    headless: bool = False
    selector: Mapping[str, str] = field(default_factory=dict)
    """Empty: endpoints are made by somebody else, no pod is selected."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    creation_timestamp: str = ""
    resolution: Literal["EDS", "ORIGINAL_DST"] = "EDS"
    """EDS: the proxy balances over endpoints; ORIGINAL_DST: headless, the client chose one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address behind a service, from its EndpointSlices, joined with the pod it belongs to."""

    address: str
    ports: Mapping[str, int]
    """Service port name → port on the address."""
    ready: bool = True
    """conditions.ready; endpoints that are not ready are kept here and withheld by translation."""
    terminating: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the pod, what subsets select by."""
    pod: str = ""
    namespace: str = ""
    workload: str = ""
    """Name of the owning workload (`reviews-v1`), not of the pod."""
    service_account: str = ""
    node: str = ""
    locality: str = ""
    """`region/zone/subzone`, from the node's topology labels; "" when unknown."""
    tls_mode: Literal["istio", "disabled"] = "disabled"
    """`istio` when the pod carries label security.istio.io/tlsMode=istio, so: has a sidecar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A running pod that has an address."""

    name: str
    namespace: str
    ip: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    service_account: str = "default"
    workload: str = ""
    """Name of the owning workload (`reviews-v1`)."""
    node: str = ""
    locality: str = ""
    container_ports: Mapping[str, int] = field(default_factory=dict)
    """Named container ports, for services whose `targetPort` is a name."""
    tls_mode: Literal["istio", "disabled"] = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Mesh-wide settings (Istio's MeshConfig, the fields that are supported)."""

    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    """Suffix of service names: `<name>.<ns>.svc.<cluster_domain>`."""
    root_namespace: str = "istio-system"
    """Policies here hold for the whole mesh."""
    cluster_id: str = "Kubernetes"
    enable_auto_mtls: bool = True
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"] = "ALLOW_ANY"
    connect_timeout: float = 10.0
    """`connectTimeout` in seconds."""
    access_log_file: str = "/dev/stdout"
    """`accessLogFile`; "" writes none. Istio's own default is ""; our installs log."""
    access_log_service: bool = True
    """Send each request to the control plane too, through the agent (cluster `als-grpc`)."""


@dataclass(frozen=True, eq=False)  # no slots: the indexes below are cached in the instance
class World:
    """Everything that translation may look at, at one moment."""

    services: Sequence[Service] = ()
    endpoints: Mapping[str, Sequence[Endpoint]] = field(default_factory=dict)
    """Service fqdn → its endpoints."""
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    """Pod IP → pod."""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Name → labels."""
    configs: Mapping[str, Sequence[ConfigObject[Any]]] = field(default_factory=dict)
    """Kind (`VirtualService`) → objects decoded by `meshlab.api.registry`, in any order."""
    mesh: Mesh = field(default_factory=Mesh)

    @cached_property
    def service_by_fqdn(self) -> Mapping[str, Service]:
        return {service.fqdn: service for service in self.services}

    @cached_property
    def services_by_age(self) -> Sequence[Service]:
        """Oldest first, then by name: the order in which names and ports are handed out."""
        return sorted(self.services, key=lambda s: (s.creation_timestamp, s.fqdn))

    @cached_property
    def _configs_by_age(self) -> Mapping[str, Sequence[ConfigObject[Any]]]:
        return {
            kind: tuple(sorted(objects, key=lambda o: o.age_key))
            for kind, objects in self.configs.items()
        }

    def of_kind(self, kind: str) -> Sequence[ConfigObject[Any]]:
        """Return the objects of a kind, oldest first."""
        return self._configs_by_age.get(kind, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Who is asking, from the xDS node and (where the stream is authenticated) the pod's token."""

    id: str
    """Node id, `sidecar~10.244.0.5~reviews-v1-abc.shop~shop.svc.cluster.local`."""
    type: Literal["sidecar", "router"]
    ip: str
    name: str
    """Pod name."""
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the pod; node metadata LABELS."""
    service_account: str = "default"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Node metadata as sent."""
    extensions: frozenset[str] = frozenset()
    """Names in `node.extensions`: what the data plane has compiled in."""

"""Look-ups into a world's configuration, made once a world."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from meshlab.api.istio.destination_rule import DestinationRule, Subset, TrafficPolicy
from meshlab.api.istio.gateway import Gateway
from meshlab.api.istio.virtual_service import VirtualService
from meshlab.api.object import ConfigObject
from meshlab.control.snapshot import Proxy, Service, ServicePort, World
from meshlab.control.translate import host, names

T = TypeVar("T")

MESH_GATEWAY = "mesh"
"""The name under which VirtualServices address the sidecars."""


@dataclass(frozen=True, slots=True)
class BoundVirtualService:
    """A VirtualService with its hosts and gateways written out."""

    object: ConfigObject[VirtualService]
    hosts: tuple[str, ...]
    gateways: frozenset[str]
    """`mesh` or `namespace/name`."""

    @property
    def spec(self) -> VirtualService:
        return self.object.spec

    @property
    def namespace(self) -> str:
        return self.object.metadata.namespace


@dataclass(frozen=True, slots=True)
class Rule:
    """What the DestinationRules for one host say together, seen from one namespace."""

    sources: tuple[str, ...]
    """Their names, oldest first."""
    path: str
    """Of the oldest, for metadata."""
    traffic_policy: TrafficPolicy | None
    """Of the oldest rule that has one."""
    subsets: tuple[Subset, ...]
    """Of all; of two with one name the older."""


class Index:
    """Look-ups into one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._rules: dict[tuple[str, str], Rule | None] = {}
        self._accounts: dict[str, tuple[str, ...]] = {}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[..., T], *args: Any) -> T:
        """Return what `make(*args)` gives, made once a world; the key names `make`, too."""
        if key not in self._made:
            self._made[key] = make(*args)
        made: T = self._made[key]
        return made

    @cached_property
    def virtual_services(self) -> Sequence[BoundVirtualService]:
        """Oldest first."""
        return [self._bind(each) for each in self.world.of_kind("VirtualService")]

    def _bind(self, vs: ConfigObject[VirtualService]) -> BoundVirtualService:
        namespace = vs.metadata.namespace
        domain = self.world.mesh.cluster_domain
        return BoundVirtualService(
            vs,
            tuple(host.complete(name, namespace, domain) for name in vs.spec.hosts),
            gateway_names(vs.spec.gateways, namespace) or frozenset({MESH_GATEWAY}),
        )

    @cached_property
    def mesh_virtual_services(self) -> Sequence[BoundVirtualService]:
        """Those that sidecars apply."""
        return [vs for vs in self.virtual_services if MESH_GATEWAY in vs.gateways]

    @cached_property
    def _rules_by_namespace(
        self,
    ) -> Mapping[str, Sequence[tuple[str, ConfigObject[DestinationRule]]]]:
        made: dict[str, list[tuple[str, ConfigObject[DestinationRule]]]] = {}
        for rule in self.world.of_kind("DestinationRule"):
            namespace = rule.metadata.namespace
            full = host.complete(rule.spec.host, namespace, self.world.mesh.cluster_domain)
            made.setdefault(namespace, []).append((full, rule))
        return made

    def destination_rule(self, client_namespace: str, service: Service) -> Rule | None:
        """Return what holds for a service, seen from a client's namespace.

        Looked for in the client's namespace, then the service's, then the root namespace; in
        each the most specific host counts.
        """
        key = (client_namespace, service.fqdn)
        if key not in self._rules:
            self._rules[key] = self._find_rule(client_namespace, service)
        return self._rules[key]

    def _find_rule(self, client: str, service: Service) -> Rule | None:
        for namespace in (client, service.namespace, self.world.mesh.root_namespace):
            candidates = [
                (name, rule)
                for name, rule in self._rules_by_namespace.get(namespace, ())
                if host.covers(name, service.fqdn)
                and host.visible(rule.spec.export_to, namespace, client)
            ]
            if candidates:
                best = max((name for name, _ in candidates), key=host.specificity)
                return _merge([rule for name, rule in candidates if name == best])
        return None

    def identities(self, service: Service) -> tuple[str, ...]:
        """Return the SPIFFE ids that a service's endpoints may have, sorted."""
        if service.fqdn not in self._accounts:
            domain = self.world.mesh.trust_domain
            self._accounts[service.fqdn] = tuple(
                sorted(
                    {
                        names.spiffe_id(domain, endpoint.namespace, endpoint.service_account)
                        for endpoint in self.world.endpoints.get(service.fqdn, ())
                        if endpoint.service_account
                    }
                )
            )
        return self._accounts[service.fqdn]

    @cached_property
    def _services_by_namespace(self) -> Mapping[str, Sequence[Service]]:
        made: dict[str, list[Service]] = {}
        for service in self.world.services_by_age:
            made.setdefault(service.namespace, []).append(service)
        return made

    def services_of(self, proxy: Proxy) -> Sequence[Service]:
        """Return the services whose selector takes the proxy's pod, oldest first."""
        return [
            service
            for service in self._services_by_namespace.get(proxy.namespace, ())
            if service.selector and selects(service.selector, proxy.labels)
        ]

    def target_port(self, port: ServicePort, ip: str) -> int | None:
        """Return the port of the workload at `ip`; None: it has no port of that name."""
        if isinstance(port.target_port, int):
            return port.target_port
        workload = self.world.workloads.get(ip)
        return workload.container_ports.get(port.target_port) if workload else None

    def gateways_of(self, proxy: Proxy) -> Sequence[ConfigObject[Gateway]]:
        """Return the Gateways that select the proxy, in whatever namespace, oldest first."""
        return [
            gateway
            for gateway in self.world.of_kind("Gateway")
            if selects(gateway.spec.selector, proxy.labels)
        ]


@lru_cache(maxsize=2)  # the world in force, and the one a slow push still looks at
def index(world: World) -> Index:
    return Index(world)


def gateway_names(gateways: Sequence[str], namespace: str) -> frozenset[str]:
    """Return gateways as `mesh` or `namespace/name`; a bare name is of the namespace."""
    return frozenset(
        name if name == MESH_GATEWAY or "/" in name else f"{namespace}/{name}" for name in gateways
    )


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether the labels carry all that a selector asks for."""
    return all(labels.get(name) == value for name, value in selector.items())


def _merge(rules: Sequence[ConfigObject[DestinationRule]]) -> Rule:
    subsets: dict[str, Subset] = {}
    for rule in rules:
        for subset in rule.spec.subsets:
            subsets.setdefault(subset.name, subset)
    oldest = rules[0].metadata
    return Rule(
        sources=tuple(rule.reference for rule in rules),
        path=names.config_path("destination-rule", oldest.namespace, oldest.name),
        traffic_policy=next((r.spec.traffic_policy for r in rules if r.spec.traffic_policy), None),
        subsets=tuple(subsets.values()),
    )

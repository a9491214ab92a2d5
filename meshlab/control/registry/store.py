"""All watched objects, and the immutable `World` made of them, again only where they changed.

The store also remembers which change came when, so that "has revision R been processed?" has an
answer (`/debug/wait`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from meshlab.api import registry
from meshlab.api.object import ConfigObject
from meshlab.control.registry.api import Json, Resource, core
from meshlab.control.registry.endpoint import PodKey, endpoints, pods_of, service_of
from meshlab.control.registry.mesh import CONFIG_MAP, mesh
from meshlab.control.registry.service import service
from meshlab.control.registry.workload import locality, workload
from meshlab.control.snapshot import Endpoint, Mesh, Service, Workload, World
from meshlab.errors import ConfigError

LOG = logging.getLogger("meshlab.control.registry.store")

Key = tuple[str, str]
"""(namespace, name); namespace "" for cluster-scoped objects."""

NAMESPACES = core("namespaces", "Namespace", namespaced=False)
NODES = core("nodes", "Node", namespaced=False)
PODS = core("pods", "Pod")
SERVICES = core("services", "Service")
CONFIG_MAPS = core("configmaps", "ConfigMap")
SLICES = Resource(
    group="discovery.k8s.io", version="v1", plural="endpointslices", kind="EndpointSlice"
)
CONFIG_KINDS = tuple(
    tuple(
        Resource(group=kind.group, version=version, plural=kind.plural, kind=kind.kind)
        for version in kind.versions
    )
    for kind in registry.KINDS
)
"""Each configuration kind in its versions, the best first."""
WATCHED = tuple((r,) for r in (NAMESPACES, NODES, PODS, SERVICES, SLICES)) + CONFIG_KINDS
_TOMBSTONES = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """What happened since the last `take`."""

    world: World
    kinds: frozenset[str]
    """As `translate.depends.touched` names them."""
    generation: int
    """Number of the last change that is in `world`."""


class Store:
    """Fed by the watches; `take` gives the world."""

    def __init__(self, defaults: Mesh, changed: Callable[[], None]) -> None:
        """`changed` is called after every change that translation could see."""
        self.defaults = defaults
        self.generation = 0
        self.objects: dict[str, dict[Key, Json]] = defaultdict(dict)
        self._changed = changed
        self._next = asyncio.Event()
        self._kinds: set[str] = set()
        self._at: dict[tuple[str, Key], int] = {}  # object → generation of its last change
        self._services: dict[Key, Service] = {}
        self._pods: dict[PodKey, Workload] = {}
        self._slices_of: dict[Key, dict[str, Json]] = defaultdict(dict)
        self._owner_of_slice: dict[Key, Key] = {}
        self._services_of_pod: dict[PodKey, set[Key]] = defaultdict(set)
        self._stale: set[Key] = set()  # services whose endpoints must be made again
        self._endpoints: dict[Key, tuple[Endpoint, ...]] = {}
        self._configs: dict[str, dict[Key, ConfigObject[Any]]] = defaultdict(dict)
        self._mesh = defaults
        self._world = World(mesh=defaults)
        self.refused: dict[tuple[str, Key], ConfigError] = {}
        """Configuration objects that cannot be read, with the reason."""

    # What the watches call.

    def replace(self, resource: Resource, objects: list[Json]) -> None:
        """Take a whole list: what is not in it any more was deleted."""
        fresh = {_key(obj): obj for obj in objects}
        held = self.objects[resource.name]
        for key in held.keys() - fresh.keys():
            self.change(resource, "DELETED", held[key])
        for key, obj in fresh.items():
            known = held.get(key)
            if known is None or _version(known) != _version(obj):
                self.change(resource, "MODIFIED", obj)

    def change(self, resource: Resource, event: str, obj: Json) -> None:
        """Take one change."""
        key = _key(obj)
        # Items of a list come without their type.
        obj.setdefault("kind", resource.kind)
        obj.setdefault("apiVersion", _api_version(resource))
        if event == "DELETED":
            self.objects[resource.name].pop(key, None)
        else:
            self.objects[resource.name][key] = obj
        self.generation += 1
        self._at[resource.name, key] = self.generation
        self._trim()
        self._next.set()
        self._next = asyncio.Event()
        present = None if event == "DELETED" else obj
        if self._apply(resource, key, present):
            self._changed()

    def set_mesh(self, config_map: Json | None) -> None:
        """Take ConfigMap `istio`; one that cannot be read leaves the last good settings."""
        try:
            fresh = mesh(config_map, self.defaults)
        except ConfigError as error:
            LOG.error("ConfigMap %s: %s; the last good settings stay", CONFIG_MAP, error)
            return
        if fresh == self._mesh:
            return
        self._mesh = fresh
        self.generation += 1
        self._kinds.add("Mesh")
        self._changed()

    # What the rest of the control plane asks.

    @property
    def mesh(self) -> Mesh:
        return self._mesh

    def take(self) -> Change:
        """Return the world as it is now and what changed since the last time."""
        kinds, self._kinds = frozenset(self._kinds), set()
        if kinds:
            self._world = self._make(kinds)
        return Change(self._world, kinds, self.generation)

    def processed(self, resource: str, key: Key, version: str) -> int | None:
        """Return the generation with which an object reached `version` (or is gone: `deleted`).

        None: not there yet. Versions are compared as numbers, as all known API servers count.
        """
        obj = self.objects[resource].get(key)
        at = self._at.get((resource, key), 0)
        if version == "deleted":
            return at if obj is None else None
        if obj is None:
            return None
        return at if _number(_version(obj)) >= _number(version) else None

    async def next_change(self) -> None:
        """Wait for the next change of any object."""
        await self._next.wait()

    # How an object changes the parts of the world.

    def _apply(self, resource: Resource, key: Key, obj: Json | None) -> bool:
        """Bring the parts up to date; return whether translation could see a difference."""
        match resource.name:
            case "services":
                return self._apply_service(key, obj)
            case "pods":
                return self._apply_pod(key, obj)
            case "endpointslices.discovery.k8s.io":
                return self._apply_slice(key, obj)
            case "namespaces":
                return self._mark("Namespace")
            case "nodes":
                return self._apply_nodes()
            case _:
                return self._apply_config(resource, key, obj)

    def _apply_service(self, key: Key, obj: Json | None) -> bool:
        fresh = service(obj, self.defaults.cluster_domain) if obj else None
        if fresh == self._services.get(key):
            return False
        _put(self._services, key, fresh)
        return self._mark("Service")

    def _apply_pod(self, key: Key, obj: Json | None) -> bool:
        fresh = workload(obj, self._localities()) if obj else None
        if fresh == self._pods.get(key):
            return False
        _put(self._pods, key, fresh)
        if stale := self._services_of_pod.get(key):
            self._stale |= stale
            self._mark("Endpoint")
        return self._mark("Workload")

    def _apply_slice(self, key: Key, obj: Json | None) -> bool:
        if (old_owner := self._owner_of_slice.pop(key, None)) is not None:
            self._forget(old_owner, self._slices_of[old_owner].pop(key[1]))
        if obj and (owner := service_of(obj)):
            self._owner_of_slice[key] = owner
            self._slices_of[owner][key[1]] = obj
            self._stale.add(owner)
            for pod in pods_of(obj):
                self._services_of_pod[pod].add(owner)
        return self._mark("Endpoint")

    def _forget(self, owner: Key, endpoint_slice: Json) -> None:
        self._stale.add(owner)
        for pod in pods_of(endpoint_slice):
            owners = self._services_of_pod.get(pod, set())
            owners.discard(owner)
            if not owners:
                self._services_of_pod.pop(pod, None)

    def _apply_nodes(self) -> bool:
        localities = self._localities()
        seen = False
        for key, known in list(self._pods.items()):
            place = localities.get(known.node, "")
            if known.locality != place:
                self._pods[key] = replace(known, locality=place)
                self._stale |= self._services_of_pod.get(key, set())
                seen = self._mark("Workload", "Endpoint")
        return seen

    def _apply_config(self, resource: Resource, key: Key, obj: Json | None) -> bool:
        kind = resource.kind
        self.refused.pop((resource.name, key), None)
        fresh = None
        if obj is not None:
            try:
                fresh = registry.decode(obj)
            except ConfigError as error:
                self.refused[resource.name, key] = error
                LOG.warning("ignored: %s", error)
        _put(self._configs[kind], key, fresh)
        return self._mark(kind)

    def _mark(self, *kinds: str) -> bool:
        self._kinds.update(kinds)
        return True

    def _make(self, kinds: frozenset[str]) -> World:
        world = self._world
        if "Service" in kinds or "Endpoint" in kinds:
            for key in self._stale:
                made = endpoints(self._slices_of.get(key, {}).values(), self._pods)
                _put(self._endpoints, key, made or None)
            self._stale = set()
            by_host = {s.fqdn: self._endpoints.get(key, ()) for key, s in self._services.items()}
            world = replace(world, services=tuple(self._services.values()), endpoints=by_host)
        if "Workload" in kinds:
            world = replace(world, workloads={pod.ip: pod for pod in self._pods.values()})
        if "Namespace" in kinds:
            held = self.objects["namespaces"].values()
            labels = {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in held}
            world = replace(world, namespaces=labels)
        if "Mesh" in kinds:
            world = replace(world, mesh=self._mesh)
        changed = {kind: tuple(self._configs[kind].values()) for kind in kinds & _CONFIG_NAMES}
        return replace(world, configs={**world.configs, **changed}) if changed else world

    def _localities(self) -> Mapping[str, str]:
        return {name: locality(node) for (_, name), node in self.objects["nodes"].items()}

    def _trim(self) -> None:
        if len(self._at) <= _TOMBSTONES + sum(map(len, self.objects.values())):
            return
        gone = [(r, key) for r, key in self._at if key not in self.objects[r]]
        for place in gone[: _TOMBSTONES // 2]:
            del self._at[place]


_CONFIG_NAMES = frozenset(kind.kind for kind in registry.KINDS)


def _put(held: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value


def _key(obj: Json) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace") or "", meta["name"]


def _api_version(resource: Resource) -> str:
    return f"{resource.group}/{resource.version}" if resource.group else resource.version


def _version(obj: Json) -> str:
    version: str = obj["metadata"].get("resourceVersion", "")
    return version


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0

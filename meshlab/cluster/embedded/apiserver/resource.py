"""What a resource is: a declaration. The machinery that serves it is the same for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshlab.cluster.embedded.apiserver.status import qualified

ALL_VERBS = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the Table that kubectl prints."""

    name: str
    json_path: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0
    """0: always; above: with `-o wide` only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePaths:
    """Where `scale` finds its numbers (a CRD's `subresources.scale`)."""

    replicas: str
    status_replicas: str
    selector: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One served version of a resource."""

    name: str
    served: bool = True
    schema: Mapping[str, Any] | None = None
    """Structural schema of a custom resource; None: a built-in kind (`builtin_schema.json`)."""
    columns: tuple[Column, ...] = ()
    status: bool = False
    """Whether `status` is a subresource of its own."""
    scale: ScalePaths | None = None
    warning: str = ""
    """What to tell every caller of this version (deprecation); "" for nothing."""
    complete: Callable[[dict[str, Any]], None] | None = None
    """Fills in, in place, what objects of this version may leave out and later ones may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of the API (`deployments.apps`), in all its versions."""

    group: str
    kind: str
    plural: str
    singular: str
    versions: tuple[Version, ...]
    storage: str
    """The version objects are kept in."""
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → verbs, apart from `status` and `scale`, which the versions tell."""
    generation: bool = False
    """Whether `metadata.generation` counts the changes of the wish."""
    custom: bool = False
    """Declared by a CustomResourceDefinition."""
    kept_in: str = ""
    """The group whose resource of this name keeps the objects; "": its own."""

    @property
    def name(self) -> str:
        """Return kubectl's full name, `deployments.apps`."""
        return qualified(self.plural, self.group)

    @property
    def key(self) -> str:
        """Return the name under which the store keeps the objects."""
        return qualified(self.plural, self.kept_in or self.group)

    @property
    def stored_api_version(self) -> str:
        """Return the `apiVersion` of the objects in the store."""
        group = self.kept_in or self.group
        return f"{group}/{self.storage}" if group else self.storage

    def version(self, name: str) -> Version | None:
        """Return a served version by name."""
        return next((v for v in self.versions if v.name == name and v.served), None)

    @property
    def stored(self) -> Version:
        return next(v for v in self.versions if v.name == self.storage)

    def api_version(self, version: str) -> str:
        """Return `apps/v1`, as objects carry it."""
        return f"{self.group}/{version}" if self.group else version

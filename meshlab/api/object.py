"""What every configuration object has in common: names, labels, age (Kubernetes ObjectMeta)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

SpecT = TypeVar("SpecT", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The part of Kubernetes' ObjectMeta that decides anything here."""

    name: str
    namespace: str = ""
    """Empty for cluster-scoped objects."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    creation_timestamp: str = ""
    """RFC 3339 in UTC as the API server writes it, so text order is age; "" before it is stored."""
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigObject(Generic[SpecT]):
    """One decoded configuration object; `spec` is the model of its kind."""

    api_version: str
    kind: str
    metadata: Metadata
    spec: SpecT

    @property
    def reference(self) -> str:
        """`VirtualService shop/reviews`, as errors and logs name it."""
        place = f"{self.metadata.namespace}/" if self.metadata.namespace else ""
        return f"{self.kind} {place}{self.metadata.name}"

    @property
    def age_key(self) -> tuple[str, str, str]:
        """Sort key, oldest first; ties by name, then namespace, as Istio breaks them."""
        meta = self.metadata
        return (meta.creation_timestamp, meta.name, meta.namespace)


def metadata_of(obj: Mapping[str, Any]) -> Metadata:
    """Read `metadata` of an object as the API server stores it.

    Tolerates missing parts: what must be there is the API server's to enforce.
    """
    meta = obj.get("metadata") or {}
    return Metadata(
        name=meta.get("name") or meta.get("generateName", ""),
        namespace=meta.get("namespace") or "",
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        creation_timestamp=meta.get("creationTimestamp") or "",
        generation=int(meta.get("generation") or 0),
        resource_version=str(meta.get("resourceVersion") or ""),
        uid=meta.get("uid") or "",
    )

"""The kinds of configuration and their models: (group, kind) → model, and decoding."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from meshlab.api.field import ConfigErrors, Decoder
from meshlab.api.istio.destination_rule import DestinationRule
from meshlab.api.istio.gateway import Gateway
from meshlab.api.istio.peer_authentication import PeerAuthentication
from meshlab.api.istio.virtual_service import VirtualService
from meshlab.api.object import ConfigObject, metadata_of
from meshlab.errors import ConfigError

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    json_path: str
    description: str
    type: str = "string"


AGE = Column(
    "Age",
    ".metadata.creationTimestamp",
    "Time since the object was created, by the API server's clock",
    "date",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its names, its versions (the same schema in all), its model."""

    group: str
    kind: str
    plural: str
    short_names: tuple[str, ...]
    versions: tuple[str, ...]
    """Newest first; the first is stored."""
    model: type[Any]
    columns: tuple[Column, ...] = ()

    @property
    def resource(self) -> str:
        """The full name that kubectl takes, `virtualservices.networking.istio.io`."""
        return f"{self.plural}.{self.group}"


KINDS = (
    Kind(
        NETWORKING,
        "VirtualService",
        "virtualservices",
        ("vs",),
        ("v1", "v1beta1", "v1alpha3"),
        VirtualService,
        (
            Column("Gateways", ".spec.gateways", "The gateways and sidecars that apply the routes"),
            Column("Hosts", ".spec.hosts", "The hosts whose traffic is routed"),
            AGE,
        ),
    ),
    Kind(
        NETWORKING,
        "DestinationRule",
        "destinationrules",
        ("dr",),
        ("v1", "v1beta1", "v1alpha3"),
        DestinationRule,
        (Column("Host", ".spec.host", "The service that the rule is about"), AGE),
    ),
    Kind(
        NETWORKING,
        "Gateway",
        "gateways",
        ("gw",),
        ("v1", "v1beta1", "v1alpha3"),
        Gateway,
    ),
    Kind(
        SECURITY,
        "PeerAuthentication",
        "peerauthentications",
        ("pa",),
        ("v1", "v1beta1"),
        PeerAuthentication,
        (Column("Mode", ".spec.mtls.mode", "Whether plain text is taken too"), AGE),
    ),
)
"""The kinds that are installed and translated."""

_BY_NAME = {(kind.group, kind.kind): kind for kind in KINDS}


def kind_of(obj: Mapping[str, Any]) -> Kind | None:
    """Return the kind of a document; None when it is not one of ours."""
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    kind = _BY_NAME.get((group, str(obj.get("kind", ""))))
    return kind if kind is not None and version in kind.versions else None


def supports(obj: Mapping[str, Any]) -> bool:
    """Tell whether there is a model for the document's kind and version."""
    return kind_of(obj) is not None


def reference(obj: Mapping[str, Any]) -> str:
    """Return `VirtualService shop/reviews`, as errors name a document."""
    meta = metadata_of(obj)
    place = f"{meta.namespace}/" if meta.namespace else ""
    return f"{obj.get('kind', '')} {place}{meta.name}"


def decode(obj: Mapping[str, Any]) -> ConfigObject[Any]:
    """Return the document as its model.

    Raises:
        ConfigErrors: everything in it that does not fit the model.
    """
    kind = kind_of(obj)
    name = reference(obj)
    if kind is None:
        raise ConfigErrors(
            [
                ConfigError(
                    "is of no kind that is supported",
                    object=name,
                    field="kind",
                    found=f"{obj.get('apiVersion')} {obj.get('kind')}",
                    allowed=", ".join(f"{k.group}/{k.versions[0]} {k.kind}" for k in KINDS),
                )
            ]
        )
    decoder = Decoder(name)
    spec = decoder.model(kind.model, obj.get("spec") or {}, "spec")
    if spec is None:
        raise ConfigErrors(decoder.problems)
    return ConfigObject(
        api_version=str(obj["apiVersion"]),
        kind=kind.kind,
        metadata=metadata_of(obj),
        spec=spec,
    )


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Return the objects of a YAML stream, Lists opened, empty documents left out."""
    for document in yaml.safe_load_all(text):
        if document and document.get("kind") == "List":
            yield from document.get("items") or ()
        elif document:
            yield document

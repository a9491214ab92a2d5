"""The CRDs that are installed, against the rules of Kubernetes' structural schemas."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from meshlab.api.istio.virtual_service import HTTPRetry, StringMatch
from meshlab.api.registry import documents, supports
from meshlab.api.schema import crds, schema

CRDS = {each["spec"]["names"]["kind"]: each for each in crds()}
LABS = Path(__file__).parents[2] / "labs" / "manifests"


def test_names_as_istio_installs_them() -> None:
    assert {kind: crd["metadata"]["name"] for kind, crd in CRDS.items()} == {
        "VirtualService": "virtualservices.networking.istio.io",
        "DestinationRule": "destinationrules.networking.istio.io",
        "Gateway": "gateways.networking.istio.io",
        "PeerAuthentication": "peerauthentications.security.istio.io",
    }
    assert CRDS["VirtualService"]["spec"]["names"] == {
        "kind": "VirtualService",
        "listKind": "VirtualServiceList",
        "plural": "virtualservices",
        "singular": "virtualservice",
        "shortNames": ["vs"],
        "categories": ["istio-io", "networking-istio-io"],
    }


@pytest.mark.parametrize(
    ("kind", "versions"),
    [
        ("VirtualService", ["v1", "v1beta1", "v1alpha3"]),
        ("DestinationRule", ["v1", "v1beta1", "v1alpha3"]),
        ("Gateway", ["v1", "v1beta1", "v1alpha3"]),
        ("PeerAuthentication", ["v1", "v1beta1"]),
    ],
)
def test_versions(kind: str, versions: list[str]) -> None:
    made = CRDS[kind]["spec"]["versions"]
    assert [(v["name"], v["served"], v["storage"]) for v in made] == [
        (name, True, i == 0) for i, name in enumerate(versions)
    ]
    assert all(v["subresources"] == {"status": {}} for v in made)


def test_columns() -> None:
    columns = CRDS["VirtualService"]["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [(c["name"], c["jsonPath"], c["type"]) for c in columns] == [
        ("Gateways", ".spec.gateways", "string"),
        ("Hosts", ".spec.hosts", "string"),
        ("Age", ".metadata.creationTimestamp", "date"),
    ]


def test_schema_of_a_model() -> None:
    assert schema(HTTPRetry) == {
        "type": "object",
        "description": "When and how often a request is sent again.",
        "properties": {
            "attempts": {
                "type": "integer",
                "minimum": -(2**31),
                "maximum": 2**31 - 1,
                "description": "Tries after the first; 0: no retries at all.",
            },
            "perTryTimeout": {
                "type": "string",
                "description": "Missing: only the route's own timeout counts.",
            },
            "retryOn": {
                "type": "string",
                "description": "Envoy's conditions and status codes, by commas; "
                '"" means Istio\'s default conditions.',
            },
            "retryRemoteLocalities": {"type": "boolean"},
            "retryIgnorePreviousHosts": {
                "type": "boolean",
                "description": "Prefer hosts that were not tried yet; missing means true.",
            },
            "backoff": {
                "type": "string",
                "description": "Base of the exponential back-off; missing means 25ms.",
            },
        },
    }


def test_maps_and_lists() -> None:
    assert schema(dict[str, StringMatch])["additionalProperties"] == schema(StringMatch)
    assert schema(tuple[str, ...]) == {"type": "array", "items": {"type": "string"}}


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Return every schema within a schema."""
    yield node
    for each in node.get("properties", {}).values():
        yield from parts(each)
    for name in ("items", "additionalProperties"):
        if name in node:
            yield from parts(node[name])


@pytest.mark.parametrize("kind", CRDS)
def test_schemas_are_structural(kind: str) -> None:
    for version in CRDS[kind]["spec"]["versions"]:
        root = version["schema"]["openAPIV3Schema"]
        jsonschema.Draft202012Validator.check_schema(root)
        for each in parts(root):
            assert each.get("type") in {
                "object",
                "array",
                "string",
                "integer",
                "number",
                "boolean",
            }, each
            # A key that is required must be known, else nothing could satisfy both.
            assert set(each.get("required", ())) <= set(each.get("properties", ()))
            assert not ("properties" in each and "additionalProperties" in each)


def test_the_labs_manifests_fit() -> None:
    checked = 0
    for path in sorted(LABS.rglob("*.yaml")):
        for document in documents(path.read_text()):
            if supports(document):
                crd = CRDS[document["kind"]]
                jsonschema.validate(
                    document, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
                )
                checked += 1
    assert checked > 10

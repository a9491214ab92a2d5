"""Documents → models by group, version and kind."""

import pytest

from meshlab.api.field import ConfigErrors
from meshlab.api.istio.virtual_service import (
    Destination,
    HTTPRetry,
    HTTPRoute,
    HTTPRouteDestination,
    VirtualService,
)
from meshlab.api.object import ConfigObject, Metadata
from meshlab.api.registry import KINDS, decode, documents, supports


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_version_gives_one_model(version: str) -> None:
    document = {
        "apiVersion": f"networking.istio.io/{version}",
        "kind": "VirtualService",
        "metadata": {
            "name": "reviews",
            "namespace": "shop",
            "creationTimestamp": "2024-01-01T00:00:00Z",
            "resourceVersion": "7",
        },
        "spec": {
            "hosts": ["reviews"],
            "http": [
                {
                    "route": [{"destination": {"host": "reviews", "subset": "v1"}, "weight": 5}],
                    "retries": {"attempts": 3, "perTryTimeout": "1s"},
                    "timeout": "2.5s",
                }
            ],
        },
    }
    destination = Destination(host="reviews", subset="v1")
    assert decode(document) == ConfigObject(
        api_version=f"networking.istio.io/{version}",
        kind="VirtualService",
        metadata=Metadata(
            name="reviews",
            namespace="shop",
            creation_timestamp="2024-01-01T00:00:00Z",
            resource_version="7",
        ),
        spec=VirtualService(
            hosts=("reviews",),
            http=(
                HTTPRoute(
                    route=(HTTPRouteDestination(destination=destination, weight=5),),
                    retries=HTTPRetry(attempts=3, per_try_timeout=1.0),
                    timeout=2.5,
                ),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        pytest.param("networking.istio.io/v1", "ServiceEntry", id="not installed"),
        pytest.param("networking.istio.io/v2", "VirtualService", id="unknown version"),
        pytest.param("gateway.networking.k8s.io/v1", "Gateway", id="another family's Gateway"),
        pytest.param("v1", "Service", id="Kubernetes' own"),
    ],
)
def test_what_is_not_ours(api_version: str, kind: str) -> None:
    document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}
    assert not supports(document)
    with pytest.raises(ConfigErrors) as caught:
        decode(document)
    assert [each.field for each in caught.value.problems] == ["kind"]


def test_errors_name_object_and_path() -> None:
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "shop"},
        "spec": {
            "hosts": ["a"],
            "http": [{"route": [{"destination": {"host": "a"}}, {"weight": "80"}]}],
        },
    }
    with pytest.raises(ConfigErrors) as caught:
        decode(document)
    assert [(each.object, each.field) for each in caught.value.problems] == [
        ("VirtualService shop/reviews", "spec.http[0].route[1].destination"),
        ("VirtualService shop/reviews", "spec.http[0].route[1].weight"),
    ]


def test_resource_names() -> None:
    assert [kind.resource for kind in KINDS] == [
        "virtualservices.networking.istio.io",
        "destinationrules.networking.istio.io",
        "gateways.networking.istio.io",
        "peerauthentications.security.istio.io",
    ]


def test_documents_opens_lists_and_drops_empty_ones() -> None:
    text = "kind: A\n---\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n"
    assert list(documents(text)) == [{"kind": "A"}, {"kind": "B"}, {"kind": "C"}]

from typing import Any

import pytest

from meshlab.errors import ConfigError
from meshlab.route import Route

BASE = Route(host="bluegreen", name="bluegreen", namespace="shop")


def to(host: str, weight: int | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": {"host": host, **more}}
    return found if weight is None else {**found, "weight": weight}


@pytest.mark.parametrize(
    ("route", "spec"),
    [
        pytest.param(
            BASE.split(blue=20, green=80),
            {"hosts": ["bluegreen"], "http": [{"route": [to("blue", 20), to("green", 80)]}]},
            id="a split",
        ),
        pytest.param(
            BASE.through("bluegreen-gateway").path("/api/color").to("blue"),
            {
                "hosts": ["bluegreen"],
                "gateways": ["bluegreen-gateway"],
                "http": [
                    {"match": [{"uri": {"prefix": "/api/color"}}], "route": [to("blue")]},
                ],
            },
            id="at a gateway, by path",
        ),
        pytest.param(
            BASE.subsets("web").when(header={"foo": "bar"}).to("v2").split(v1=100, v2=0),
            {
                "hosts": ["bluegreen"],
                "http": [
                    {
                        "match": [{"headers": {"foo": {"exact": "bar"}}}],
                        "route": [to("web", subset="v2")],
                    },
                    {"route": [to("web", 100, subset="v1"), to("web", 0, subset="v2")]},
                ],
            },
            id="a canary by header, then the rest",
        ),
        pytest.param(
            BASE.to("green").when(header={"foo": "bar"}).to("blue"),
            {
                "hosts": ["bluegreen"],
                "http": [
                    {
                        "match": [{"headers": {"foo": {"exact": "bar"}}}],
                        "route": [to("blue")],
                    },
                    {"route": [to("green")]},
                ],
            },
            id="the rest, then a canary: the canary is asked first all the same",
        ),
        pytest.param(
            BASE.to("buggy").retries(40, per_try_timeout="1s", retry_on="gateway-error"),
            {
                "hosts": ["bluegreen"],
                "http": [
                    {
                        "route": [to("buggy")],
                        "retries": {
                            "attempts": 40,
                            "perTryTimeout": "1s",
                            "retryOn": "gateway-error",
                        },
                    }
                ],
            },
            id="retries",
        ),
        pytest.param(
            BASE.timeout("2s").to("blue"),
            {"hosts": ["bluegreen"], "http": [{"route": [to("blue")], "timeout": "2s"}]},
            id="a setting before its rule",
        ),
    ],
)
def test_spec(route: Route, spec: dict[str, Any]) -> None:
    assert route.manifest["spec"] == spec


def test_yaml_is_what_one_would_write() -> None:
    assert BASE.to("blue").yaml == (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata:\n  name: bluegreen\n  namespace: shop\n"
        "spec:\n  hosts:\n  - bluegreen\n"
        "  http:\n  - route:\n    - destination:\n        host: blue\n"
    )


def test_shares_must_be_of_one_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        BASE.split(blue=20, green=70)
    assert (caught.value.object, caught.value.field, caught.value.found, caught.value.fix) == (
        "VirtualService shop/bluegreen",
        "spec.http[0].route",
        "blue=20, green=70",
        "They add up to 90.",
    )


def stored(*entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "VirtualService",
        "metadata": {"name": "bluegreen", "namespace": "shop", "uid": "u", "resourceVersion": "7"},
        "spec": {
            "hosts": ["bluegreen.example.com"],
            "gateways": ["bluegreen-gateway"],
            "http": list(entries),
        },
    }


PORT = {"port": {"number": 80}}
COLOR = [{"uri": {"prefix": "/api/color"}}]
CANARY = {"match": [{"headers": {"foo": {"exact": "bar"}}}], "route": [to("blue", **PORT)]}
SPLIT = {
    "match": COLOR,
    "route": [to("blue", 50, **PORT), to("green", 50, **PORT)],
    "timeout": "2s",
}
SUBSETS = {"route": [to("web", 50, subset="v1"), to("web", 50, subset="v2")]}


@pytest.mark.parametrize(
    ("before", "steps", "after"),
    [
        pytest.param(
            [CANARY, SPLIT],
            lambda r: r.split(blue=20, green=80),
            [CANARY, {**SPLIT, "route": [to("blue", 20, **PORT), to("green", 80, **PORT)]}],
            id="new shares: match, ports, timeout stay",
        ),
        pytest.param(
            [SUBSETS],
            lambda r: r.split(v1=100, v2=0),
            [{"route": [to("web", 100, subset="v1"), to("web", 0, subset="v2")]}],
            id="names are subsets where they were",
        ),
        pytest.param(
            [SPLIT],
            lambda r: r.when(header={"foo": "bar"}).to("blue"),
            [CANARY, SPLIT],
            id="a condition goes before the others",
        ),
        pytest.param(
            [CANARY, SPLIT],
            lambda r: r.when(header={"foo": "bar"}).to("green"),
            [{**CANARY, "route": [to("green", **PORT)]}, SPLIT],
            id="the same condition again: in its place",
        ),
        pytest.param(
            [SPLIT],
            lambda r: r.retries(3),
            [{**SPLIT, "retries": {"attempts": 3}}],
            id="a setting alone",
        ),
    ],
)
def test_changing_what_is_there(before: Any, steps: Any, after: Any) -> None:
    route = steps(Route(host="bluegreen", name="bluegreen", namespace="shop",
                        existing=stored(*before)))  # fmt: skip
    expected = stored(*after)
    del expected["metadata"]["uid"], expected["metadata"]["resourceVersion"]
    assert route.manifest == expected


def test_a_route_of_no_cluster_cannot_be_applied() -> None:
    with pytest.raises(ConfigError, match="belongs to no cluster"):
        BASE.to("blue").apply()

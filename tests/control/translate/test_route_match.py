"""VirtualService `match` → Envoy's route match."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from fixtures.xds import plain

from meshlab.api.field import Decoder
from meshlab.api.istio.virtual_service import HTTPMatchRequest
from meshlab.control.translate.route_match import Source, applies, is_catch_all, route_match


def match(text: str) -> HTTPMatchRequest:
    decoder = Decoder()
    made = decoder.model(HTTPMatchRequest, yaml.safe_load(text), "")
    assert made is not None, decoder.problems
    return made


CASE: Mapping[str, Any] = {"case_sensitive": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{}", {"prefix": "/"} | CASE, id="empty"),
        pytest.param("uri: {prefix: /api}", {"prefix": "/api"} | CASE, id="prefix is raw text"),
        pytest.param("uri: {exact: /a}", {"path": "/a"} | CASE, id="exact"),
        pytest.param(
            "uri: {regex: '/v[0-9]+'}", {"safe_regex": {"regex": "/v[0-9]+"}} | CASE, id="regex"
        ),
        pytest.param(
            "{uri: {prefix: /A}, ignoreUriCase: true}",
            {"prefix": "/A", "case_sensitive": False},
            id="without case",
        ),
        pytest.param(
            "headers: {b: {exact: '1'}, a: {prefix: x}, c: {regex: '.+'}}",
            {
                "prefix": "/",
                "headers": [
                    {"name": "a", "string_match": {"prefix": "x"}},
                    {"name": "b", "string_match": {"exact": "1"}},
                    {"name": "c", "string_match": {"safe_regex": {"regex": ".+"}}},
                ],
            }
            | CASE,
            id="headers in the order of their names",
        ),
        pytest.param(
            "headers: {a: {}, b: {regex: '*'}}",
            {
                "prefix": "/",
                "headers": [
                    {"name": "a", "present_match": True},
                    {"name": "b", "present_match": True},
                ],
            }
            | CASE,
            id="presence",
        ),
        pytest.param(
            "withoutHeaders: {a: {exact: x}, b: {}}",
            {
                "prefix": "/",
                "headers": [
                    {
                        "name": "a",
                        "string_match": {"exact": "x"},
                        "invert_match": True,
                        "treat_missing_header_as_empty": True,
                    },
                    {"name": "b", "present_match": True, "invert_match": True},
                ],
            }
            | CASE,
            id="without",
        ),
        pytest.param(
            "{scheme: {exact: http}, method: {exact: GET}, authority: {prefix: www}}",
            {
                "prefix": "/",
                "headers": [
                    {"name": ":method", "string_match": {"exact": "GET"}},
                    {"name": ":authority", "string_match": {"prefix": "www"}},
                    {"name": ":scheme", "string_match": {"exact": "http"}},
                ],
            }
            | CASE,
            id="pseudo-headers",
        ),
        pytest.param(
            "queryParams: {b: {exact: x}, a: {}}",
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "a", "present_match": True},
                    {"name": "b", "string_match": {"exact": "x"}},
                ],
            }
            | CASE,
            id="query",
        ),
    ],
)
def test_route_match(text: str, expected: dict[str, Any]) -> None:
    assert plain(route_match(match(text))) == expected


def test_no_match_takes_everything() -> None:
    assert plain(route_match(None)) == {"prefix": "/"}


MESH = Source(
    port=80, gateways=frozenset({"mesh"}), namespace="shop", labels={"app": "web", "version": "v1"}
)
GATEWAY = Source(port=80, gateways=frozenset({"shop/front"}), namespace="istio-system", labels={})


@pytest.mark.parametrize(
    ("text", "source", "holds"),
    [
        pytest.param("{}", MESH, True, id="no condition"),
        pytest.param("port: 80", MESH, True, id="port"),
        pytest.param("port: 81", MESH, False, id="another port"),
        pytest.param("sourceLabels: {app: web}", MESH, True, id="labels"),
        pytest.param("sourceLabels: {app: db}", MESH, False, id="other labels"),
        pytest.param("sourceNamespace: shop", MESH, True, id="namespace"),
        pytest.param("sourceNamespace: other", MESH, False, id="another namespace"),
        pytest.param("gateways: [mesh]", MESH, True, id="mesh"),
        pytest.param("gateways: [front]", MESH, False, id="only the gateway"),
        pytest.param("gateways: [front]", GATEWAY, True, id="gateway, short name"),
        pytest.param("gateways: [shop/front]", GATEWAY, True, id="gateway, full name"),
        pytest.param("gateways: [other/front]", GATEWAY, False, id="another gateway"),
        pytest.param("{gateways: [front], sourceLabels: {a: b}}", GATEWAY, True, id="gateway wins"),
    ],
)
def test_applies(text: str, source: Source, holds: bool) -> None:
    assert applies(match(text), source, "shop") is holds


@pytest.mark.parametrize(
    ("text", "catches"),
    [
        ("{}", True),
        ("uri: {prefix: /}", True),
        ("uri: {regex: '.*'}", True),
        ("uri: {prefix: /a}", False),
        ("headers: {a: {}}", False),
        ("queryParams: {a: {}}", False),
        ("method: {exact: GET}", False),
    ],
)
def test_is_catch_all(text: str, catches: bool) -> None:
    assert is_catch_all(route_match(match(text))) is catches

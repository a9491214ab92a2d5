"""VirtualService `fault` → the fault filter's settings for a route."""

from typing import Any

import pytest
import yaml
from envoy.config.route.v3 import route_components_pb2
from fixtures.xds import plain

from meshlab.api.field import Decoder
from meshlab.api.istio.virtual_service import HTTPFaultInjection
from meshlab.control.translate import fault

TYPE = {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        pytest.param(
            "delay: {fixedDelay: 5s, percentage: {value: 0.1}}",
            {
                "delay": {
                    "fixed_delay": "5s",
                    "percentage": {"numerator": 1000, "denominator": "MILLION"},
                }
            },
            id="delay",
        ),
        pytest.param(
            "abort: {httpStatus: 503, percentage: {value: 50}}",
            {
                "abort": {
                    "http_status": 503,
                    "percentage": {"numerator": 500000, "denominator": "MILLION"},
                }
            },
            id="abort",
        ),
        pytest.param(
            "abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}",
            {
                "abort": {
                    "grpc_status": 14,
                    "percentage": {"numerator": 1000000, "denominator": "MILLION"},
                }
            },
            id="gRPC",
        ),
        pytest.param(
            "delay: {fixedDelay: 1s}",
            {"delay": {"fixed_delay": "1s", "percentage": {"denominator": "MILLION"}}},
            id="no percentage is never",
        ),
        pytest.param("delay: {exponentialDelay: 1s}", None, id="exponential is ignored"),
    ],
)
def test_fault(text: str, settings: dict[str, Any] | None) -> None:
    spec = Decoder().model(HTTPFaultInjection, yaml.safe_load(text), "")
    route = route_components_pb2.Route()
    fault.apply(route, spec)
    expected = (
        {}
        if settings is None
        else {"typed_per_filter_config": {"envoy.filters.http.fault": TYPE | settings}}
    )
    assert plain(route) == expected

"""Nothing that is set and not read goes through, and the tables say only what exists."""

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from google.protobuf.message import Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import message_class, parse_json
from meshlab.proxy.config.unsupported import (
    EXTENSIONS,
    IGNORED,
    NEUTRAL,
    READ,
    TYPED_STRUCTS,
    find,
    refuse_unsupported,
)
from meshlab.proxy.config.xds import CLUSTER_TYPE, LISTENER_TYPE, RESOURCE_CLASSES, ROUTE_TYPE


@pytest.mark.parametrize("name", READ)
def test_read_fields_exist_and_lead_to_known_messages(name: str) -> None:
    fields = message_class(name).DESCRIPTOR.fields_by_name
    assert READ[name] <= set(fields), READ[name] - set(fields)
    for field in READ[name]:
        kind = fields[field].message_type
        if kind is None or kind.GetOptions().map_entry:
            continue
        assert kind.full_name in READ or kind.full_name.startswith("google.protobuf."), field


@pytest.mark.parametrize("table", [IGNORED, NEUTRAL])
def test_exceptions_exist_and_are_not_read(table) -> None:
    for name, exceptions in table.items():
        fields = set(message_class(name).DESCRIPTOR.fields_by_name)
        assert set(exceptions) <= fields, set(exceptions) - fields
        assert not READ[name] & set(exceptions)


def test_every_extension_has_a_known_type() -> None:
    for _, names in EXTENSIONS.values():
        for name in names:
            assert name in READ or name in TYPED_STRUCTS


def resource(type_url: str, value: dict[str, object]) -> Message:
    return parse_json(value, RESOURCE_CLASSES[type_url])


PREFIX = "type.googleapis.com/envoy.extensions"


@pytest.mark.parametrize(
    ("type_url", "value", "fields"),
    [
        pytest.param(
            CLUSTER_TYPE,
            {"name": "c", "health_checks": [{"timeout": "1s"}], "maglev_lb_config": {}},
            ["health_checks", "maglev_lb_config"],
            id="all problems at once",
        ),
        pytest.param(
            ROUTE_TYPE,
            {
                "virtual_hosts": [
                    {},
                    {
                        "routes": [
                            {"match": {"prefix": "/"}, "route": {"request_mirror_policies": [{}]}}
                        ]
                    },
                ]
            },
            ["virtual_hosts[1].routes[0].route.request_mirror_policies"],
            id="list positions",
        ),
        pytest.param(
            LISTENER_TYPE,
            {
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "tcp",
                                "typed_config": {
                                    "@type": f"{PREFIX}.filters.network.tcp_proxy.v3.TcpProxy",
                                    "hash_policy": [{}],
                                },
                            }
                        ]
                    }
                ]
            },
            ["filter_chains[0].filters[0].typed_config.hash_policy"],
            id="inside an extension",
        ),
        pytest.param(
            ROUTE_TYPE,
            {
                "virtual_hosts": [
                    {
                        "typed_per_filter_config": {
                            "envoy.filters.http.fault": {
                                "@type": f"{PREFIX}.filters.http.fault.v3.HTTPFault",
                                "downstream_nodes": ["n"],
                            }
                        }
                    }
                ]
            },
            [
                "virtual_hosts[0].typed_per_filter_config['envoy.filters.http.fault']"
                ".downstream_nodes"
            ],
            id="inside a map",
        ),
        pytest.param(
            LISTENER_TYPE,
            {
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "istio.stats",
                                "typed_config": {
                                    "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                                    "type_url": "type.googleapis.com/stats.PluginConfig",
                                    "value": {"metrics": []},
                                },
                            },
                            {
                                "name": "x",
                                "typed_config": {
                                    "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
                                    "type_url": "type.googleapis.com/x.Y",
                                },
                            },
                        ]
                    }
                ]
            },
            [
                "filter_chains[0].filters[0].typed_config.value.metrics",
                "filter_chains[0].filters[1].typed_config.type_url",
            ],
            id="typed structs",
        ),
        pytest.param(
            CLUSTER_TYPE,
            {"outlier_detection": {"enforcing_success_rate": 100}, "wait_for_warm_on_init": False},
            ["outlier_detection.enforcing_success_rate", "wait_for_warm_on_init"],
            id="not the neutral value",
        ),
    ],
)
def test_find(type_url: str, value: dict[str, object], fields: list[str]) -> None:
    assert [error.field for error in find(resource(type_url, value))] == fields


def test_neutral_and_ignored_fields_pass() -> None:
    value = {
        "name": "c",
        "outlier_detection": {"enforcing_success_rate": 0},
        "wait_for_warm_on_init": True,
        "dns_jitter": "1s",
        "circuit_breakers": {"thresholds": [{"max_connection_pools": 4294967295}]},
    }
    assert list(find(resource(CLUSTER_TYPE, value))) == []


def test_unknown_extension_is_named() -> None:
    message = resource(LISTENER_TYPE, {"filter_chains": [{"filters": [{"name": "lua"}]}]})
    message.filter_chains[0].filters[0].typed_config.type_url = "type.googleapis.com/lua.Lua"
    with pytest.raises(ConfigError) as caught:
        refuse_unsupported(message)
    assert str(caught.value) == (
        "filter_chains[0].filters[0].typed_config: "
        "lua.Lua is an extension that this proxy does not have"
    )


def test_damaged_extension_is_named() -> None:
    message = resource(LISTENER_TYPE, {"filter_chains": [{"filters": [{"name": "tcp"}]}]})
    config = message.filter_chains[0].filters[0].typed_config
    config.type_url = f"{PREFIX}.filters.network.tcp_proxy.v3.TcpProxy"
    config.value = b"\xff\xff"
    (error,) = find(message)
    assert error.field == "filter_chains[0].filters[0].typed_config"


def test_an_empty_bootstrap_passes() -> None:
    refuse_unsupported(Bootstrap())

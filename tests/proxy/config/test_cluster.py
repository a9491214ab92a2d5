"""Cluster and ClusterLoadAssignment in, core objects out."""

import pytest
from fixtures.envoy import Json, address, extension, message, typed_struct

from meshlab.errors import ConfigError
from meshlab.proxy.config.cluster import compile_cluster, is_http2
from meshlab.proxy.config.endpoint import compile_load_assignment
from meshlab.proxy.core.circuit_breaker import CircuitBreakers, Thresholds
from meshlab.proxy.core.cluster import (
    Cluster,
    Endpoint,
    LoadAssignment,
    Locality,
    LocalityEndpoints,
    TcpKeepalive,
    TransportSocketMatch,
)
from meshlab.proxy.core.http_connection_manager import MetadataExchange
from meshlab.proxy.core.listener import Address
from meshlab.proxy.core.matcher import StringMatch
from meshlab.proxy.core.outlier_detection import OutlierDetection
from meshlab.proxy.core.tls import SanMatch, TlsContext, UpstreamTls, ValidationContext

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
PEM = "-----BEGIN CERTIFICATE-----\n"


def compiled(**fields: object) -> Cluster:
    return compile_cluster(message("config.cluster.v3.Cluster", {"name": "c", **fields}))


def http(**fields: object) -> Json:
    return {
        "typed_extension_protocol_options": {
            OPTIONS: extension("upstreams.http.v3.HttpProtocolOptions", **fields)
        }
    }


def test_defaults() -> None:
    assert compiled() == Cluster(name="c")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        pytest.param(
            {"type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}, "service_name": "s"}},
            Cluster(name="c", type="eds", eds_service_name="s"),
            id="eds",
        ),
        pytest.param(
            {
                "type": "ORIGINAL_DST",
                "lb_policy": "CLUSTER_PROVIDED",
                "original_dst_lb_config": {"use_http_header": True, "upstream_port_override": 80},
                "upstream_bind_config": {
                    "source_address": {"address": "127.0.0.6", "port_value": 0}
                },
            },
            Cluster(
                name="c",
                type="original_dst",
                lb_policy="cluster_provided",
                original_dst_http_header=b"x-envoy-original-dst-host",
                original_dst_port=80,
                bind_source="127.0.0.6",
            ),
            id="original destination",
        ),
        pytest.param(
            {
                "lb_policy": "LEAST_REQUEST",
                "least_request_lb_config": {
                    "choice_count": 3,
                    "active_request_bias": {"default_value": 0.5, "runtime_key": "k"},
                },
                "common_lb_config": {
                    "healthy_panic_threshold": {"value": 0},
                    "locality_weighted_lb_config": {},
                },
            },
            Cluster(
                name="c",
                lb_policy="least_request",
                choice_count=3,
                active_request_bias=0.5,
                healthy_panic_percent=0.0,
                locality_weighted=True,
            ),
            id="least request",
        ),
        pytest.param(
            {
                "load_balancing_policy": {
                    "policies": [
                        {
                            "typed_extension_config": {
                                "name": "random",
                                "typed_config": extension(
                                    "load_balancing_policies.random.v3.Random"
                                ),
                            }
                        }
                    ]
                }
            },
            Cluster(name="c", lb_policy="random"),
            id="policy extension",
        ),
        pytest.param(
            {
                "circuit_breakers": {
                    "thresholds": [
                        {"max_connections": 1, "max_pending_requests": 2, "track_remaining": True},
                        {"priority": "HIGH", "retry_budget": {"budget_percent": {"value": 25}}},
                    ],
                    "per_host_thresholds": [{"max_connections": 7}],
                }
            },
            Cluster(
                name="c",
                circuit_breakers=CircuitBreakers(
                    default=Thresholds(
                        max_connections=1, max_pending_requests=2, track_remaining=True
                    ),
                    high=Thresholds(retry_budget_percent=25.0),
                    per_host_max_connections=7,
                ),
            ),
            id="circuit breakers",
        ),
        pytest.param(
            {
                "outlier_detection": {
                    "consecutive_5xx": 7,
                    "interval": "1s",
                    "base_ejection_time": "600s",
                    "enforcing_success_rate": 0,
                }
            },
            Cluster(
                name="c",
                outlier_detection=OutlierDetection(
                    consecutive_5xx=7,
                    interval=1.0,
                    base_ejection_time=600.0,
                    max_ejection_time=600.0,
                    always_eject_one_host=False,
                ),
            ),
            id="outlier detection",
        ),
        pytest.param(
            http(
                common_http_protocol_options={
                    "idle_timeout": "0s",
                    "max_requests_per_connection": 9,
                },
                explicit_http_config={"http_protocol_options": {"enable_trailers": True}},
            ),
            Cluster(
                name="c", idle_timeout=0.0, max_requests_per_connection=9, enable_trailers=True
            ),
            id="http options",
        ),
        pytest.param(
            {
                "alt_stat_name": "c;",
                "connect_timeout": "0.25s",
                "metadata": {"filter_metadata": {"istio": {"services": [{"name": "n"}]}}},
                "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
                "filters": [
                    {
                        "name": "mx",
                        "typed_config": typed_struct(
                            "envoy.tcp.metadataexchange.config.MetadataExchange"
                        ),
                    }
                ],
            },
            Cluster(
                name="c",
                stat_name="c;",
                connect_timeout=0.25,
                metadata={"istio": {"services": [{"name": "n"}]}},
                tcp_keepalive=TcpKeepalive(time=300),
                filters=(MetadataExchange(),),
            ),
            id="the rest",
        ),
    ],
)
def test_cluster(fields: Json, wanted: Cluster) -> None:
    assert compiled(**fields) == wanted


def upstream_tls(**common: object) -> Json:
    config = extension(
        "transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=common,
        sni="outbound_.80_._.web",
    )
    return {"name": "tls", "typed_config": config}


def test_sockets() -> None:
    matches = [
        {
            "name": "tlsMode-istio",
            "match": {"tlsMode": "istio"},
            "transport_socket": upstream_tls(
                validation_context={
                    "trusted_ca": {"inline_string": PEM},
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": "spiffe://x"}}
                    ],
                },
                alpn_protocols=["istio"],
            ),
        },
        {
            "name": "tlsMode-disabled",
            "match": {},
            "transport_socket": {
                "name": "raw",
                "typed_config": extension("transport_sockets.raw_buffer.v3.RawBuffer"),
            },
        },
    ]
    assert compiled(transport_socket_matches=matches).transport_socket_matches == (
        TransportSocketMatch(
            name="tlsMode-istio",
            match={"tlsMode": "istio"},
            tls=UpstreamTls(
                sni="outbound_.80_._.web",
                context=TlsContext(
                    validation=ValidationContext(
                        trusted_ca=PEM.encode(),
                        subject_alt_names=(
                            SanMatch(
                                match=StringMatch(kind="exact", value=b"spiffe://x"), kind="uri"
                            ),
                        ),
                    ),
                    alpn_protocols=("istio",),
                ),
            ),
        ),
        TransportSocketMatch(name="tlsMode-disabled", match={}, tls=None),
    )


def test_http2_is_seen() -> None:
    def cluster(**fields: object) -> bool:
        return is_http2(message("config.cluster.v3.Cluster", {"name": "c", **fields}))

    assert cluster(**http(explicit_http_config={"http2_protocol_options": {}}))
    assert cluster(http2_protocol_options={})
    assert not cluster(**http(explicit_http_config={"http_protocol_options": {}}))
    assert not cluster()


def test_load_assignment() -> None:
    value = {
        "cluster_name": "s",
        "endpoints": [
            {
                "locality": {"region": "r", "zone": "z"},
                "load_balancing_weight": 3,
                "priority": 1,
                "lb_endpoints": [
                    {
                        "endpoint": {"address": address(80, "10.0.0.1"), "hostname": "h"},
                        "health_status": "DRAINING",
                        "load_balancing_weight": 5,
                        "metadata": {
                            "filter_metadata": {
                                "envoy.transport_socket_match": {"tlsMode": "istio"}
                            }
                        },
                    },
                    {"endpoint": {"address": {"pipe": {"path": "/x"}}}},
                ],
            }
        ],
        "policy": {"overprovisioning_factor": 100},
    }
    found = compile_load_assignment(message("config.endpoint.v3.ClusterLoadAssignment", value))
    assert found == LoadAssignment(
        cluster_name="s",
        overprovisioning_factor=100,
        localities=(
            LocalityEndpoints(
                locality=Locality("r", "z"),
                weight=3,
                priority=1,
                endpoints=(
                    Endpoint(
                        address=Address("10.0.0.1", 80),
                        hostname="h",
                        health="draining",
                        weight=5,
                        metadata={"envoy.transport_socket_match": {"tlsMode": "istio"}},
                    ),
                    Endpoint(address=Address("", path="/x")),
                ),
            ),
        ),
    )


def static(host: str, kind: str) -> Json:
    endpoint = {"endpoint": {"address": address(80, host)}}
    return {
        "type": kind,
        "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"lb_policy": "RING_HASH"}, "lb_policy", id="policy"),
        pytest.param({"type": "ORIGINAL_DST"}, "lb_policy", id="original dst has its own policy"),
        pytest.param({"cluster_type": {"name": "x"}}, "cluster_type", id="cluster extension"),
        pytest.param(
            {
                "type": "EDS",
                "eds_cluster_config": {"eds_config": {"path_config_source": {"path": "/x"}}},
            },
            "eds_cluster_config.eds_config",
            id="eds from a file",
        ),
        pytest.param(
            static("name", "STATIC"),
            "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
            id="name in a static cluster",
        ),
        pytest.param({"connect_timeout": "0s"}, "connect_timeout", id="no time to connect"),
        pytest.param(
            {
                "transport_socket": upstream_tls(
                    validation_context={
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": "x"}}
                        ]
                    }
                )
            },
            "transport_socket.typed_config.common_tls_context.validation_context.trusted_ca",
            id="names without a CA",
        ),
        pytest.param(
            http(common_http_protocol_options={"max_stream_duration": "1s"}),
            f"typed_extension_protocol_options['{OPTIONS}'].common_http_protocol_options"
            ".max_stream_duration",
            id="option of listeners",
        ),
    ],
)
def test_refused(fields: Json, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(**fields)
    assert caught.value.field == field


def test_names_are_for_dns_clusters() -> None:
    assert compiled(**static("name", "STRICT_DNS")).load_assignment == LoadAssignment(
        cluster_name="c",
        localities=(LocalityEndpoints(endpoints=(Endpoint(address=Address("name", 80)),)),),
    )

"""Listener in, core objects out."""

import pytest
from fixtures.envoy import Json, address, chain, extension, listener, manager, message, router, tcp
from fixtures.envoy import typed_struct as struct

from meshlab.errors import ConfigError
from meshlab.proxy.config.listener import compile_listener
from meshlab.proxy.core.access_log import AccessLogFilter, FileAccessLog, GrpcAccessLog
from meshlab.proxy.core.filter_chain import FilterChain, FilterChainMatch
from meshlab.proxy.core.http_connection_manager import (
    Alpn,
    ClientCertificateDetails,
    HttpConnectionManager,
    IstioStats,
    MetadataExchange,
    Noop,
    Router,
)
from meshlab.proxy.core.listener import Address, Inspector, Listener
from meshlab.proxy.core.matcher import StringMatch
from meshlab.proxy.core.route import RouteConfiguration
from meshlab.proxy.core.tcp_proxy import TcpProxy
from meshlab.proxy.core.tls import DownstreamTls, SanMatch, TlsContext, ValidationContext
from meshlab.proxy.core.weighted_cluster import WeightedCluster

ADDRESS = Address("127.0.0.1", 80)


def compiled(value: Json) -> Listener:
    return compile_listener(message("config.listener.v3.Listener", value))


def terminal(config: Json, **fields: object) -> object:
    return compiled(listener(chain(config), **fields)).filter_chains[0].terminal


def test_defaults() -> None:
    assert compiled(listener(chain(tcp("c")))) == Listener(
        name="l",
        address=ADDRESS,
        filter_chains=(FilterChain(terminal=TcpProxy(stat_prefix="tcp", cluster="c")),),
    )


def test_without_a_name_it_is_called_by_its_address() -> None:
    assert compiled(listener(chain(tcp("c")), name="")).name == "127.0.0.1:80"


def inspector(kind: str, **fields: object) -> Json:
    name = "".join(word.capitalize() for word in kind.split("_"))
    config = extension(f"filters.listener.{kind}.v3.{name}")
    return {"name": kind, "typed_config": config, **fields}


def test_everything() -> None:
    ports = {"destination_port_range": {"start": 3306, "end": 3307}}
    more = {"destination_port_range": {"start": 90, "end": 99}}
    value = listener(
        chain(tcp("c")),
        default_filter_chain=chain(tcp("d")),
        additional_addresses=[{"address": address(81)}],
        bind_to_port=False,
        use_original_dst=True,
        listener_filters=[
            inspector("original_dst"),
            inspector("tls_inspector"),
            inspector("http_inspector", filter_disabled={"or_match": {"rules": [ports, more]}}),
        ],
        listener_filters_timeout="0s",
        continue_on_listener_filters_timeout=True,
        traffic_direction="OUTBOUND",
        enable_reuse_port=True,
        tcp_backlog_size=7,
        per_connection_buffer_limit_bytes=1024,
        stat_prefix="s",
    )
    assert compiled(value) == Listener(
        name="l",
        address=ADDRESS,
        additional_addresses=(Address("127.0.0.1", 81),),
        bind_to_port=False,
        use_original_dst=True,
        original_dst_filter=True,
        tls_inspector=Inspector(),
        http_inspector=Inspector(disabled_port_ranges=((3306, 3307), (90, 99))),
        listener_filters_timeout=0.0,
        continue_on_listener_filters_timeout=True,
        filter_chains=(FilterChain(terminal=TcpProxy(stat_prefix="tcp", cluster="c")),),
        default_filter_chain=FilterChain(terminal=TcpProxy(stat_prefix="tcp", cluster="d")),
        traffic_direction="outbound",
        stat_prefix="s",
        reuse_port=True,
        tcp_backlog=7,
        buffer_limit=1024,
    )


def test_filter_chain_match() -> None:
    match = {
        "destination_port": 8080,
        "prefix_ranges": [{"address_prefix": "10.0.0.7", "prefix_len": 8}],
        "server_names": ["*.A.test"],
        "transport_protocol": "tls",
        "application_protocols": ["istio", "h2"],
        "source_type": "SAME_IP_OR_LOOPBACK",
        "source_prefix_ranges": [{"address_prefix": "::1", "prefix_len": 128}],
        "source_ports": [1],
    }
    value = listener(chain(tcp("c"), filter_chain_match=match, name="n"))
    assert compiled(value).filter_chains[0] == FilterChain(
        name="n",
        terminal=TcpProxy(stat_prefix="tcp", cluster="c"),
        match=FilterChainMatch(
            destination_port=8080,
            prefix_ranges=("10.0.0.0/8",),
            server_names=("*.a.test",),
            transport_protocol="tls",
            application_protocols=("istio", "h2"),
            source_type="same_ip_or_loopback",
            source_prefix_ranges=("::1/128",),
            source_ports=(1,),
        ),
    )


def test_tcp_proxy() -> None:
    config = extension(
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix="s",
        weighted_clusters={"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]},
        idle_timeout="0s",
        max_connect_attempts=3,
    )
    assert terminal(config) == TcpProxy(
        stat_prefix="s",
        weighted_clusters=(
            WeightedCluster(name="a", weight=1),
            WeightedCluster(name="b", weight=3),
        ),
        idle_timeout=0.0,
        max_connect_attempts=3,
    )


def test_connection_manager_defaults() -> None:
    assert terminal(manager()) == HttpConnectionManager(
        stat_prefix="http", route_config=RouteConfiguration(name=""), http_filters=(Router(),)
    )


def test_connection_manager() -> None:
    config = manager(
        rds={"route_config_name": "http.80", "config_source": {"ads": {}}},
        server_name="istio-envoy",
        server_header_transformation="PASS_THROUGH",
        scheme_header_transformation={"scheme_to_overwrite": "https"},
        use_remote_address=True,
        xff_num_trusted_hops=2,
        internal_address_config={"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]},
        generate_request_id=False,
        forward_client_cert_details="APPEND_FORWARD",
        set_current_client_cert_details={"subject": True, "uri": True, "dns": True},
        normalize_path=True,
        path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        proxy_100_continue=True,
        stream_idle_timeout="0s",
        max_request_headers_kb=8,
        common_http_protocol_options={"idle_timeout": "3s", "max_headers_count": 5},
        http_protocol_options={"accept_http_10": True, "enable_trailers": True},
        http2_protocol_options={"max_concurrent_streams": 10},
    )
    assert terminal(config) == HttpConnectionManager(
        stat_prefix="http",
        rds_name="http.80",
        http_filters=(Router(),),
        server_name=b"istio-envoy",
        server_header="pass_through",
        scheme_overwrite="https",
        use_remote_address=True,
        xff_num_trusted_hops=2,
        internal_addresses=("10.0.0.0/8",),
        generate_request_id=False,
        forward_client_cert="append_forward",
        client_cert_details=ClientCertificateDetails(subject=True, uri=True, dns=True),
        normalize_path=True,
        escaped_slashes="unescape_forward",
        upgrades={b"websocket": True},
        proxy_100_continue=True,
        stream_idle_timeout=0.0,
        max_request_headers_bytes=8192,
        idle_timeout=3.0,
        max_headers_count=5,
        accept_http_10=True,
        enable_trailers=True,
    )


ALPN = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"


@pytest.mark.parametrize(
    ("direction", "reporter"),
    [("INBOUND", "destination"), ("OUTBOUND", "source"), ("UNSPECIFIED", "source")],
)
def test_istio_filters(direction: str, reporter: str) -> None:
    filters = [
        {"name": "mx", "typed_config": struct("io.istio.http.peer_metadata.Config")},
        {
            "name": "grpc_stats",
            "typed_config": extension(
                "filters.http.grpc_stats.v3.FilterConfig", emit_filter_state=True
            ),
        },
        {
            "name": "alpn",
            "typed_config": struct(
                ALPN,
                alpn_override=[
                    {"upstream_protocol": "HTTP10", "alpn_override": ["x"]},
                    {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio"]},
                ],
            ),
        },
        {"name": "off", "disabled": True},
        {"name": "cors", "typed_config": extension("filters.http.cors.v3.Cors")},
        {
            "name": "stats",
            "typed_config": struct("stats.PluginConfig", disable_host_header_fallback=True),
        },
        {"name": "plain", "typed_config": {"@type": "type.googleapis.com/stats.PluginConfig"}},
        router(),
    ]
    found = terminal(manager(http_filters=filters), traffic_direction=direction)
    assert isinstance(found, HttpConnectionManager)
    assert found.http_filters == (
        MetadataExchange(),
        Noop(name="grpc_stats"),
        Alpn(http1=("istio-http/1.1", "istio")),
        Noop(name="cors"),
        IstioStats(reporter=reporter, disable_host_header_fallback=True),  # type: ignore[arg-type]
        IstioStats(reporter=reporter),  # type: ignore[arg-type]
        Router(),
    )


def test_istio_network_filters() -> None:
    value = listener(
        {
            "filters": [
                {
                    "name": "mx",
                    "typed_config": struct("envoy.tcp.metadataexchange.config.MetadataExchange"),
                },
                {"name": "stats", "typed_config": struct("stats.PluginConfig")},
                {"name": "tcp", "typed_config": tcp("c")},
            ]
        },
        traffic_direction="INBOUND",
    )
    found = compiled(value).filter_chains[0]
    assert found.filters == (MetadataExchange(), IstioStats(reporter="destination"))


def log(config: Json, **fields: object) -> Json:
    return {"name": "log", "typed_config": config, **fields}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param(
            log(extension("access_loggers.file.v3.FileAccessLog", path="/x")),
            FileAccessLog(path="/x"),
            id="Envoy's own format",
        ),
        pytest.param(
            log(
                extension(
                    "access_loggers.file.v3.FileAccessLog",
                    path="/x",
                    log_format={"text_format_source": {"inline_string": "%PROTOCOL%\n"}},
                ),
                filter={"response_flag_filter": {"flags": ["NR"]}},
            ),
            FileAccessLog(
                path="/x",
                text_format="%PROTOCOL%\n",
                filter=AccessLogFilter(response_flags=("NR",)),
            ),
            id="text",
        ),
        pytest.param(
            log(
                extension(
                    "access_loggers.stream.v3.StdoutAccessLog",
                    log_format={
                        "json_format": {"a": "%PROTOCOL%", "b": {"c": 1}},
                        "omit_empty_values": True,
                    },
                ),
                filter={
                    "and_filter": {
                        "filters": [
                            {
                                "status_code_filter": {
                                    "comparison": {
                                        "op": "GE",
                                        "value": {"default_value": 400, "runtime_key": "k"},
                                    }
                                }
                            },
                            {
                                "duration_filter": {
                                    "comparison": {
                                        "op": "GE",
                                        "value": {"default_value": 1500, "runtime_key": "k"},
                                    }
                                }
                            },
                        ]
                    }
                },
            ),
            FileAccessLog(
                path="/dev/stdout",
                json_format={"a": "%PROTOCOL%", "b": {"c": 1.0}},
                omit_empty_values=True,
                filter=AccessLogFilter(status_at_least=400, duration_at_least=1.5),
            ),
            id="json",
        ),
        pytest.param(
            log(
                extension(
                    "access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
                    common_config={
                        "log_name": "n",
                        "grpc_service": {"envoy_grpc": {"cluster_name": "als"}},
                        "buffer_flush_interval": "0.5s",
                        "buffer_size_bytes": 0,
                        "filter_state_objects_to_log": ["upstream_peer"],
                    },
                    additional_request_headers_to_log=["X-A"],
                )
            ),
            GrpcAccessLog(
                kind="http",
                cluster="als",
                log_name="n",
                buffer_flush_interval=0.5,
                buffer_size_bytes=0,
                filter_state_keys=("upstream_peer",),
                request_headers=(b"x-a",),
            ),
            id="als",
        ),
    ],
)
def test_access_log(value: Json, wanted: FileAccessLog | GrpcAccessLog) -> None:
    found = terminal(manager(access_log=[value]))
    assert isinstance(found, HttpConnectionManager)
    assert found.access_logs == (wanted,)


def tls(**common: object) -> Json:
    return {
        "name": "tls",
        "typed_config": extension(
            "transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context=common,
            require_client_certificate=True,
        ),
    }


SDS = {"ads": {}}


def test_tls() -> None:
    socket = tls(
        tls_certificate_sds_secret_configs=[{"name": "default", "sds_config": SDS}],
        combined_validation_context={
            "default_validation_context": {
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"prefix": "spiffe://a/"}}
                ]
            },
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SDS},
        },
        alpn_protocols=["h2", "http/1.1"],
        tls_params={
            "tls_minimum_protocol_version": "TLSv1_2",
            "tls_maximum_protocol_version": "TLSv1_3",
            "cipher_suites": ["[A|B]", "C"],
        },
    )
    value = listener(chain(tcp("c"), transport_socket=socket))
    assert compiled(value).filter_chains[0].tls == DownstreamTls(
        require_client_certificate=True,
        context=TlsContext(
            certificates=("default",),
            validation=ValidationContext(
                subject_alt_names=(
                    SanMatch(match=StringMatch(kind="prefix", value=b"spiffe://a/"), kind="uri"),
                )
            ),
            validation_secret="ROOTCA",
            alpn_protocols=("h2", "http/1.1"),
            cipher_suites=("A", "B", "C"),
        ),
    )


CONFIG = "filter_chains[0].filters[0].typed_config"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param(listener(), "filter_chains", id="no chain"),
        pytest.param(
            listener(chain(tcp("c")), address=address(80, "name")),
            "address.socket_address.address",
            id="name",
        ),
        pytest.param(
            listener(chain(tcp("c")), chain(tcp("d"))),
            "filter_chains[1].filter_chain_match",
            id="same criteria",
        ),
        pytest.param(listener({"filters": []}), "filter_chains[0].filters", id="no filter"),
        pytest.param(
            listener(chain(manager(codec_type="HTTP2"))), f"{CONFIG}.codec_type", id="http/2"
        ),
        pytest.param(
            listener(chain(manager(http_filters=[]))), f"{CONFIG}.http_filters", id="no router"
        ),
        pytest.param(
            listener(chain(manager(http_filters=[router(), router()]))),
            f"{CONFIG}.http_filters[1]",
            id="behind the router",
        ),
        pytest.param(
            listener(
                chain(
                    manager(
                        access_log=[
                            log(
                                extension(
                                    "access_loggers.file.v3.FileAccessLog",
                                    path="/x",
                                    log_format={"text_format_source": {"inline_string": "%NO%"}},
                                )
                            )
                        ]
                    )
                )
            ),
            f"{CONFIG}.access_log[0].typed_config.log_format",
            id="unknown operator",
        ),
        pytest.param(
            listener(chain(tcp("c"), transport_socket=tls())),
            "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates",
            id="server without certificate",
        ),
        pytest.param(
            listener(
                chain(
                    tcp("c"),
                    transport_socket=tls(
                        tls_certificate_sds_secret_configs=[{"name": "d"}],
                        tls_params={"tls_minimum_protocol_version": "TLSv1_0"},
                    ),
                )
            ),
            "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_params"
            ".tls_minimum_protocol_version",
            id="old TLS",
        ),
        pytest.param(
            listener(
                chain(tcp("c")),
                listener_filters=[inspector("tls_inspector", filter_disabled={"any_match": True})],
            ),
            "listener_filters[0].filter_disabled",
            id="other predicate",
        ),
    ],
)
def test_refused(value: Json, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(value)
    assert caught.value.field == field

"""Name by its path every field and extension that this proxy does not do.

One table says which fields of which protobuf message the compilers of this package read. `find`
walks a message, through every `Any`, and reports whatever is set and not in the table. So a field
that is new in the API is refused until somebody reads it: nothing is ignored by accident.

Fields that may be ignored stand in `IGNORED`, each with the reason why nobody will miss it.
Fields that may be set only to the value that switches them off stand in `NEUTRAL`.
"""

from collections.abc import Iterator, Mapping
from typing import Any as Anything

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import (
    TYPED_STRUCT_NAMES,
    join,
    message_class,
    type_name,
    unpack_typed_struct,
)

BOOTSTRAP = "envoy.config.bootstrap.v3"
CORE = "envoy.config.core.v3"
LISTENER = "envoy.config.listener.v3"
HCM = "envoy.extensions.filters.network.http_connection_manager.v3"
TCP = "envoy.extensions.filters.network.tcp_proxy.v3"
ROUTE = "envoy.config.route.v3"
CLUSTER = "envoy.config.cluster.v3"
ENDPOINT = "envoy.config.endpoint.v3"
TLS = "envoy.extensions.transport_sockets.tls.v3"
UPSTREAM = "envoy.extensions.upstreams.http.v3"
LOG = "envoy.config.accesslog.v3"
LOGGER = "envoy.extensions.access_loggers"
MATCHER = "envoy.type.matcher.v3"
HTTP = "envoy.extensions.filters.http"

EXTENSIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "envoy.filters.listener.original_dst": (
        "envoy.filters.listener",
        ("envoy.extensions.filters.listener.original_dst.v3.OriginalDst",),
    ),
    "envoy.filters.listener.tls_inspector": (
        "envoy.filters.listener",
        ("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",),
    ),
    "envoy.filters.listener.http_inspector": (
        "envoy.filters.listener",
        ("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",),
    ),
    "envoy.filters.network.http_connection_manager": (
        "envoy.filters.network",
        (f"{HCM}.HttpConnectionManager",),
    ),
    "envoy.filters.network.tcp_proxy": ("envoy.filters.network", (f"{TCP}.TcpProxy",)),
    "envoy.filters.http.router": ("envoy.filters.http", (f"{HTTP}.router.v3.Router",)),
    "envoy.filters.http.fault": ("envoy.filters.http", (f"{HTTP}.fault.v3.HTTPFault",)),
    "envoy.filters.http.cors": ("envoy.filters.http", (f"{HTTP}.cors.v3.Cors",)),
    "envoy.filters.http.grpc_stats": (
        "envoy.filters.http",
        (f"{HTTP}.grpc_stats.v3.FilterConfig",),
    ),
    "istio.stats": ("envoy.filters.http", ("stats.PluginConfig",)),
    "istio.alpn": (
        "envoy.filters.http",
        ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",),
    ),
    "istio.metadata_exchange": (
        "envoy.filters.http",
        (
            "io.istio.http.peer_metadata.Config",
            "envoy.tcp.metadataexchange.config.MetadataExchange",
        ),
    ),
    "envoy.transport_sockets.tls": (
        "envoy.transport_sockets.upstream",
        (f"{TLS}.UpstreamTlsContext", f"{TLS}.DownstreamTlsContext"),
    ),
    "envoy.transport_sockets.raw_buffer": (
        "envoy.transport_sockets.upstream",
        ("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",),
    ),
    "envoy.access_loggers.file": ("envoy.access_loggers", (f"{LOGGER}.file.v3.FileAccessLog",)),
    "envoy.access_loggers.stdout": (
        "envoy.access_loggers",
        (f"{LOGGER}.stream.v3.StdoutAccessLog",),
    ),
    "envoy.access_loggers.http_grpc": (
        "envoy.access_loggers",
        (f"{LOGGER}.grpc.v3.HttpGrpcAccessLogConfig",),
    ),
    "envoy.access_loggers.tcp_grpc": (
        "envoy.access_loggers",
        (f"{LOGGER}.grpc.v3.TcpGrpcAccessLogConfig",),
    ),
    "envoy.retry_host_predicates.previous_hosts": (
        "envoy.retry_host_predicates",
        ("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",),
    ),
    "envoy.request_id.uuid": (
        "envoy.request_id",
        ("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",),
    ),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": (
        "envoy.upstream_options",
        (f"{UPSTREAM}.HttpProtocolOptions",),
    ),
    "envoy.network.dns_resolver.cares": (
        "envoy.network.dns_resolver",
        ("envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",),
    ),
    "envoy.load_balancing_policies.round_robin": (
        "envoy.load_balancing_policies",
        ("envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",),
    ),
    "envoy.load_balancing_policies.least_request": (
        "envoy.load_balancing_policies",
        ("envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",),
    ),
    "envoy.load_balancing_policies.random": (
        "envoy.load_balancing_policies",
        ("envoy.extensions.load_balancing_policies.random.v3.Random",),
    ),
}
"""What this proxy has: Envoy's name of each extension → category, types of its configuration.

Sent as `node.extensions`, which is how a control plane learns what it may use.
"""

READ: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        # Bootstrap
        f"{BOOTSTRAP}.Bootstrap": "node static_resources dynamic_resources admin layered_runtime"
        " cluster_manager stats_flush_interval",
        f"{BOOTSTRAP}.Bootstrap.StaticResources": "listeners clusters secrets",
        f"{BOOTSTRAP}.Bootstrap.DynamicResources": "lds_config cds_config ads_config",
        f"{BOOTSTRAP}.Admin": "address",
        f"{BOOTSTRAP}.LayeredRuntime": "layers",
        f"{BOOTSTRAP}.RuntimeLayer": "name static_layer",
        f"{BOOTSTRAP}.ClusterManager": "",
        # Core
        f"{CORE}.Node": "id cluster metadata locality user_agent_name user_agent_version"
        " user_agent_build_version extensions client_features",
        f"{CORE}.BuildVersion": "version metadata",
        f"{CORE}.Extension": "name category version type_urls type_descriptor disabled",
        f"{CORE}.Locality": "region zone sub_zone",
        f"{CORE}.Address": "socket_address pipe",
        f"{CORE}.SocketAddress": "protocol address port_value",
        f"{CORE}.Pipe": "path mode",
        f"{CORE}.CidrRange": "address_prefix prefix_len",
        f"{CORE}.Metadata": "filter_metadata",
        f"{CORE}.ConfigSource": "api_config_source ads initial_fetch_timeout resource_api_version",
        f"{CORE}.AggregatedConfigSource": "",
        f"{CORE}.ApiConfigSource": "api_type transport_api_version grpc_services"
        " set_node_on_first_message_only",
        f"{CORE}.GrpcService": "envoy_grpc initial_metadata",
        f"{CORE}.GrpcService.EnvoyGrpc": "cluster_name authority retry_policy",
        f"{CORE}.RetryPolicy": "retry_back_off",
        f"{CORE}.BackoffStrategy": "base_interval max_interval",
        f"{CORE}.HeaderValue": "key value",
        f"{CORE}.HeaderValueOption": "header append append_action keep_empty_value",
        f"{CORE}.DataSource": "filename inline_bytes inline_string environment_variable",
        f"{CORE}.TransportSocket": "name typed_config",
        f"{CORE}.TypedExtensionConfig": "name typed_config",
        f"{CORE}.RuntimeFractionalPercent": "default_value",
        f"{CORE}.RuntimeUInt32": "default_value",
        f"{CORE}.RuntimeDouble": "default_value",
        f"{CORE}.HttpProtocolOptions": "idle_timeout max_connection_duration max_headers_count"
        " max_response_headers_kb max_stream_duration headers_with_underscores_action"
        " max_requests_per_connection",
        f"{CORE}.Http1ProtocolOptions": "allow_absolute_url accept_http_10 default_host_for_http_10"
        " enable_trailers override_stream_error_on_invalid_http_message",
        f"{CORE}.Http2ProtocolOptions": "",
        f"{CORE}.UpstreamHttpProtocolOptions": "auto_sni auto_san_validation",
        f"{CORE}.SchemeHeaderTransformation": "scheme_to_overwrite",
        f"{CORE}.SubstitutionFormatString": "text_format text_format_source json_format"
        " omit_empty_values",
        f"{CORE}.BindConfig": "source_address",
        f"{CORE}.TcpKeepalive": "keepalive_probes keepalive_time keepalive_interval",
        "envoy.type.v3.FractionalPercent": "numerator denominator",
        "envoy.type.v3.Percent": "value",
        "envoy.type.v3.Int64Range": "start end",
        "envoy.type.v3.Int32Range": "start end",
        "envoy.type.v3.SemanticVersion": "major_number minor_number patch",
        # Listener
        f"{LISTENER}.Listener": "name address additional_addresses stat_prefix filter_chains"
        " use_original_dst default_filter_chain per_connection_buffer_limit_bytes deprecated_v1"
        " listener_filters listener_filters_timeout continue_on_listener_filters_timeout"
        " traffic_direction reuse_port enable_reuse_port access_log tcp_backlog_size bind_to_port",
        f"{LISTENER}.Listener.DeprecatedV1": "bind_to_port",
        f"{LISTENER}.AdditionalAddress": "address",
        f"{LISTENER}.ListenerFilter": "name typed_config filter_disabled",
        f"{LISTENER}.ListenerFilterChainMatchPredicate": "or_match destination_port_range",
        f"{LISTENER}.ListenerFilterChainMatchPredicate.MatchSet": "rules",
        f"{LISTENER}.FilterChain": "filter_chain_match filters transport_socket"
        " transport_socket_connect_timeout name",
        f"{LISTENER}.FilterChainMatch": "destination_port prefix_ranges"
        " direct_source_prefix_ranges source_type source_prefix_ranges source_ports server_names"
        " transport_protocol application_protocols",
        f"{LISTENER}.Filter": "name typed_config",
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst": "",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": "",
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": "",
        # Network filters
        f"{TCP}.TcpProxy": "stat_prefix cluster weighted_clusters idle_timeout access_log"
        " max_connect_attempts max_downstream_connection_duration",
        f"{TCP}.TcpProxy.WeightedCluster": "clusters",
        f"{TCP}.TcpProxy.WeightedCluster.ClusterWeight": "name weight",
        f"{HCM}.HttpConnectionManager": "codec_type stat_prefix rds route_config http_filters"
        " common_http_protocol_options http_protocol_options server_name"
        " server_header_transformation scheme_header_transformation max_request_headers_kb"
        " stream_idle_timeout request_timeout request_headers_timeout drain_timeout"
        " delayed_close_timeout access_log use_remote_address xff_num_trusted_hops"
        " internal_address_config skip_xff_append via generate_request_id"
        " preserve_external_request_id always_set_request_id_in_response"
        " forward_client_cert_details set_current_client_cert_details proxy_100_continue"
        " upgrade_configs normalize_path merge_slashes path_with_escaped_slashes_action"
        " request_id_extension strip_matching_host_port strip_any_host_port"
        " stream_error_on_invalid_http_message",
        f"{HCM}.HttpConnectionManager.UpgradeConfig": "upgrade_type enabled",
        f"{HCM}.HttpConnectionManager.InternalAddressConfig": "cidr_ranges",
        f"{HCM}.HttpConnectionManager.SetCurrentClientCertDetails": "subject cert chain dns uri",
        f"{HCM}.RequestIDExtension": "typed_config",
        f"{HCM}.Rds": "config_source route_config_name",
        f"{HCM}.HttpFilter": "name typed_config is_optional disabled",
        "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig": "",
        # HTTP filters
        f"{HTTP}.router.v3.Router": "dynamic_stats suppress_envoy_headers",
        f"{HTTP}.fault.v3.HTTPFault": "delay abort upstream_cluster headers max_active_faults",
        f"{HTTP}.fault.v3.FaultAbort": "http_status grpc_status percentage",
        "envoy.extensions.filters.common.fault.v3.FaultDelay": "fixed_delay percentage",
        f"{HTTP}.cors.v3.Cors": "",
        f"{HTTP}.grpc_stats.v3.FilterConfig": "",
        # Routes
        f"{ROUTE}.RouteConfiguration": "name virtual_hosts internal_only_headers"
        " response_headers_to_add response_headers_to_remove request_headers_to_add"
        " request_headers_to_remove most_specific_header_mutations_wins validate_clusters"
        " max_direct_response_body_size_bytes ignore_port_in_host_matching",
        f"{ROUTE}.VirtualHost": "name domains routes require_tls request_headers_to_add"
        " request_headers_to_remove response_headers_to_add response_headers_to_remove"
        " typed_per_filter_config include_request_attempt_count"
        " include_attempt_count_in_response retry_policy metadata",
        f"{ROUTE}.Route": "name match route redirect direct_response metadata decorator"
        " typed_per_filter_config request_headers_to_add request_headers_to_remove"
        " response_headers_to_add response_headers_to_remove stat_prefix",
        f"{ROUTE}.RouteMatch": "prefix path safe_regex path_separated_prefix case_sensitive"
        " runtime_fraction headers query_parameters grpc",
        f"{ROUTE}.RouteMatch.GrpcRouteMatchOptions": "",
        f"{ROUTE}.RouteAction": "cluster cluster_header weighted_clusters"
        " cluster_not_found_response_code prefix_rewrite regex_rewrite host_rewrite_literal"
        " auto_host_rewrite host_rewrite_header append_x_forwarded_host timeout idle_timeout"
        " retry_policy priority upgrade_configs max_stream_duration",
        f"{ROUTE}.RouteAction.UpgradeConfig": "upgrade_type enabled",
        f"{ROUTE}.RouteAction.MaxStreamDuration": "",
        f"{ROUTE}.WeightedCluster": "clusters",
        f"{ROUTE}.WeightedCluster.ClusterWeight": "name weight request_headers_to_add"
        " request_headers_to_remove response_headers_to_add response_headers_to_remove"
        " host_rewrite_literal",
        f"{ROUTE}.RedirectAction": "https_redirect scheme_redirect host_redirect port_redirect"
        " path_redirect prefix_rewrite regex_rewrite response_code strip_query",
        f"{ROUTE}.DirectResponseAction": "status body",
        f"{ROUTE}.Decorator": "operation propagate",
        f"{ROUTE}.HeaderMatcher": "name exact_match safe_regex_match range_match present_match"
        " prefix_match suffix_match contains_match string_match invert_match"
        " treat_missing_header_as_empty",
        f"{ROUTE}.QueryParameterMatcher": "name string_match present_match",
        f"{ROUTE}.RetryPolicy": "retry_on num_retries per_try_timeout per_try_idle_timeout"
        " retry_host_predicate host_selection_retry_max_attempts retriable_status_codes"
        " retry_back_off retriable_headers retriable_request_headers",
        f"{ROUTE}.RetryPolicy.RetryHostPredicate": "name typed_config",
        f"{ROUTE}.RetryPolicy.RetryBackOff": "base_interval max_interval",
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate": "",
        f"{MATCHER}.StringMatcher": "exact prefix suffix safe_regex contains ignore_case",
        f"{MATCHER}.RegexMatcher": "regex",
        f"{MATCHER}.RegexMatchAndSubstitute": "pattern substitution",
        # Clusters
        f"{CLUSTER}.Cluster": "transport_socket_matches name alt_stat_name type"
        " eds_cluster_config connect_timeout per_connection_buffer_limit_bytes lb_policy"
        " load_assignment max_requests_per_connection circuit_breakers"
        " common_http_protocol_options http_protocol_options http2_protocol_options"
        " upstream_http_protocol_options typed_extension_protocol_options dns_refresh_rate"
        " respect_dns_ttl dns_lookup_family typed_dns_resolver_config outlier_detection"
        " cleanup_interval upstream_bind_config original_dst_lb_config least_request_lb_config"
        " round_robin_lb_config common_lb_config transport_socket metadata"
        " upstream_connection_options filters load_balancing_policy",
        f"{CLUSTER}.Cluster.TransportSocketMatch": "name match transport_socket",
        f"{CLUSTER}.Cluster.EdsClusterConfig": "eds_config service_name",
        f"{CLUSTER}.Cluster.CommonLbConfig": "healthy_panic_threshold locality_weighted_lb_config",
        f"{CLUSTER}.Cluster.CommonLbConfig.LocalityWeightedLbConfig": "",
        f"{CLUSTER}.Cluster.LeastRequestLbConfig": "choice_count active_request_bias",
        f"{CLUSTER}.Cluster.RoundRobinLbConfig": "",
        f"{CLUSTER}.Cluster.OriginalDstLbConfig": "use_http_header http_header_name"
        " upstream_port_override",
        f"{CLUSTER}.CircuitBreakers": "thresholds per_host_thresholds",
        f"{CLUSTER}.CircuitBreakers.Thresholds": "priority max_connections max_pending_requests"
        " max_requests max_retries retry_budget track_remaining",
        f"{CLUSTER}.CircuitBreakers.Thresholds.RetryBudget": "budget_percent min_retry_concurrency",
        f"{CLUSTER}.OutlierDetection": "consecutive_5xx interval base_ejection_time"
        " max_ejection_percent enforcing_consecutive_5xx consecutive_gateway_failure"
        " enforcing_consecutive_gateway_failure split_external_local_origin_errors"
        " consecutive_local_origin_failure enforcing_consecutive_local_origin_failure"
        " max_ejection_time max_ejection_time_jitter always_eject_one_host",
        f"{CLUSTER}.UpstreamConnectionOptions": "tcp_keepalive",
        f"{CLUSTER}.Filter": "name typed_config",
        f"{CLUSTER}.LoadBalancingPolicy": "policies",
        f"{CLUSTER}.LoadBalancingPolicy.Policy": "typed_extension_config",
        "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin": "",
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest": "choice_count"
        " active_request_bias",
        "envoy.extensions.load_balancing_policies.random.v3.Random": "",
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig": "",
        f"{UPSTREAM}.HttpProtocolOptions": "common_http_protocol_options"
        " upstream_http_protocol_options explicit_http_config use_downstream_protocol_config",
        f"{UPSTREAM}.HttpProtocolOptions.ExplicitHttpConfig": "http_protocol_options"
        " http2_protocol_options",
        f"{UPSTREAM}.HttpProtocolOptions.UseDownstreamHttpConfig": "http_protocol_options",
        # Endpoints
        f"{ENDPOINT}.ClusterLoadAssignment": "cluster_name endpoints policy",
        f"{ENDPOINT}.ClusterLoadAssignment.Policy": "overprovisioning_factor",
        f"{ENDPOINT}.LocalityLbEndpoints": "locality lb_endpoints load_balancing_weight priority",
        f"{ENDPOINT}.LbEndpoint": "endpoint health_status metadata load_balancing_weight",
        f"{ENDPOINT}.Endpoint": "address hostname",
        # TLS
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer": "",
        f"{TLS}.DownstreamTlsContext": "common_tls_context require_client_certificate",
        f"{TLS}.UpstreamTlsContext": "common_tls_context sni auto_host_sni auto_sni_san_validation",
        f"{TLS}.CommonTlsContext": "tls_params tls_certificates tls_certificate_sds_secret_configs"
        " validation_context validation_context_sds_secret_config combined_validation_context"
        " alpn_protocols",
        f"{TLS}.CommonTlsContext.CombinedCertificateValidationContext": "default_validation_context"
        " validation_context_sds_secret_config",
        f"{TLS}.TlsParameters": "tls_minimum_protocol_version tls_maximum_protocol_version"
        " cipher_suites",
        f"{TLS}.TlsCertificate": "certificate_chain private_key",
        f"{TLS}.CertificateValidationContext": "trusted_ca verify_certificate_spki"
        " verify_certificate_hash match_typed_subject_alt_names match_subject_alt_names crl"
        " trust_chain_verification",
        f"{TLS}.SubjectAltNameMatcher": "san_type matcher",
        f"{TLS}.SdsSecretConfig": "name sds_config",
        f"{TLS}.Secret": "name tls_certificate validation_context",
        # Access logs
        f"{LOG}.AccessLog": "name filter typed_config",
        f"{LOG}.AccessLogFilter": "status_code_filter duration_filter response_flag_filter"
        " and_filter",
        f"{LOG}.AndFilter": "filters",
        f"{LOG}.ResponseFlagFilter": "flags",
        f"{LOG}.StatusCodeFilter": "comparison",
        f"{LOG}.DurationFilter": "comparison",
        f"{LOG}.ComparisonFilter": "op value",
        f"{LOGGER}.file.v3.FileAccessLog": "path format json_format typed_json_format log_format",
        f"{LOGGER}.stream.v3.StdoutAccessLog": "log_format",
        f"{LOGGER}.grpc.v3.HttpGrpcAccessLogConfig": "common_config"
        " additional_request_headers_to_log additional_response_headers_to_log",
        f"{LOGGER}.grpc.v3.TcpGrpcAccessLogConfig": "common_config",
        f"{LOGGER}.grpc.v3.CommonGrpcAccessLogConfig": "log_name grpc_service"
        " transport_api_version buffer_flush_interval buffer_size_bytes"
        " filter_state_objects_to_log",
    }.items()
}
"""Message → fields that the compilers read. A message that is not here is refused."""

NO_HTTP2 = "settings of HTTP/2, which this proxy does not offer to its clients"
NO_GRPC = "counts for gRPC requests only, which come over HTTP/2"
NO_TRACING = "only decides what a trace shows, and there is no tracer"
NO_RUNTIME = "there is no runtime to override it: the default value counts"
NO_HEALTH_CHECK = "only matters with active health checks, and those are refused"
ONE_THREAD = "tuning of Envoy's threads and memory; this proxy has one thread"
LABEL = "a note for operators, kept in /config_dump"

IGNORED: Mapping[str, Mapping[str, str]] = {
    f"{BOOTSTRAP}.Bootstrap": {
        "stats_config": "chooses and names statistics; all are kept, with Envoy's tags",
        "stats_flush_on_admin": "statistics are always current",
        "stats_eviction_interval": "statistics are not evicted",
        "watchdog": ONE_THREAD,
        "watchdogs": ONE_THREAD,
        "enable_dispatcher_stats": ONE_THREAD,
        "memory_allocator_manager": ONE_THREAD,
        "inline_headers": ONE_THREAD,
        "flags_path": "no feature of this proxy reads flag files",
        "application_log_config": "form of Envoy's own log",
        "typed_dns_resolver_config": "the system's resolver is asked",
    },
    f"{BOOTSTRAP}.Admin": {
        "access_log": "the admin end point keeps no log",
        "access_log_path": "the admin end point keeps no log",
        "profile_path": "there is no profiler to write there",
        "ignore_global_conn_limit": "there is no global limit",
    },
    f"{BOOTSTRAP}.ClusterManager": {"enable_deferred_cluster_creation": ONE_THREAD},
    f"{CORE}.Node": {"dynamic_parameters": "for xdstp names only"},
    f"{CORE}.GrpcService": {"timeout": "xDS and ALS are streams without an end"},
    f"{CORE}.GrpcService.EnvoyGrpc": {
        "skip_envoy_headers": "no Envoy headers are added to xDS and ALS streams",
        "max_receive_message_length": "answers of any length are taken",
    },
    f"{CORE}.Metadata": {"typed_filter_metadata": "no filter of this proxy reads it"},
    f"{CORE}.RuntimeFractionalPercent": {"runtime_key": NO_RUNTIME},
    f"{CORE}.RuntimeUInt32": {"runtime_key": NO_RUNTIME},
    f"{CORE}.RuntimeDouble": {"runtime_key": NO_RUNTIME},
    f"{CORE}.Http1ProtocolOptions": {"use_balsa_parser": "which parser Envoy takes"},
    f"{CORE}.Http2ProtocolOptions": dict.fromkeys(
        (
            *("hpack_table_size", "max_concurrent_streams", "initial_stream_window_size"),
            *("initial_connection_window_size", "connection_keepalive", "allow_connect"),
            *("max_outbound_frames", "max_outbound_control_frames"),
            "override_stream_error_on_invalid_http_message",
        ),
        "only gRPC services speak HTTP/2, with gRPC's own settings",
    ),
    f"{CORE}.SubstitutionFormatString": {
        "content_type": "for local replies, not for logs",
        "json_format_options": "order of the keys",
    },
    f"{LISTENER}.Listener": {
        "metadata": LABEL,
        "drain_type": "listeners drain when they change and when the process ends",
        "connection_balance_config": ONE_THREAD,
        "max_connections_to_accept_per_socket_event": ONE_THREAD,
        "ignore_global_conn_limit": "there is no global limit",
        "bypass_overload_manager": "there is no overload manager",
    },
    f"{LISTENER}.FilterChain": {"metadata": LABEL},
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": {
        "initial_read_buffer_size": ONE_THREAD,
    },
    f"{HCM}.HttpConnectionManager": {"http2_protocol_options": NO_HTTP2},
    "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig": {
        "pack_trace_reason": NO_TRACING,
        "use_request_id_for_trace_sampling": NO_TRACING,
    },
    f"{HTTP}.router.v3.Router": {
        "start_child_span": NO_TRACING,
        "suppress_grpc_request_failure_code_stats": NO_GRPC,
    },
    f"{HTTP}.fault.v3.HTTPFault": {
        "delay_percent_runtime": NO_RUNTIME,
        "abort_percent_runtime": NO_RUNTIME,
        "delay_duration_runtime": NO_RUNTIME,
        "abort_http_status_runtime": NO_RUNTIME,
        "abort_grpc_status_runtime": NO_RUNTIME,
        "max_active_faults_runtime": NO_RUNTIME,
        "response_rate_limit_percent_runtime": NO_RUNTIME,
        "disable_downstream_cluster_stats": "statistics by downstream cluster are not kept",
    },
    f"{HTTP}.grpc_stats.v3.FilterConfig": {
        "emit_filter_state": NO_GRPC,
        "stats_for_all_methods": NO_GRPC,
        "individual_method_stats_allowlist": NO_GRPC,
        "enable_upstream_stats": NO_GRPC,
    },
    f"{ROUTE}.RouteConfiguration": {"metadata": LABEL},
    f"{ROUTE}.Route": {"tracing": NO_TRACING},
    f"{ROUTE}.RouteAction": {
        "max_grpc_timeout": NO_GRPC,
        "grpc_timeout_offset": NO_GRPC,
    },
    f"{ROUTE}.RouteAction.MaxStreamDuration": {
        "grpc_timeout_header_max": NO_GRPC,
        "grpc_timeout_header_offset": NO_GRPC,
    },
    f"{ROUTE}.WeightedCluster": {
        "total_weight": "the sum of the weights counts, in Envoy as here",
        "runtime_key_prefix": NO_RUNTIME,
    },
    f"{MATCHER}.RegexMatcher": {"google_re2": "limits of Envoy's regex library"},
    f"{CLUSTER}.Cluster": {
        "dns_jitter": "only spreads the look-ups of many proxies",
        "dns_failure_refresh_rate": "a failed look-up is repeated after dns_refresh_rate",
        "close_connections_on_host_health_failure": NO_HEALTH_CHECK,
        "ignore_health_on_host_removal": NO_HEALTH_CHECK,
    },
    f"{CLUSTER}.Cluster.CommonLbConfig": {
        "update_merge_window": "changes of endpoints count at once",
    },
    f"{CLUSTER}.OutlierDetection": {
        "successful_active_health_check_uneject_host": NO_HEALTH_CHECK,
    },
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig": {
        "filter_unroutable_families": "the system's resolver is asked",
        "udp_max_queries": "the system's resolver is asked",
        "query_timeout_seconds": "the system's resolver is asked",
        "query_tries": "the system's resolver is asked",
        "rotate_nameservers": "the system's resolver is asked",
    },
    f"{UPSTREAM}.HttpProtocolOptions.UseDownstreamHttpConfig": {
        "http2_protocol_options": NO_HTTP2,
        "http3_protocol_options": "settings of HTTP/3, which this proxy does not offer",
    },
    f"{ENDPOINT}.LocalityLbEndpoints": {"metadata": LABEL},
    f"{ENDPOINT}.Endpoint": {"health_check_config": NO_HEALTH_CHECK},
    f"{TLS}.DownstreamTlsContext": {
        "session_timeout": "how long a session may be resumed; OpenSSL's own time counts",
    },
    f"{TLS}.UpstreamTlsContext": {"max_session_keys": "at most one session a host is kept"},
}
"""Fields that are read by nobody, on purpose: message → field → why nobody will miss it."""

NEUTRAL: Mapping[str, Mapping[str, Anything]] = {
    f"{LISTENER}.Listener": {"transparent": False, "freebind": False},
    f"{LISTENER}.FilterChain": {"use_proxy_proto": False},
    f"{HTTP}.router.v3.Router": {"respect_expected_rq_timeout": False},
    f"{CLUSTER}.Cluster": {"wait_for_warm_on_init": True},
    f"{CLUSTER}.OutlierDetection": {
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "enforcing_failure_percentage_local_origin": 0,
    },
    f"{CLUSTER}.CircuitBreakers.Thresholds": {"max_connection_pools": 2**32 - 1},
    f"{CORE}.BindConfig": {"freebind": False},
    f"{TLS}.DownstreamTlsContext": {"require_sni": False},
    f"{TLS}.UpstreamTlsContext": {"enforce_rsa_key_usage": False},
}
"""Wrapper fields that are taken only with the value that leaves everything as it is."""

TYPED_STRUCTS: Mapping[str, frozenset[str]] = {
    "stats.PluginConfig": frozenset({"disable_host_header_fallback"}),
    "io.istio.http.peer_metadata.Config": frozenset(
        {
            "downstream_discovery",
            "upstream_discovery",
            "downstream_propagation",
            "upstream_propagation",
            "shared_with_upstream",
        }
    ),
    "envoy.tcp.metadataexchange.config.MetadataExchange": frozenset(
        {"protocol", "enable_discovery"}
    ),
    "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig": frozenset({"alpn_override"}),
}
"""Istio's filters, whose protobufs xds-protos does not have: type → fields that are read.

They come as `TypedStruct`, or as the type itself when it is empty.
"""


def refuse_unsupported(message: Message, path: str = "") -> None:
    """Raise one ConfigError that names everything in `message` which this proxy does not do."""
    found = list(find(message, path))
    if not found:
        return
    if len(found) == 1:
        raise found[0]
    first = found[0]
    others = "; ".join(f"{error.field}: {error.what}" for error in found[1:])
    raise ConfigError(
        f"{first.what}; and {len(found) - 1} more: {others}", field=first.field, fix=first.fix
    )


def find(message: Message, path: str = "") -> Iterator[ConfigError]:
    """Yield an error for each field that is set in `message` and not read, in field order."""
    name = message.DESCRIPTOR.full_name
    read = READ.get(name)
    if read is None:
        if not name.startswith("google.protobuf."):
            yield ConfigError(f"{name} is not supported by this proxy", field=path)
        elif isinstance(message, Any):
            yield from find_in_any(message, path)
        return
    ignored = IGNORED.get(name, {})
    for field, value in message.ListFields():
        place = join(path, field.name)
        if field.name in read:
            yield from find_in_value(field, value, place)
        elif field.name not in ignored and not is_neutral(name, field, value):
            yield ConfigError(
                "is not supported by this proxy", field=place, fix="Remove this field"
            )


def find_in_value(field: FieldDescriptor, value: Anything, path: str) -> Iterator[ConfigError]:
    """Yield the errors inside the value of one field: message, list of messages, or map to them."""
    kind = field.message_type
    if kind is None:
        return
    if kind.GetOptions().map_entry:
        if kind.fields_by_name["value"].message_type is not None:
            for key in sorted(value):
                yield from find(value[key], f"{path}[{key!r}]")
    elif field.is_repeated:
        for index, item in enumerate(value):
            yield from find(item, f"{path}[{index}]")
    else:
        yield from find(value, path)


def find_in_any(message: Any, path: str) -> Iterator[ConfigError]:
    """Yield what is wrong inside an extension's configuration."""
    name = type_name(message)
    if name in TYPED_STRUCT_NAMES:
        yield from find_in_typed_struct(message, path)
    elif name in TYPED_STRUCTS:
        if message.value:
            yield ConfigError(f"{name} must come as a TypedStruct, or empty", field=path)
    elif name not in READ:
        yield ConfigError(
            f"{name or 'a value without type'} is an extension that this proxy does not have",
            field=path,
        )
    else:
        try:
            inner = message_class(name).FromString(message.value)
        except DecodeError as error:
            yield ConfigError(f"cannot be decoded: {error}", field=path)
        else:
            yield from find(inner, path)


def find_in_typed_struct(message: Any, path: str) -> Iterator[ConfigError]:
    name, value = unpack_typed_struct(message, path)
    known = TYPED_STRUCTS.get(name)
    if known is None:
        yield ConfigError(
            f"{name or 'a TypedStruct without a type_url'} is an extension that this proxy does not"
            " have",
            field=join(path, "type_url"),
        )
        return
    for key in value:
        if key not in known:
            yield ConfigError(
                f"is not supported in {name} by this proxy",
                field=join(path, f"value.{key}"),
                fix="Remove this field",
            )


def is_neutral(name: str, field: FieldDescriptor, value: Anything) -> bool:
    """Tell whether a field that is not read holds the value that changes nothing."""
    neutral = NEUTRAL.get(name, {})
    if field.name not in neutral:
        return False
    plain = json_format.MessageToDict(value) if isinstance(value, Message) else value
    return bool(plain == neutral[field.name])

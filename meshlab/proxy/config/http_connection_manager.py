"""Read the HTTP connection manager (Envoy `HttpConnectionManager`)."""

from ipaddress import ip_network
from typing import Any as Anything
from typing import Literal

from envoy.config.core.v3.protocol_pb2 import HttpProtocolOptions
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (  # noqa: E501 - the module's own name
    HttpConnectionManager as Message,
)

from meshlab.errors import ConfigError
from meshlab.proxy.config.access_log import compile_access_logs
from meshlab.proxy.config.http_filter import Reporter, compile_http_filters
from meshlab.proxy.config.matcher import compile_cidrs
from meshlab.proxy.config.protobuf import duration, join, wrapped
from meshlab.proxy.config.route import compile_route_configuration, compile_upgrades
from meshlab.proxy.core.http_connection_manager import (
    ClientCertificateDetails,
    ForwardClientCertificate,
    HttpConnectionManager,
)
from meshlab.proxy.core.route import RouteConfiguration

CODEC_TYPES = (Message.AUTO, Message.HTTP1)
SERVER_HEADERS: dict[int, Literal["overwrite", "append_if_absent", "pass_through"]] = {
    Message.OVERWRITE: "overwrite",
    Message.APPEND_IF_ABSENT: "append_if_absent",
    Message.PASS_THROUGH: "pass_through",
}
FORWARD_DETAILS: dict[int, ForwardClientCertificate] = {
    Message.SANITIZE: "sanitize",
    Message.FORWARD_ONLY: "forward_only",
    Message.APPEND_FORWARD: "append_forward",
    Message.SANITIZE_SET: "sanitize_set",
    Message.ALWAYS_FORWARD_ONLY: "always_forward_only",
}
ESCAPED_SLASHES: dict[int, Literal["keep", "reject", "unescape_redirect", "unescape_forward"]] = {
    Message.IMPLEMENTATION_SPECIFIC_DEFAULT: "keep",
    Message.KEEP_UNCHANGED: "keep",
    Message.REJECT_REQUEST: "reject",
    Message.UNESCAPE_AND_REDIRECT: "unescape_redirect",
    Message.UNESCAPE_AND_FORWARD: "unescape_forward",
}
UNDERSCORES: dict[int, Literal["allow", "reject_request", "drop_header"]] = {
    HttpProtocolOptions.ALLOW: "allow",
    HttpProtocolOptions.REJECT_REQUEST: "reject_request",
    HttpProtocolOptions.DROP_HEADER: "drop_header",
}


def compile_http_connection_manager(
    message: Message, reporter: Reporter, path: str
) -> HttpConnectionManager:
    """Return the connection manager.

    Raises:
        ConfigError: with the path of the field.
    """
    if message.codec_type not in CODEC_TYPES:
        raise ConfigError(
            "is not supported",
            field=join(path, "codec_type"),
            found=Message.CodecType.Name(message.codec_type),
            allowed="AUTO, HTTP1",
        )
    if not message.stat_prefix:
        raise ConfigError("must not be empty", field=join(path, "stat_prefix"))
    rds_name, route_config = compile_routes(message, path)
    return HttpConnectionManager(
        stat_prefix=message.stat_prefix,
        rds_name=rds_name,
        route_config=route_config,
        http_filters=compile_http_filters(
            message.http_filters, reporter, join(path, "http_filters")
        ),
        access_logs=compile_access_logs(message.access_log, join(path, "access_log")),
        server_name=message.server_name.encode() or b"envoy",
        server_header=SERVER_HEADERS[message.server_header_transformation],
        use_remote_address=wrapped(message, "use_remote_address", False),
        xff_num_trusted_hops=message.xff_num_trusted_hops,
        skip_xff_append=message.skip_xff_append,
        internal_addresses=compile_internal_addresses(message, path),
        via=message.via.encode(),
        generate_request_id=wrapped(message, "generate_request_id", True),
        preserve_external_request_id=message.preserve_external_request_id,
        always_set_request_id_in_response=message.always_set_request_id_in_response,
        forward_client_cert=FORWARD_DETAILS[message.forward_client_cert_details],
        client_cert_details=compile_client_cert_details(message),
        normalize_path=wrapped(message, "normalize_path", False),
        merge_slashes=message.merge_slashes,
        escaped_slashes=ESCAPED_SLASHES[message.path_with_escaped_slashes_action],
        strip_matching_host_port=message.strip_matching_host_port,
        strip_any_host_port=message.strip_any_host_port,
        upgrades=compile_upgrades(message.upgrade_configs),
        proxy_100_continue=message.proxy_100_continue,
        stream_idle_timeout=duration(message, "stream_idle_timeout", 300.0, path),
        request_timeout=duration(message, "request_timeout", 0.0, path),
        request_headers_timeout=duration(message, "request_headers_timeout", 0.0, path),
        drain_timeout=duration(message, "drain_timeout", 5.0, path),
        delayed_close_timeout=duration(message, "delayed_close_timeout", 1.0, path),
        max_request_headers_bytes=wrapped(message, "max_request_headers_kb", 60) * 1024,
        **compile_scheme(message, path),
        **compile_protocol_options(message, path),
    )


def compile_routes(message: Message, path: str) -> tuple[str, RouteConfiguration | None]:
    """Return (RDS name, inline routes); one of them is set."""
    kind = message.WhichOneof("route_specifier")
    if kind == "rds":
        place = join(path, "rds")
        if message.rds.config_source.WhichOneof("config_source_specifier") != "ads":
            raise ConfigError("must be `ads: {}`", field=join(place, "config_source"))
        if not message.rds.route_config_name:
            raise ConfigError("must not be empty", field=join(place, "route_config_name"))
        return message.rds.route_config_name, None
    if kind == "route_config":
        return "", compile_route_configuration(message.route_config, join(path, "route_config"))
    raise ConfigError("must have routes", field=path, allowed="rds, route_config")


def compile_scheme(message: Message, path: str) -> dict[str, Anything]:
    scheme = message.scheme_header_transformation.scheme_to_overwrite
    if scheme not in ("", "http", "https"):
        raise ConfigError(
            "must be a scheme",
            field=join(path, "scheme_header_transformation.scheme_to_overwrite"),
            found=scheme,
            allowed="http, https",
        )
    return {"scheme_overwrite": scheme}


def compile_internal_addresses(message: Message, path: str) -> tuple[str, ...] | None:
    """Return the CIDRs; None where the proxy's default counts."""
    if not message.HasField("internal_address_config"):
        return None
    ranges = compile_cidrs(
        message.internal_address_config.cidr_ranges,
        join(path, "internal_address_config.cidr_ranges"),
    )
    return tuple(str(ip_network(item)) for item in ranges)


def compile_client_cert_details(message: Message) -> ClientCertificateDetails:
    details = message.set_current_client_cert_details
    return ClientCertificateDetails(
        subject=wrapped(details, "subject", False),
        cert=details.cert,
        chain=details.chain,
        dns=details.dns,
        uri=details.uri,
    )


def compile_protocol_options(message: Message, path: str) -> dict[str, Anything]:
    """Return the fields that come from the two protocol option messages."""
    common = message.common_http_protocol_options
    common_path = join(path, "common_http_protocol_options")
    http1 = message.http_protocol_options
    if common.HasField("max_response_headers_kb"):
        raise ConfigError(
            "counts for clusters only", field=join(common_path, "max_response_headers_kb")
        )
    stream_error = wrapped(message, "stream_error_on_invalid_http_message", False)
    return {
        "idle_timeout": duration(common, "idle_timeout", 3600.0, common_path),
        "max_connection_duration": duration(common, "max_connection_duration", 0.0, common_path),
        "max_stream_duration": duration(common, "max_stream_duration", 0.0, common_path),
        "max_requests_per_connection": wrapped(common, "max_requests_per_connection", 0),
        "max_headers_count": wrapped(common, "max_headers_count", 100),
        "headers_with_underscores": UNDERSCORES[common.headers_with_underscores_action],
        "accept_http_10": http1.accept_http_10,
        "default_host_for_http_10": http1.default_host_for_http_10.encode(),
        "enable_trailers": http1.enable_trailers,
        "allow_absolute_url": wrapped(http1, "allow_absolute_url", True),
        "stream_error_on_invalid_http": wrapped(
            http1, "override_stream_error_on_invalid_http_message", stream_error
        ),
    }

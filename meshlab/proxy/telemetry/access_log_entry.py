"""Make the entries of Envoy's access log service from what is known of a request.

Envoy: https://www.envoyproxy.io/docs/envoy/latest/api-v3/data/accesslog/v3/accesslog.proto
"""

from collections.abc import Mapping

from envoy.config.core.v3.address_pb2 import Address
from envoy.config.core.v3.base_pb2 import METHOD_UNSPECIFIED, RequestMethod
from envoy.data.accesslog.v3 import accesslog_pb2 as data
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from meshlab.proxy.core.access_log import GrpcAccessLog
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.stream_info import BIT, PeerCertificate, PeerMetadata, StreamInfo

PROTOCOLS = {
    "HTTP/1.0": data.HTTPAccessLogEntry.HTTP10,
    "HTTP/1.1": data.HTTPAccessLogEntry.HTTP11,
    "HTTP/2": data.HTTPAccessLogEntry.HTTP2,
}
TLS_VERSIONS = {
    "TLSv1.2": data.TLSProperties.TLSv1_2,
    "TLSv1.3": data.TLSProperties.TLSv1_3,
}
FLAG_FIELDS = {
    "LH": "failed_local_healthcheck",
    "UH": "no_healthy_upstream",
    "UT": "upstream_request_timeout",
    "LR": "local_reset",
    "UR": "upstream_remote_reset",
    "UF": "upstream_connection_failure",
    "UC": "upstream_connection_termination",
    "UO": "upstream_overflow",
    "NR": "no_route_found",
    "DI": "delay_injected",
    "FI": "fault_injected",
    "RL": "rate_limited",
    "RLSE": "rate_limit_service_error",
    "DC": "downstream_connection_termination",
    "URX": "upstream_retry_limit_exceeded",
    "SI": "stream_idle_timeout",
    "IH": "invalid_envoy_request_headers",
    "DPE": "downstream_protocol_error",
    "UMSDR": "upstream_max_stream_duration_reached",
    "RFCF": "response_from_cache_filter",
    "NFCF": "no_filter_config_found",
    "DT": "duration_timeout",
    "UPE": "upstream_protocol_error",
    "NC": "no_cluster_found",
    "OM": "overload_manager",
    "DF": "dns_resolution_failure",
    "DR": "downstream_remote_reset",
}
"""Response flag → field of `ResponseFlags`."""


def http_entry(info: StreamInfo, config: GrpcAccessLog) -> data.HTTPAccessLogEntry:
    request_headers = info.request_headers or Headers([], [])
    response_headers = info.response_headers or Headers([], [])
    method = text(info.method)
    entry = data.HTTPAccessLogEntry(
        common_properties=common_properties(info, config),
        protocol_version=PROTOCOLS.get(info.protocol, data.HTTPAccessLogEntry.PROTOCOL_UNSPECIFIED),
        request=data.HTTPRequestProperties(
            request_method=(
                RequestMethod.Value(method)
                if method in RequestMethod.keys()  # noqa: SIM118 - an enum, not a dict
                else METHOD_UNSPECIFIED
            ),
            scheme=text(info.scheme),
            authority=text(info.authority),
            path=text(info.path),
            user_agent=header(request_headers, b"user-agent"),
            referer=header(request_headers, b"referer"),
            forwarded_for=header(request_headers, b"x-forwarded-for"),
            request_id=text(info.request_id),
            original_path=header(request_headers, b"x-envoy-original-path"),
            request_headers_bytes=info.request_headers_bytes,
            request_body_bytes=info.bytes_received,
            request_headers=chosen(request_headers, config.request_headers),
        ),
        response=data.HTTPResponseProperties(
            response_headers_bytes=info.response_headers_bytes,
            response_body_bytes=info.bytes_sent,
            response_headers=chosen(response_headers, config.response_headers),
            response_code_details=info.response_code_details,
        ),
    )
    if info.response_code:
        entry.response.response_code.value = info.response_code
    return entry


def tcp_entry(info: StreamInfo, config: GrpcAccessLog) -> data.TCPAccessLogEntry:
    common = common_properties(info, config)
    common.access_log_type = data.TcpConnectionEnd
    return data.TCPAccessLogEntry(
        common_properties=common,
        connection_properties=data.ConnectionProperties(
            received_bytes=info.bytes_received, sent_bytes=info.bytes_sent
        ),
    )


def common_properties(info: StreamInfo, config: GrpcAccessLog) -> data.AccessLogCommon:
    connection = info.connection
    common = data.AccessLogCommon(
        downstream_remote_address=address(info.downstream_remote_address),
        downstream_direct_remote_address=address(connection.remote_address),
        downstream_local_address=address(connection.local_address),
        upstream_remote_address=address(info.upstream_host),
        upstream_local_address=address(info.upstream_local_address),
        upstream_cluster=info.upstream_cluster,
        upstream_transport_failure_reason=info.upstream_transport_failure_reason,
        downstream_transport_failure_reason=connection.transport_failure_reason,
        route_name=info.route_name,
        upstream_request_attempt_count=info.attempt_count,
        connection_termination_details=info.connection_termination_details,
        stream_id=text(info.request_id),
        upstream_wire_bytes_sent=info.upstream_bytes_sent,
        upstream_wire_bytes_received=info.upstream_bytes_received,
        downstream_wire_bytes_received=info.bytes_received + info.request_headers_bytes,
        downstream_wire_bytes_sent=info.bytes_sent + info.response_headers_bytes,
        response_flags=response_flags(info.flags),
        access_log_type=data.DownstreamEnd,
    )
    common.start_time.FromNanoseconds(int(info.start_time * 1e9))
    set_times(common, info)
    if connection.tls_version:
        common.tls_properties.CopyFrom(tls_properties(info))
    peers = {"downstream_peer": info.downstream_peer, "upstream_peer": info.upstream_peer}
    for key in config.filter_state_keys:
        peer = peers.get(key)
        if peer is not None:
            common.filter_state_objects[key].CopyFrom(peer_state(peer))
    return common


def set_times(common: data.AccessLogCommon, info: StreamInfo) -> None:
    """Fill in the moments, as durations from the start; what did not happen stays out."""
    for field, moment in (
        ("time_to_last_rx_byte", info.last_downstream_byte_received),
        ("time_to_first_upstream_tx_byte", info.first_upstream_byte_sent),
        ("time_to_first_upstream_rx_byte", info.first_upstream_byte_received),
        ("time_to_last_upstream_rx_byte", info.last_upstream_byte_received),
        ("time_to_first_downstream_tx_byte", info.first_downstream_byte_sent),
        ("time_to_last_downstream_tx_byte", info.end),
        ("duration", info.end),
    ):
        if moment:
            nanoseconds = round((moment - info.start) * 1e6) * 1000
            getattr(common, field).CopyFrom(
                Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)
            )


def tls_properties(info: StreamInfo) -> data.TLSProperties:
    connection = info.connection
    properties = data.TLSProperties(
        tls_version=TLS_VERSIONS.get(
            connection.tls_version, data.TLSProperties.VERSION_UNSPECIFIED
        ),
        tls_sni_hostname=connection.requested_server_name,
    )
    if connection.local_certificate is not None:
        properties.local_certificate_properties.CopyFrom(certificate(connection.local_certificate))
    if connection.peer_certificate is not None:
        properties.peer_certificate_properties.CopyFrom(certificate(connection.peer_certificate))
    return properties


def certificate(found: PeerCertificate) -> data.TLSProperties.CertificateProperties:
    kind = data.TLSProperties.CertificateProperties
    return kind(
        subject=found.subject,
        issuer=found.issuer,
        subject_alt_name=[kind.SubjectAltName(uri=name) for name in found.uri_sans]
        + [kind.SubjectAltName(dns=name) for name in found.dns_sans],
    )


def response_flags(flags: int) -> data.ResponseFlags:
    message = data.ResponseFlags()
    if flags:
        for short, field in FLAG_FIELDS.items():
            if flags & BIT[short]:
                setattr(message, field, True)
    return message


def peer_state(peer: PeerMetadata) -> Any:
    """Return the peer as Istio's filter state prints it: a Struct of its labels."""
    struct = Struct()
    struct.update(
        {
            "NAME": peer.name,
            "NAMESPACE": peer.namespace,
            "WORKLOAD_NAME": peer.workload,
            "CLUSTER_ID": peer.cluster,
            "OWNER": peer.owner,
            "LABELS": dict(peer.labels or {}),
        }
    )
    state = Any()
    state.Pack(struct)
    return state


def address(spelled: str) -> Address | None:
    """Return `ip:port`, `[ip]:port` or the path of a socket as a message; None of ""."""
    if not spelled:
        return None
    host, colon, port = spelled.rpartition(":")
    message = Address()
    if colon and port.isdigit():
        message.socket_address.address = host.strip("[]")
        message.socket_address.port_value = int(port)
    else:
        message.pipe.path = spelled
    return message


def text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def header(headers: Headers, name: bytes) -> str:
    return text(headers.get(name) or b"")


def chosen(headers: Headers, names: tuple[bytes, ...]) -> Mapping[str, str]:
    """Return the headers that the log asks for; several values are joined by a comma."""
    return {
        name.decode(): text(value) for name in names if (value := headers.joined(name)) is not None
    }

"""Mutual TLS between sidecars: contexts for both sides, and when a client uses them.

Keys and certificates never stand in configuration: both sides name the secrets `default` and
`ROOTCA`, which the agent serves over SDS.
"""

from collections.abc import Sequence
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from meshlab.api.istio.destination_rule import ClientTLSSettings
from meshlab.control.translate import names
from meshlab.control.translate.capability import Capabilities
from meshlab.control.translate.protobuf import duration, pack, struct
from meshlab.control.translate.protocol import Protocol

ISTIO_ALPN = ("istio-peer-exchange", "istio")
"""What a sidecar offers, by which the other one recognises it."""
ISTIO_HTTP_ALPN = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What the filter istio.alpn offers first for HTTP requests."""

_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
_SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"


def auto_matches(server_name: str, identities: Sequence[str], alpn: Sequence[str]) -> list[Any]:
    """Return the choice by endpoint: mutual TLS where there is a sidecar, else plain text."""
    tls = socket(istio_mutual(server_name, identities, alpn))
    raw = base_pb2.TransportSocket(
        name="envoy.transport_sockets.raw_buffer",
        typed_config=pack(raw_buffer_pb2.RawBuffer()),
    )
    match = cluster_pb2.Cluster.TransportSocketMatch
    return [
        match(name="tlsMode-istio", match=struct({"tlsMode": "istio"}), transport_socket=tls),
        match(name="tlsMode-disabled", match=struct({}), transport_socket=raw),
    ]


def client_alpn(protocol: Protocol, can: Capabilities) -> tuple[str, ...]:
    """Return what a client's context offers on a cluster of a protocol."""
    if protocol is Protocol.HTTP and not can.alpn:
        # No filter will replace it by request, and all traffic here is HTTP/1.1.
        return ("istio-http/1.1", "istio", "http/1.1")
    return (*ISTIO_ALPN, "h2") if protocol is Protocol.HTTP2 else ISTIO_ALPN


def istio_mutual(server_name: str, identities: Sequence[str], alpn: Sequence[str]) -> Any:
    """Return the client's side: own certificate, the mesh's roots, and who may answer."""
    common = _mesh_context(alpn, [_exact(name) for name in identities])
    return tls_pb2.UpstreamTlsContext(common_tls_context=common, sni=server_name)


def rule_context(
    tls: ClientTLSSettings, server_name: str, identities: Sequence[str], alpn: Sequence[str]
) -> Any | None:
    """Return the client's side as a DestinationRule asks for it; None: plain text.

    `server_name`, `identities` and `alpn` are those of automatic mutual TLS.
    """
    if tls.mode == "DISABLE":
        return None
    if tls.mode == "ISTIO_MUTUAL":
        return istio_mutual(tls.sni or server_name, tls.subject_alt_names or identities, alpn)
    common = _file_context(tls)
    return tls_pb2.UpstreamTlsContext(common_tls_context=common, sni=tls.sni)


def _file_context(tls: ClientTLSSettings) -> Any:
    """Return the context of SIMPLE and MUTUAL: certificates from files of the proxy's container."""
    common = tls_pb2.CommonTlsContext(tls_params=_versions())
    if tls.mode == "MUTUAL":
        certificate = common.tls_certificates.add()
        certificate.certificate_chain.filename = tls.client_certificate
        certificate.private_key.filename = tls.private_key
    if not tls.insecure_skip_verify:
        context = common.validation_context
        context.trusted_ca.filename = tls.ca_certificates or _SYSTEM_ROOTS
        context.match_typed_subject_alt_names.extend(_exact(n) for n in tls.subject_alt_names)
        if tls.ca_crl:
            context.crl.filename = tls.ca_crl
    return common


def server_context(alpn: Sequence[str], trust_domain: str) -> Any:
    """Return the server's side: a client certificate of the trust domain is required."""
    spiffe = common_pb2.SubjectAltNameMatcher(
        san_type=common_pb2.SubjectAltNameMatcher.URI,
        matcher=string_pb2.StringMatcher(prefix=f"spiffe://{trust_domain}/"),
    )
    common = _mesh_context(alpn, [spiffe])
    common.tls_params.cipher_suites.extend(_CIPHERS)
    context = tls_pb2.DownstreamTlsContext(common_tls_context=common)
    context.require_client_certificate.value = True
    return context


def socket(context: Any) -> Any:
    """Return the transport socket of a TLS context, client's or server's."""
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def _mesh_context(alpn: Sequence[str], sans: Sequence[Any]) -> Any:
    validation = tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=common_pb2.CertificateValidationContext(
            match_typed_subject_alt_names=sans
        ),
        validation_context_sds_secret_config=_secret("ROOTCA"),
    )
    return tls_pb2.CommonTlsContext(
        tls_params=_versions(),
        alpn_protocols=alpn,
        tls_certificate_sds_secret_configs=[_secret("default")],
        combined_validation_context=validation,
    )


def _versions() -> Any:
    return common_pb2.TlsParameters(
        tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_2,
        tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
    )


def _secret(name: str) -> Any:
    """Return where a secret comes from: the agent's socket, however long it takes to be there."""
    source = config_source_pb2.ApiConfigSource(
        api_type=config_source_pb2.ApiConfigSource.GRPC,
        set_node_on_first_message_only=True,
        transport_api_version=config_source_pb2.V3,
        grpc_services=[
            grpc_service_pb2.GrpcService(
                envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=names.SDS_CLUSTER)
            )
        ],
    )
    return secret_pb2.SdsSecretConfig(
        name=name,
        sds_config=config_source_pb2.ConfigSource(
            api_config_source=source,
            initial_fetch_timeout=duration(0),
            resource_api_version=config_source_pb2.V3,
        ),
    )


def _exact(name: str) -> Any:
    kind = common_pb2.SubjectAltNameMatcher
    return kind(
        san_type=kind.URI if "://" in name else kind.DNS,
        matcher=string_pb2.StringMatcher(exact=name),
    )

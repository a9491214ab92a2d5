"""Read TLS contexts (Envoy `DownstreamTlsContext`, `UpstreamTlsContext`)."""

from typing import Literal

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3 import common_pb2
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import join, type_name, unpack, wrapped
from meshlab.proxy.config.secret import compile_tls_certificate, compile_validation_context
from meshlab.proxy.core.tls import DownstreamTls, TlsContext, UpstreamTls, ValidationContext

Version = Literal["TLSv1.2", "TLSv1.3"]

VERSIONS: dict[int, Version] = {
    common_pb2.TlsParameters.TLSv1_2: "TLSv1.2",
    common_pb2.TlsParameters.TLSv1_3: "TLSv1.3",
}


def is_raw_buffer(socket: TransportSocket) -> bool:
    name = type_name(socket.typed_config)
    return name == RawBuffer.DESCRIPTOR.full_name or (
        not name and socket.name in ("raw_buffer", "envoy.transport_sockets.raw_buffer")
    )


def compile_downstream_socket(socket: TransportSocket, path: str) -> DownstreamTls | None:
    """Return a listener's TLS; None: raw bytes."""
    if is_raw_buffer(socket):
        return None
    path = join(path, "typed_config")
    message = unpack(socket.typed_config, DownstreamTlsContext, path)
    context = compile_tls_context(message.common_tls_context, join(path, "common_tls_context"))
    if not context.certificates:
        raise ConfigError(
            "must have a certificate: a server cannot be without",
            field=join(path, "common_tls_context.tls_certificates"),
        )
    return DownstreamTls(
        context=context,
        require_client_certificate=bool(wrapped(message, "require_client_certificate", False)),
    )


def compile_upstream_socket(socket: TransportSocket, path: str) -> UpstreamTls | None:
    """Return a cluster's TLS; None: raw bytes."""
    if is_raw_buffer(socket):
        return None
    path = join(path, "typed_config")
    message = unpack(socket.typed_config, UpstreamTlsContext, path)
    return UpstreamTls(
        context=compile_tls_context(message.common_tls_context, join(path, "common_tls_context")),
        sni=message.sni,
        auto_host_sni=message.auto_host_sni,
        auto_san_validation=message.auto_sni_san_validation,
    )


def compile_tls_context(message: CommonTlsContext, path: str) -> TlsContext:
    certificates = tuple(
        compile_tls_certificate(item, f"{join(path, 'tls_certificates')}[{index}]")
        for index, item in enumerate(message.tls_certificates)
    )
    names = tuple(item.name for item in message.tls_certificate_sds_secret_configs)
    validation, validation_secret = compile_validation(message, path)
    minimum, maximum = compile_versions(message.tls_params, join(path, "tls_params"))
    return TlsContext(
        certificates=certificates + names,
        validation=validation,
        validation_secret=validation_secret,
        alpn_protocols=tuple(message.alpn_protocols),
        minimum_version=minimum,
        maximum_version=maximum,
        cipher_suites=tuple(
            suite
            for group in message.tls_params.cipher_suites
            for suite in group.strip("[]").split("|")  # `[A|B]`: of equal preference
        ),
    )


def compile_validation(
    message: CommonTlsContext, path: str
) -> tuple[ValidationContext | None, str]:
    """Return (inline context, name of the SDS secret that joins it)."""
    kind = message.WhichOneof("validation_context_type")
    if kind == "validation_context":
        context = compile_validation_context(
            message.validation_context, join(path, "validation_context")
        )
        if context.subject_alt_names and not context.trusted_ca:
            raise ConfigError(
                "must be set where names are checked: a name nobody vouches for proves nothing",
                field=join(path, "validation_context.trusted_ca"),
            )
        return context, ""
    if kind == "validation_context_sds_secret_config":
        return None, message.validation_context_sds_secret_config.name
    if kind == "combined_validation_context":
        combined = message.combined_validation_context
        inner = join(path, "combined_validation_context.default_validation_context")
        return (
            compile_validation_context(combined.default_validation_context, inner),
            combined.validation_context_sds_secret_config.name,
        )
    return None, ""


def compile_versions(message: common_pb2.TlsParameters, path: str) -> tuple[Version, Version]:
    """Return the lowest and the highest version; AUTO is TLSv1.2 to TLSv1.3."""
    found: list[Version] = []
    for field, auto in (
        ("tls_minimum_protocol_version", "TLSv1.2"),
        ("tls_maximum_protocol_version", "TLSv1.3"),
    ):
        value = getattr(message, field)
        version = VERSIONS.get(value)
        if value == common_pb2.TlsParameters.TLS_AUTO:
            version = "TLSv1.2" if auto == "TLSv1.2" else "TLSv1.3"
        if version is None:
            raise ConfigError(
                "is too old to be secure",
                field=join(path, field),
                found=common_pb2.TlsParameters.TlsProtocol.Name(value),
                allowed="TLSv1_2, TLSv1_3",
            )
        found.append(version)
    return found[0], found[1]

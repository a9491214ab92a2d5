"""Read secrets and the bytes of `DataSource`s: inline, files, environment (Envoy SDS)."""

import os
from pathlib import Path

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3 import common_pb2
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret as SecretMessage

from meshlab.errors import ConfigError
from meshlab.proxy.config.matcher import compile_string_matcher
from meshlab.proxy.config.protobuf import join
from meshlab.proxy.core.tls import (
    SanKind,
    SanMatch,
    Secret,
    TlsCertificate,
    ValidationContext,
)

SAN_KINDS: dict[int, SanKind] = {
    common_pb2.SubjectAltNameMatcher.EMAIL: "email",
    common_pb2.SubjectAltNameMatcher.DNS: "dns",
    common_pb2.SubjectAltNameMatcher.URI: "uri",
    common_pb2.SubjectAltNameMatcher.IP_ADDRESS: "ip",
}


def read_data_source(source: DataSource, path: str) -> bytes:
    """Return the bytes that `source` names; b"" where nothing is set.

    Raises:
        ConfigError: a file or environment variable that is not there.
    """
    kind = source.WhichOneof("specifier")
    if kind == "inline_bytes":
        return bytes(source.inline_bytes)
    if kind == "inline_string":
        return str(source.inline_string).encode()
    if kind == "filename":
        try:
            return Path(source.filename).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot be read: {error.strerror}",
                field=join(path, "filename"),
                found=source.filename,
            ) from None
    if kind == "environment_variable":
        value = os.environ.get(source.environment_variable)
        if value is None:
            raise ConfigError(
                "is not set in the environment",
                field=join(path, "environment_variable"),
                found=source.environment_variable,
            )
        return value.encode()
    return b""


def compile_secret(message: SecretMessage, path: str = "") -> Secret:
    """Return the certificate or validation context inside.

    Raises:
        ConfigError: with the path of the field.
    """
    kind = message.WhichOneof("type")
    if kind == "tls_certificate":
        return compile_tls_certificate(message.tls_certificate, join(path, "tls_certificate"))
    if kind == "validation_context":
        return compile_validation_context(
            message.validation_context, join(path, "validation_context")
        )
    raise ConfigError(
        "must hold a certificate or a validation context",
        field=path,
        allowed="tls_certificate, validation_context",
    )


def compile_tls_certificate(message: common_pb2.TlsCertificate, path: str) -> TlsCertificate:
    chain = read_data_source(message.certificate_chain, join(path, "certificate_chain"))
    key = read_data_source(message.private_key, join(path, "private_key"))
    if b"-----BEGIN CERTIFICATE-----" not in chain:
        raise ConfigError("holds no PEM certificate", field=join(path, "certificate_chain"))
    if b"PRIVATE KEY-----" not in key:
        raise ConfigError("holds no PEM key", field=join(path, "private_key"))
    return TlsCertificate(certificate_chain=chain, private_key=key)


def compile_validation_context(
    message: common_pb2.CertificateValidationContext, path: str
) -> ValidationContext:
    typed = [
        compile_san_matcher(item, f"{join(path, 'match_typed_subject_alt_names')}[{index}]")
        for index, item in enumerate(message.match_typed_subject_alt_names)
    ]
    untyped = [
        SanMatch(
            match=compile_string_matcher(item, f"{join(path, 'match_subject_alt_names')}[{index}]")
        )
        for index, item in enumerate(message.match_subject_alt_names)
    ]
    accept_untrusted = (
        message.trust_chain_verification == common_pb2.CertificateValidationContext.ACCEPT_UNTRUSTED
    )
    return ValidationContext(
        trusted_ca=read_data_source(message.trusted_ca, join(path, "trusted_ca")),
        subject_alt_names=tuple(typed + untyped),
        crl=read_data_source(message.crl, join(path, "crl")),
        verify_certificate_spki=tuple(message.verify_certificate_spki),
        verify_certificate_hash=tuple(message.verify_certificate_hash),
        trust_chain_verification="accept_untrusted" if accept_untrusted else "verify_trust_chain",
    )


def compile_san_matcher(message: common_pb2.SubjectAltNameMatcher, path: str) -> SanMatch:
    kind = SAN_KINDS.get(message.san_type)
    if kind is None:
        raise ConfigError(
            "is not supported",
            field=join(path, "san_type"),
            found=str(message.san_type),
            allowed="EMAIL, DNS, URI, IP_ADDRESS",
        )
    return SanMatch(match=compile_string_matcher(message.matcher, join(path, "matcher")), kind=kind)

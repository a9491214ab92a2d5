"""TLS settings and secrets as data (Envoy `DownstreamTlsContext`, `UpstreamTlsContext`, SDS)."""

from dataclasses import dataclass, field
from typing import Literal

from meshlab.proxy.core.matcher import StringMatch

SanKind = Literal["any", "uri", "dns", "email", "ip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SanMatch:
    """One accepted subject alternative name; `any` is the untyped matcher of older Envoys."""

    match: StringMatch
    kind: SanKind = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsCertificate:
    """A chain with its key, both PEM (`tls.v3.TlsCertificate`)."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationContext:
    """Whom to trust (`tls.v3.CertificateValidationContext`)."""

    trusted_ca: bytes = b""
    """PEM; empty: the peer's chain is not verified (and a client certificate not asked for)."""
    subject_alt_names: tuple[SanMatch, ...] = ()
    """Any one suffices; none: any name signed by the CA."""
    crl: bytes = b""
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    trust_chain_verification: Literal["verify_trust_chain", "accept_untrusted"] = (
        "verify_trust_chain"
    )


Secret = TlsCertificate | ValidationContext


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContext:
    """`tls.v3.CommonTlsContext`: what both sides share. A string is the name of an SDS secret."""

    certificates: tuple[TlsCertificate | str, ...] = ()
    validation: ValidationContext | None = None
    """Inline, or the `default_validation_context` of a combined one."""
    validation_secret: str = ""
    """SDS secret whose CA, CRL (and names, when it has some) join `validation`."""
    alpn_protocols: tuple[str, ...] = ()
    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    maximum_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.3"
    cipher_suites: tuple[str, ...] = ()
    """OpenSSL names for TLS 1.2; empty: OpenSSL's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownstreamTls:
    """`tls.v3.DownstreamTlsContext`."""

    context: TlsContext
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    """`tls.v3.UpstreamTlsContext`."""

    context: TlsContext
    sni: str = ""
    auto_host_sni: bool = False
    """SNI from the endpoint's hostname."""
    auto_sni_from_request: bool = False
    """`auto_sni` of the HTTP protocol options: SNI from the request's host."""
    auto_san_validation: bool = False


def secret_names(context: TlsContext) -> tuple[str, ...]:
    """Return the SDS secrets that `context` needs before it can be used."""
    names = [name for name in context.certificates if isinstance(name, str)]
    if context.validation_secret:
        names.append(context.validation_secret)
    return tuple(names)

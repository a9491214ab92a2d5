"""TLS through Python's `ssl`: contexts from secrets, and what the peer's certificate says.

Private keys reach OpenSSL through a memory file, never through one on disk.
"""

import logging
import os
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from meshlab.errors import ConfigError
from meshlab.proxy.core.matcher import compile_string
from meshlab.proxy.core.stream_info import PeerCertificate
from meshlab.proxy.core.tls import (
    DownstreamTls,
    SanMatch,
    Secret,
    TlsCertificate,
    TlsContext,
    UpstreamTls,
    ValidationContext,
)

log = logging.getLogger(__name__)

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
SanTest = Callable[[PeerCertificate], bool]


class MissingSecretError(Exception):
    """An SDS secret has not come yet.

    Attributes:
        name: of the secret.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"secret {name} is not there yet")


class PreparedTls:
    """An OpenSSL context, and the test of the peer's names that OpenSSL does not make.

    Attributes:
        context: for handshakes.
        accepts: whether the peer's certificate has an accepted name; None: any name will do.
        own: our own certificate.
    """

    __slots__ = ("accepts", "context", "own")

    def __init__(
        self, context: ssl.SSLContext, accepts: SanTest | None, own: PeerCertificate | None
    ) -> None:
        self.context = context
        self.accepts = accepts
        self.own = own


def resolve_certificates(
    context: TlsContext, secrets: Mapping[str, Secret]
) -> list[TlsCertificate]:
    """Return the certificates, those named by SDS looked up.

    Raises:
        MissingSecretError: one is not there (yet).
    """
    found: list[TlsCertificate] = []
    for certificate in context.certificates:
        if isinstance(certificate, str):
            secret = secrets.get(certificate)
            if not isinstance(secret, TlsCertificate):
                raise MissingSecretError(certificate)
            found.append(secret)
        else:
            found.append(certificate)
    return found


def resolve_validation(
    context: TlsContext, secrets: Mapping[str, Secret]
) -> ValidationContext | None:
    """Return whom to trust: the inline part joined by the SDS part.

    Raises:
        MissingSecretError: the secret is not there (yet).
    """
    if not context.validation_secret:
        return context.validation
    secret = secrets.get(context.validation_secret)
    if not isinstance(secret, ValidationContext):
        raise MissingSecretError(context.validation_secret)
    inline = context.validation
    if inline is None:
        return secret
    return ValidationContext(
        trusted_ca=secret.trusted_ca or inline.trusted_ca,
        subject_alt_names=inline.subject_alt_names + secret.subject_alt_names,
        crl=secret.crl or inline.crl,
        verify_certificate_spki=inline.verify_certificate_spki + secret.verify_certificate_spki,
        verify_certificate_hash=inline.verify_certificate_hash + secret.verify_certificate_hash,
        trust_chain_verification=inline.trust_chain_verification,
    )


def load_certificate(context: ssl.SSLContext, certificate: TlsCertificate) -> None:
    """Give OpenSSL a chain and its key.

    Raises:
        ConfigError: OpenSSL does not take them.
    """
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(certificate.certificate_chain)
            file.write(b"\n")
            file.write(certificate.private_key)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"certificate and key are not taken: {error}", field="tls_certificates"
        ) from error
    finally:
        os.close(handle)


def configure(
    context: ssl.SSLContext,
    settings: TlsContext,
    secrets: Mapping[str, Secret],
    alpn: tuple[str, ...],
) -> tuple[ValidationContext | None, PeerCertificate | None]:
    """Put into `context` what both sides share; return (validation, own certificate)."""
    context.minimum_version = VERSIONS[settings.minimum_version]
    context.maximum_version = VERSIONS[settings.maximum_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if settings.cipher_suites:
        try:
            context.set_ciphers(":".join(settings.cipher_suites))
        except ssl.SSLError as error:
            raise ConfigError(
                "no cipher suite that OpenSSL knows",
                field="tls_params.cipher_suites",
                found=":".join(settings.cipher_suites),
            ) from error
    if alpn:
        context.set_alpn_protocols(list(alpn))
    own: PeerCertificate | None = None
    for certificate in resolve_certificates(settings, secrets):
        load_certificate(context, certificate)
        if own is None:
            own = read_pem(certificate.certificate_chain)
    validation = resolve_validation(settings, secrets)
    if validation is not None and validation.trusted_ca:
        try:
            context.load_verify_locations(cadata=validation.trusted_ca.decode())
            if validation.crl:
                context.load_verify_locations(cadata=validation.crl.decode())
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise ConfigError(f"CA is not taken: {error}", field="trusted_ca") from error
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return validation, own


def server_tls(tls: DownstreamTls, secrets: Mapping[str, Secret]) -> PreparedTls:
    """Return the server side of `tls`.

    Raises:
        MissingSecretError: an SDS secret is not there (yet).
        ConfigError: OpenSSL refuses something.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    validation, own = configure(context, tls.context, secrets, tls.context.alpn_protocols)
    if validation is not None and validation.trusted_ca:
        context.verify_mode = (
            ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_OPTIONAL
        )
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    return PreparedTls(context, san_test(validation), own)


def client_tls(
    tls: UpstreamTls, secrets: Mapping[str, Secret], alpn: tuple[str, ...]
) -> PreparedTls:
    """Return the client side of `tls`, offering `alpn`.

    Raises:
        MissingSecretError: an SDS secret is not there (yet).
        ConfigError: OpenSSL refuses something.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # names are ours to check: SPIFFE ids are not host names
    context.verify_mode = ssl.CERT_NONE
    validation, own = configure(context, tls.context, secrets, alpn)
    if (
        validation is not None
        and validation.trusted_ca
        and validation.trust_chain_verification == "verify_trust_chain"
    ):
        context.verify_mode = ssl.CERT_REQUIRED
    return PreparedTls(context, san_test(validation), own)


def san_test(validation: ValidationContext | None) -> SanTest | None:
    """Return the test of the peer's certificate by names and hashes; None for no condition."""
    if validation is None:
        return None
    names = [compile_san(match) for match in validation.subject_alt_names]
    fingerprints = {value.replace(":", "").lower() for value in validation.verify_certificate_hash}
    if not names and not fingerprints:
        return None

    def accepts(certificate: PeerCertificate) -> bool:
        if fingerprints and certificate.sha256 not in fingerprints:
            return False
        return not names or any(test(certificate) for test in names)

    return accepts


def compile_san(match: SanMatch) -> SanTest:
    test = compile_string(match.match, field="match_typed_subject_alt_names")
    kind = match.kind
    exact_dns = match.match.value.decode("latin-1").lower() if match.match.kind == "exact" else ""

    def accepts(certificate: PeerCertificate) -> bool:
        if kind in ("uri", "any") and any(test(n.encode()) for n in certificate.uri_sans):
            return True
        if kind in ("dns", "any") and any(
            test(n.encode()) or (exact_dns and wildcard_covers(n, exact_dns))
            for n in certificate.dns_sans
        ):
            return True
        if kind in ("email", "any") and any(test(n.encode()) for n in certificate.email_sans):
            return True
        return kind in ("ip", "any") and any(test(n.encode()) for n in certificate.ip_sans)

    return accepts


def wildcard_covers(pattern: str, name: str) -> bool:
    """Tell whether a certificate's `*.b` covers `name` (RFC 6125 §6.4.3: one label)."""
    _, _, rest = name.partition(".")
    return pattern.startswith("*.") and bool(rest) and pattern[2:].lower() == rest


@lru_cache(maxsize=512)
def read_der(der: bytes) -> PeerCertificate:
    """Return what a certificate says."""
    return describe(x509.load_der_x509_certificate(der))


@lru_cache(maxsize=64)
def read_pem(chain: bytes) -> PeerCertificate:
    """Return what the first certificate of a chain says.

    Raises:
        ConfigError: it is no certificate.
    """
    try:
        return describe(x509.load_pem_x509_certificates(chain)[0])
    except (ValueError, IndexError) as error:
        raise ConfigError(
            f"no certificate in PEM form: {error}", field="certificate_chain"
        ) from error


def describe(certificate: x509.Certificate) -> PeerCertificate:
    names: x509.SubjectAlternativeName | list[x509.GeneralName]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = []
    return PeerCertificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        uri_sans=tuple(
            name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)
        ),
        dns_sans=tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        email_sans=tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        ip_sans=tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        pem=quote(certificate.public_bytes(Encoding.PEM).decode(), safe=""),
    )


def peer_certificate(connection: ssl.SSLObject) -> PeerCertificate | None:
    """Return the certificate that the peer showed in the handshake."""
    der = connection.getpeercert(binary_form=True)
    return read_der(der) if der else None


def check_context(context: TlsContext) -> None:
    """Try out all of a context that does not depend on SDS.

    Raises:
        ConfigError: OpenSSL refuses it, or a matcher does not compile.
    """
    inline = tuple(c for c in context.certificates if not isinstance(c, str))
    trial = TlsContext(
        certificates=inline,
        validation=context.validation,
        alpn_protocols=context.alpn_protocols,
        minimum_version=context.minimum_version,
        maximum_version=context.maximum_version,
        cipher_suites=context.cipher_suites,
    )
    prepared = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    validation, _ = configure(prepared, trial, {}, trial.alpn_protocols)
    san_test(validation)


class TlsContexts:
    """OpenSSL contexts by settings, made when first needed, made anew when a secret changes."""

    __slots__ = ("_clients", "_servers", "on_missing_secret", "secrets")

    def __init__(self) -> None:
        self.secrets: Mapping[str, Secret] = {}
        self.on_missing_secret: Callable[[str], None] | None = None
        self._servers: dict[int, tuple[DownstreamTls, PreparedTls]] = {}
        self._clients: dict[tuple[int, tuple[str, ...]], tuple[UpstreamTls, PreparedTls]] = {}

    def set_secrets(self, secrets: Mapping[str, Secret]) -> bool:
        """Take new secrets; True: contexts in use were dropped, for new connections only."""
        if secrets == self.secrets:
            return False
        self.secrets = secrets
        self._servers.clear()
        self._clients.clear()
        return True

    def server(self, tls: DownstreamTls) -> PreparedTls:
        """Return the context for accepting.

        Raises:
            MissingSecretError: a secret is not there; `on_missing_secret` has been told.
        """
        found = self._servers.get(id(tls))
        if found is not None and found[0] is tls:
            return found[1]
        try:
            prepared = server_tls(tls, self.secrets)
        except MissingSecretError as error:
            self._tell(error.name)
            raise
        self._servers[id(tls)] = (tls, prepared)
        return prepared

    def client(self, tls: UpstreamTls, alpn: tuple[str, ...]) -> PreparedTls:
        """Return the context for connecting.

        Raises:
            MissingSecretError: a secret is not there; `on_missing_secret` has been told.
        """
        key = (id(tls), alpn)
        found = self._clients.get(key)
        if found is not None and found[0] is tls:
            return found[1]
        try:
            prepared = client_tls(tls, self.secrets, alpn)
        except MissingSecretError as error:
            self._tell(error.name)
            raise
        self._clients[key] = (tls, prepared)
        return prepared

    def _tell(self, name: str) -> None:
        if self.on_missing_secret is not None:
            self.on_missing_secret(name)


def is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

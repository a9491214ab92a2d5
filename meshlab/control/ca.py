"""The mesh's certificate authority: CSR to SPIFFE X.509 certificate (X509-SVID, RFC 5280).

The CA takes a public key from the CSR and nothing else: whose certificate it is, the caller's
token has said.
"""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshlab.errors import ConfigError

ROOT_LIFETIME = dt.timedelta(days=3650)
WORKLOAD_LIFETIME = dt.timedelta(hours=24)
LONGEST_WORKLOAD_LIFETIME = dt.timedelta(days=90)
CLOCK_SKEW = dt.timedelta(minutes=2)
"""A certificate is valid from this long ago: the pod's clock may be behind the control plane's."""

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A private key with its certificate chain, both PEM."""

    key: bytes
    chain: bytes
    """The leaf first; without the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """A signing certificate and its key; immutable, a rotation makes a new one."""

    certificate: x509.Certificate
    key: PrivateKey
    root: x509.Certificate
    """What peers trust; the signing certificate itself when it is self-signed."""
    intermediates: tuple[x509.Certificate, ...] = ()
    """Between the leaf and the root, the issuer first; () when self-signed."""

    @property
    def root_pem(self) -> bytes:
        return _pem(self.root)

    @property
    def certificate_pem(self) -> bytes:
        return _pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self.key)

    def sign_workload(
        self,
        csr_pem: bytes,
        identity: str,
        *,
        now: dt.datetime,
        lifetime: dt.timedelta = WORKLOAD_LIFETIME,
    ) -> list[str]:
        """Return the chain for `identity` (a SPIFFE URI), PEM, the leaf first, the root last.

        Raises:
            ConfigError: not a CSR, not signed by its own key, or a key we do not certify.
        """
        key = _csr_key(csr_pem)
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        capped = min(lifetime, LONGEST_WORKLOAD_LIFETIME)
        leaf = self._sign(key, name, usages, now=now, lifetime=capped)
        return [_pem(c).decode() for c in (leaf, *self.intermediates, self.root)]

    def serving(
        self,
        dns_names: list[str],
        *,
        now: dt.datetime,
        lifetime: dt.timedelta = WORKLOAD_LIFETIME,
    ) -> KeyPair:
        """Return a fresh key and a server's certificate for `dns_names`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
        leaf = self._sign(key.public_key(), names, usages, now=now, lifetime=lifetime)
        chain = b"".join(_pem(c) for c in (leaf, *self.intermediates))
        return KeyPair(key=_key_pem(key), chain=chain)

    def _sign(
        self,
        key: PublicKey,
        names: x509.SubjectAlternativeName,
        usages: list[x509.ObjectIdentifier],
        *,
        now: dt.datetime,
        lifetime: dt.timedelta,
    ) -> x509.Certificate:
        issuer_key = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + lifetime, self.certificate.not_valid_after_utc))
            # RFC 5280 §4.2.1.6: with an empty subject the names are critical.
            .add_extension(names, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key.value),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


def self_signed(trust_domain: str, *, now: dt.datetime) -> CertificateAuthority:
    """Return a new root of its own, ECDSA P-256, for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateAuthority(certificate=certificate, key=key, root=certificate)


def load(
    certificate: bytes, key: bytes, *, root: bytes = b"", chain: bytes = b""
) -> CertificateAuthority:
    """Return the CA that a Secret holds (`istio-ca-secret`, or a plugged-in `cacerts`), all PEM.

    Raises:
        ConfigError: the pieces cannot be read or do not belong together.
    """
    try:
        signer = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, password=None)
        top = x509.load_pem_x509_certificate(root) if root.strip() else signer
        between = x509.load_pem_x509_certificates(chain) if chain.strip() else []
    except ValueError as error:
        raise ConfigError(f"the CA's certificate or key cannot be read: {error}") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigError("the CA's key is neither RSA nor ECDSA")
    if _public_bytes(private.public_key()) != _public_bytes(signer.public_key()):
        raise ConfigError("the CA's key does not belong to its certificate")
    issuers = [c for c in between if c != top]
    if signer != top and signer not in issuers:
        issuers.insert(0, signer)
    return CertificateAuthority(
        certificate=signer, key=private, root=top, intermediates=tuple(issuers)
    )


def _csr_key(csr_pem: bytes) -> PublicKey:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        valid = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, InvalidSignature) as error:
        raise ConfigError(f"the certificate signing request cannot be read: {error}") from error
    if not valid:
        raise ConfigError("the certificate signing request is not signed by its own key")
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            return key
        case rsa.RSAPublicKey() if key.key_size >= 2048:
            return key
    raise ConfigError(
        "the key is not one that we certify",
        allowed="ECDSA P-256 or P-384, RSA of 2048 bits or more",
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return b""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )

"""From CSR to certificate."""

import base64
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from meshlab.control import ca
from meshlab.errors import ConfigError

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SPIFFE = "spiffe://cluster.local/ns/shop/sa/web"
ROOT = ca.self_signed("cluster.local", now=NOW)


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, claims: str = "spiffe://x/y") -> bytes:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(claims)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def leaf_of(chain: list[str]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain[0].encode())


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256R1()), id="ECDSA P-256"),
        pytest.param(rsa.generate_private_key(65537, 2048), id="RSA 2048"),
    ],
)
def test_the_identity_is_the_callers_not_the_requests(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    chain = ROOT.sign_workload(csr(key, "spiffe://cluster.local/ns/x/sa/admin"), SPIFFE, now=NOW)
    leaf = leaf_of(chain)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier(SPIFFE)]
    assert names.critical  # RFC 5280: the subject is empty
    assert leaf.public_key() == key.public_key()
    assert chain[-1].encode() == ROOT.root_pem
    leaf.verify_directly_issued_by(ROOT.certificate)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        pytest.param(dt.timedelta(hours=1), dt.timedelta(hours=1), id="as asked"),
        pytest.param(dt.timedelta(days=365), dt.timedelta(days=90), id="no longer than 90 days"),
    ],
)
def test_lifetime(asked: dt.timedelta, given: dt.timedelta) -> None:
    request = csr(ec.generate_private_key(ec.SECP256R1()))
    leaf = leaf_of(ROOT.sign_workload(request, SPIFFE, now=NOW, lifetime=asked))
    assert leaf.not_valid_after_utc == NOW + given
    assert leaf.not_valid_before_utc == NOW - ca.CLOCK_SKEW


def test_a_certificate_never_outlives_its_issuer() -> None:
    late = NOW + ca.ROOT_LIFETIME - dt.timedelta(hours=1)
    request = csr(ec.generate_private_key(ec.SECP256R1()))
    leaf = leaf_of(ROOT.sign_workload(request, SPIFFE, now=late))
    assert leaf.not_valid_after_utc == NOW + ca.ROOT_LIFETIME


def _tampered() -> bytes:
    good = x509.load_pem_x509_csr(csr(ec.generate_private_key(ec.SECP256R1())))
    wire = bytearray(good.public_bytes(serialization.Encoding.DER))
    wire[-1] ^= 1  # the last bit of the signature
    text = base64.encodebytes(wire).decode()
    return (
        f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n".encode()
    )


def _ed25519() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(ed25519.Ed25519PrivateKey.generate(), None)
    return request.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"hello", id="not a request"),
        pytest.param(_tampered(), id="not signed by its own key"),
        pytest.param(csr(rsa.generate_private_key(65537, 1024)), id="a short RSA key"),
        pytest.param(_ed25519(), id="a kind of key that peers do not take"),
    ],
)
def test_what_is_not_signed(request_: bytes) -> None:
    with pytest.raises(ConfigError):
        ROOT.sign_workload(request_, SPIFFE, now=NOW)


def test_the_serving_certificate_verifies_under_its_names() -> None:
    pair = ROOT.serving(["istiod.istio-system.svc", "istiod"], now=NOW)
    policy = PolicyBuilder().store(Store([ROOT.root])).time(NOW + dt.timedelta(hours=1))
    verifier = policy.build_server_verifier(x509.DNSName("istiod.istio-system.svc"))
    leaf = x509.load_pem_x509_certificate(pair.chain)
    assert verifier.verify(leaf, []) == [leaf, ROOT.root]


def test_a_stored_ca_comes_back_the_same() -> None:
    loaded = ca.load(ROOT.certificate_pem, ROOT.key_pem)
    assert (loaded.root_pem, loaded.key_pem, loaded.intermediates) == (
        ROOT.root_pem,
        ROOT.key_pem,
        (),
    )


def test_a_key_of_another_ca_is_refused() -> None:
    other = ca.self_signed("cluster.local", now=NOW)
    with pytest.raises(ConfigError, match="does not belong"):
        ca.load(ROOT.certificate_pem, other.key_pem)

import datetime
import ipaddress
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshlab.errors import ConfigError
from meshlab.proxy.core.cluster import TransportSocketMatch
from meshlab.proxy.core.filter_chain import FilterChain, FilterChainMatch
from meshlab.proxy.core.http_connection_manager import (
    Alpn,
    ClientCertificateDetails,
    IstioStats,
    MetadataExchange,
)
from meshlab.proxy.core.listener import Inspector
from meshlab.proxy.core.matcher import StringMatch
from meshlab.proxy.core.snapshot import Node
from meshlab.proxy.core.stream_info import PeerCertificate, flag_names
from meshlab.proxy.core.tcp_proxy import TcpProxy
from meshlab.proxy.core.tls import (
    DownstreamTls,
    SanMatch,
    TlsCertificate,
    TlsContext,
    UpstreamTls,
    ValidationContext,
)
from meshlab.proxy.net.tls import check_context, compile_san, read_pem

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


class Authority:
    def __init__(self, name="test"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def validation(self):
        return ValidationContext(trusted_ca=pem(self.certificate))

    def issue(self, *names):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.SubjectAlternativeName(list(names)), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return TlsCertificate(
            certificate_chain=pem(certificate),
            private_key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def workload(self, name):
        return self.issue(x509.UniformResourceIdentifier(spiffe(name)))


def spiffe(name):
    return f"spiffe://cluster.local/ns/default/sa/{name}"


def exact(name):
    return SanMatch(match=StringMatch(kind="exact", value=spiffe(name).encode()))


CA = Authority()
CONTEXT = TlsContext(certificates=("default",), validation_secret="ROOTCA")
SNI = "outbound_.80_._.web.default.svc.cluster.local"


def server_secrets():
    return {"default": CA.workload("server"), "ROOTCA": CA.validation}


def downstream(**settings):
    return DownstreamTls(
        context=replace(CONTEXT, alpn_protocols=("h2", "http/1.1")),
        require_client_certificate=True,
        **settings,
    )


def upstream(*names):
    return UpstreamTls(
        context=replace(
            CONTEXT,
            validation=ValidationContext(subject_alt_names=tuple(exact(name) for name in names)),
            alpn_protocols=("istio-peer-exchange", "istio"),
        ),
        sni=SNI,
    )


ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")


async def pair(h, *, names=("server",), secrets=None, web_port=None):
    """Two sidecars in one worker: `out` → TLS → `in` (PERMISSIVE) → the app."""
    port = web_port or await h.web()
    routes = h.routes(h.route())
    inbound = h.manager(
        rds_name="in",
        filters=(MetadataExchange(), IstioStats(reporter="destination")),
        forward_client_cert="append_forward",
        client_cert_details=ClientCertificateDetails(subject=True, dns=True, uri=True),
        server_name=b"istio-envoy",
    )
    tls_match = FilterChainMatch(transport_protocol="tls", application_protocols=ISTIO_ALPN)
    await h.start(
        h.cluster(port),
        listeners=(
            h.listener(
                FilterChain(name="mtls", match=tls_match, terminal=inbound, tls=downstream()),
                FilterChain(
                    name="plain",
                    match=FilterChainMatch(transport_protocol="raw_buffer"),
                    terminal=inbound,
                ),
                name="in",
                tls_inspector=Inspector(),
                http_inspector=Inspector(),
                traffic_direction="inbound",
            ),
        ),
        node=Node(
            id="sidecar~10.0.0.1~web.default~default.svc.cluster.local",
            metadata={
                "WORKLOAD_NAME": "web",
                "NAMESPACE": "default",
                "CLUSTER_ID": "Kubernetes",
                "LABELS": {"app": "web", "version": "v1"},
            },
        ),
        secrets=server_secrets() if secrets is None else secrets,
    )
    out = h.manager(
        rds_name="out",
        filters=(MetadataExchange(), Alpn(), IstioStats(reporter="source")),
    )
    worker = h.running
    remote = h.cluster(
        h.port("in"),
        name="remote",
        transport_socket_matches=(
            TransportSocketMatch(name="tlsMode-istio", match={}, tls=upstream(*names)),
        ),
        metadata={
            "istio": {
                "services": (
                    {
                        "host": "web.default.svc.cluster.local",
                        "name": "web",
                        "namespace": "default",
                    },
                )
            }
        },
    )
    to_remote = replace(h.routes(h.route(replace(h.route().action, cluster="remote"))), name="out")
    await h.change(
        listeners={
            **worker.snapshot.listeners,
            "http": h.listener(FilterChain(terminal=out), traffic_direction="outbound"),
        },
        clusters={**worker.snapshot.clusters, "remote": remote},
        routes={"in": replace(routes, name="in"), "out": to_remote},
    )


def test_mutual_tls_between_two_sidecars(run):
    async def test(h):
        await pair(h)
        answer = await h.get()
        assert (answer.status, answer.body) == (200, b"web")
        assert "x-envoy-peer-metadata" not in answer.headers
        await h.until(lambda: len(h.logs) == 2)
        inner, outer = h.logs
        assert inner.connection.requested_server_name == SNI
        assert inner.connection.tls_version == "TLSv1.3"
        assert inner.connection.peer_certificate.uri_sans == (spiffe("server"),)
        assert outer.upstream_certificate.uri_sans == (spiffe("server"),)
        [(_, _, headers, _)] = h.seen
        assert "x-envoy-peer-metadata" not in headers
        assert headers["x-forwarded-client-cert"] == (
            f"By={spiffe('server')};Hash={inner.connection.peer_certificate.sha256};"
            f'Subject="";URI={spiffe("server")}'
        )
        assert outer.upstream_peer.workload == inner.downstream_peer.workload == "web"
        labels = {
            dict(counter.labels)["reporter"]: dict(counter.labels)
            for (name, _), counter in h.running.stats.counters.items()
            if name == "istio_requests_total"
        }
        common = {
            "source_workload": "web",
            "source_workload_namespace": "default",
            "source_principal": spiffe("server"),
            "source_app": "web",
            "source_version": "v1",
            "source_canonical_service": "web",
            "source_canonical_revision": "v1",
            "source_cluster": "Kubernetes",
            "destination_workload": "web",
            "destination_workload_namespace": "default",
            "destination_principal": spiffe("server"),
            "destination_app": "web",
            "destination_version": "v1",
            "destination_canonical_service": "web",
            "destination_canonical_revision": "v1",
            "destination_cluster": "Kubernetes",
            "request_protocol": "http",
            "response_code": "200",
            "grpc_response_status": "",
            "response_flags": "-",
        }
        assert labels["source"] == {
            "reporter": "source",
            **common,
            "destination_service": "web.default.svc.cluster.local",
            "destination_service_name": "web",
            "destination_service_namespace": "default",
            "connection_security_policy": "unknown",
        }
        assert labels["destination"] == {
            "reporter": "destination",
            **common,
            "destination_service": "unknown",
            "destination_service_name": "unknown",
            "destination_service_namespace": "default",
            "connection_security_policy": "mutual_tls",
        }

    run(test)


def test_permissive_takes_plain_text(run):
    async def test(h):
        await pair(h)
        async with h.client("in") as client:
            assert (await client.get()).status == 200
        assert h.logs[0].connection.tls_version == ""

    run(test)


def test_wrong_server_name_is_refused(run):
    async def test(h):
        await pair(h, names=("somebody-else",))
        answer = await h.get()
        assert answer.status == 503
        assert flag_names(h.logs[0].flags) == "UF"
        assert "verify_SAN_list" in h.logs[0].upstream_transport_failure_reason
        assert h.seen == []
        assert h.counter("cluster.remote.ssl.fail_verify_san") == 1

    run(test)


def test_client_without_certificate_is_refused(run):
    async def test(h):
        await pair(h)
        context = ssl.create_default_context(cadata=pem(CA.certificate).decode())
        context.check_hostname = False
        context.set_alpn_protocols(["istio"])
        with pytest.raises((ssl.SSLError, OSError, EOFError)):
            async with h.client("in", context, server_hostname="web.test") as client:
                await client.get()
        await h.until(
            lambda: any(
                name.endswith("ssl.fail_verify_no_cert") and counter.value
                for (name, _), counter in h.running.stats.counters.items()
            )
        )
        assert h.seen == []

    run(test)


def test_foreign_client_is_refused(run):
    async def test(h):
        await pair(h)
        foreign = Authority("foreign")
        await h.change(secrets={"default": foreign.workload("server"), "ROOTCA": CA.validation})
        assert (await h.get()).status == 503
        assert h.seen == []

    run(test)


def test_rotated_secret_serves_new_connections(run):
    async def test(h):
        await pair(h)
        async with h.client() as client:
            await client.get()
            rotated = server_secrets()
            before = h.logs[-1].upstream_certificate.serial
            await h.change(secrets=rotated)
            assert (await client.get()).status == 200
        assert h.logs[-1].upstream_certificate.serial != before

    run(test)


def test_missing_secret_is_asked_for(run):
    async def test(h):
        asked = []
        await pair(h, secrets={})
        h.running.on_missing_secret = asked.append
        assert (await h.get()).status == 503
        assert asked == ["default"]
        await h.change(secrets=server_secrets())
        assert (await h.get()).status == 200

    run(test)


def open_files():
    links = Path("/proc/self/fd").iterdir()
    return [str(link.readlink()) for link in links if link.is_symlink()]


def test_key_leaves_no_file_and_no_descriptor(run):
    async def test(h):
        await pair(h)
        await h.get()
        assert not [name for name in open_files() if "memfd:tls" in name]

    run(test)


def test_foreign_tls_passes_through_by_sni(run):
    async def test(h):
        async def hello(reader, writer):
            data = await reader.read(5)
            writer.write(data[:1] + b"!")

        port = await h.server(hello)
        tcp = TcpProxy(stat_prefix="tcp", cluster="web")
        await h.start(
            h.cluster(port),
            listeners=(
                h.listener(
                    FilterChain(match=FilterChainMatch(server_names=("*.test",)), terminal=tcp),
                ),
            ),
        )
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client = context.wrap_bio(incoming, outgoing, server_hostname="a.test")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        first = outgoing.read()
        async with h.client() as raw:
            for place in range(0, len(first), 50):  # in pieces, as a slow network brings it
                raw.writer.write(first[place : place + 50])
                await raw.writer.drain()
            assert await raw.reader.read(2) == b"\x16!"
        assert h.counter("listener.127.0.0.1_0.no_filter_chain_match") == 0

    run(test)


@pytest.mark.parametrize(
    ("match", "accepted"),
    [
        pytest.param(exact("a"), True, id="exact"),
        pytest.param(exact("b"), False, id="other"),
        pytest.param(
            SanMatch(match=StringMatch(kind="prefix", value=b"spiffe://cluster.local/")),
            True,
            id="prefix",
        ),
        pytest.param(SanMatch(match=StringMatch(kind="suffix", value=b"/sa/a")), True, id="suffix"),
        pytest.param(
            SanMatch(match=StringMatch(kind="regex", value=b"spiffe://.*/sa/[ab]")),
            True,
            id="regex",
        ),
        pytest.param(
            SanMatch(match=StringMatch(kind="regex", value=b"spiffe://")), False, id="whole"
        ),
        pytest.param(
            SanMatch(kind="dns", match=StringMatch(kind="exact", value=b"x.web.test")),
            True,
            id="wildcard certificate",
        ),
        pytest.param(
            SanMatch(kind="dns", match=StringMatch(kind="exact", value=b"x.y.web.test")),
            False,
            id="wildcard is one label",
        ),
        pytest.param(
            SanMatch(kind="dns", match=StringMatch(kind="exact", value=spiffe("a").encode())),
            False,
            id="kind counts",
        ),
    ],
)
def test_san(match, accepted):
    certificate = PeerCertificate(uri_sans=(spiffe("a"),), dns_sans=("*.web.test",))
    assert compile_san(match)(certificate) is accepted


def test_context_that_openssl_refuses():
    with pytest.raises(ConfigError) as caught:
        check_context(TlsContext(cipher_suites=("NO-SUCH-CIPHER",)))
    assert caught.value.field == "tls_params.cipher_suites"
    with pytest.raises(ConfigError) as caught:
        check_context(
            TlsContext(
                certificates=(
                    TlsCertificate(
                        certificate_chain=CA.issue(x509.DNSName("a")).certificate_chain,
                        private_key=CA.issue(x509.DNSName("a")).private_key,
                    ),
                )
            )
        )
    assert caught.value.field == "tls_certificates"


def test_ip_names_are_read():
    found = read_pem(CA.issue(x509.IPAddress(ipaddress.ip_address("10.0.0.1"))).certificate_chain)
    assert found.ip_sans == ("10.0.0.1",)

import uuid

import pytest

from meshlab.proxy.core.forwarded import forward, remove_hop_by_hop, request_id
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import parse_request
from meshlab.proxy.core.http_connection_manager import (
    ClientCertificateDetails,
    HttpConnectionManager,
)
from meshlab.proxy.core.stream_info import ConnectionInfo, PeerCertificate

CLIENT = PeerCertificate(
    subject='CN="a"', sha256="ab12", uri_sans=("spiffe://t/ns/n/sa/client",), dns_sans=("c.test",)
)
SERVER = PeerCertificate(uri_sans=("spiffe://t/ns/n/sa/server",))
DETAILS = ClientCertificateDetails(subject=True, uri=True, dns=True)
ELEMENT = (
    b"By=spiffe://t/ns/n/sa/server;Hash=ab12;"
    b'Subject="CN=\\"a\\"";URI=spiffe://t/ns/n/sa/client;DNS=c.test'
)


def passed(manager, *lines, tls=False, peer="10.0.0.9"):
    head = parse_request(b"\r\n".join((b"GET / HTTP/1.1", b"host: a", *lines)))
    connection = ConnectionInfo(1, "10.0.0.1:80", f"{peer}:99")
    if tls:
        connection.tls_version = "TLSv1.3"
        connection.peer_certificate = CLIENT
        connection.local_certificate = SERVER
    remote, external = forward(head, manager, connection, peer)
    headers = dict(head.headers)
    headers.pop(b"host")
    return headers, remote, external


def manager(**settings):
    return HttpConnectionManager(stat_prefix="t", **settings)


def test_sidecar_leaves_the_address_alone():
    assert passed(manager()) == ({b"x-forwarded-proto": b"http"}, "", False)


def test_sidecar_trusts_what_the_gateway_wrote():
    headers, remote, _ = passed(
        manager(), b"x-forwarded-for: 1.2.3.4, 5.6.7.8", b"x-forwarded-proto: https"
    )
    assert remote == "5.6.7.8"
    assert headers == {
        b"x-forwarded-for": b"1.2.3.4, 5.6.7.8",
        b"x-forwarded-proto": b"https",
    }


def test_edge_with_an_outside_client():
    headers, remote, external = passed(
        manager(use_remote_address=True),
        b"x-forwarded-for: 6.6.6.6",
        b"x-envoy-retry-on: 5xx",
        b"x-envoy-internal: true",
        b"x-forwarded-proto: https",
        peer="8.8.8.8",
    )
    assert (remote, external) == ("8.8.8.8", True)
    assert headers == {
        b"x-forwarded-for": b"6.6.6.6,8.8.8.8",
        b"x-forwarded-proto": b"http",
        b"x-envoy-external-address": b"8.8.8.8",
    }


def test_edge_with_an_inside_client():
    headers, _, external = passed(
        manager(use_remote_address=True, internal_addresses=("10.0.0.0/8",)),
        b"x-envoy-retry-on: 5xx",
    )
    assert not external
    assert headers == {
        b"x-envoy-retry-on": b"5xx",
        b"x-forwarded-for": b"10.0.0.9",
        b"x-forwarded-proto": b"http",
        b"x-envoy-internal": b"true",
    }


def test_trusted_hops():
    _, remote, _ = passed(
        manager(use_remote_address=True, xff_num_trusted_hops=1),
        b"x-forwarded-for: 1.1.1.1, 2.2.2.2",
    )
    assert remote == "2.2.2.2"


@pytest.mark.parametrize(
    ("mode", "tls", "before", "after"),
    [
        ("sanitize", True, b"old", None),
        ("sanitize_set", True, b"old", ELEMENT),
        ("append_forward", True, b"old", b"old," + ELEMENT),
        ("append_forward", True, None, ELEMENT),
        ("append_forward", False, b"old", None),
        ("forward_only", True, b"old", b"old"),
        ("forward_only", False, b"old", None),
        ("always_forward_only", False, b"old", b"old"),
    ],
)
def test_client_certificate(mode, tls, before, after):
    lines = () if before is None else (b"x-forwarded-client-cert: " + before,)
    settings = manager(forward_client_cert=mode, client_cert_details=DETAILS)
    headers, _, _ = passed(settings, *lines, tls=tls)
    assert headers.get(b"x-forwarded-client-cert") == after


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ([(b"connection", b"keep-alive"), (b"keep-alive", b"5"), (b"x", b"1")], [b"x"]),
        ([(b"connection", b"x"), (b"x", b"1"), (b"y", b"1")], [b"y"]),
        ([(b"connection", b"host, x-forwarded-for"), (b"x-forwarded-for", b"1")], None),
        ([(b"te", b"gzip, trailers;q=1")], [b"te"]),
        ([(b"te", b"gzip")], []),
        ([(b"transfer-encoding", b"chunked"), (b"upgrade", b"x")], []),
    ],
)
def test_hop_by_hop(fields, left):
    headers = Headers.of(*fields)
    remove_hop_by_hop(headers)
    assert headers.names == ([b"x-forwarded-for"] if left is None else left)


def test_request_id_is_a_uuid4():
    found = uuid.UUID(request_id(bytes(range(16))).decode())
    assert (found.version, found.variant) == (4, uuid.RFC_4122)

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.proxy.core import http_inspector, tls_inspector
from meshlab.proxy.core.tls_inspector import ClientHello, NotTls


def hello(name="Web.Test", protocols=("istio", "h2")):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = hello()
FACTS = ClientHello(server_name="web.test", application_protocols=("istio", "h2"))


def test_client_hello():
    assert tls_inspector.inspect(HELLO) == FACTS
    assert tls_inspector.inspect(hello(None, ())) == ClientHello()


@pytest.mark.parametrize("length", range(0, len(HELLO), 7))
def test_cut_short_is_not_decided(length):
    assert tls_inspector.inspect(HELLO[:length]) is None


def test_hello_in_two_records():
    body = HELLO[5:]
    parts = (body[:100], body[100:])
    wire = b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in parts)
    assert tls_inspector.inspect(wire) == FACTS
    assert tls_inspector.inspect(wire[:110]) is None


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"\x16\x02\x01", b"\x16\x03\x01\0\1\2"])
def test_not_tls(data):
    with pytest.raises(NotTls):
        tls_inspector.inspect(data)


@given(st.binary(max_size=300), st.integers(0, len(HELLO)))
def test_any_bytes_are_decided_or_not(noise, keep):
    with contextlib.suppress(NotTls):
        tls_inspector.inspect(HELLO[:keep] + noise)
    with contextlib.suppress(NotTls):
        tls_inspector.read_hello(noise)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"GET / HTTP/1.1\r\n", "http/1.1"),
        (b"GET / HTTP/1.0\r\nHost: a", "http/1.0"),
        (b"PATCH /x HTTP/1.1\n", "http/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "h2c"),
        (b"PRI * HTT", None),
        (b"GE", None),
        (b"GET /abc", None),
        (b"\0\1", ""),
        (b"220 smtp", ""),
        (b"hello world\r\n", ""),
        (b"GET / HTTP/3.0\r\n", ""),
    ],
)
def test_http_inspector(data, found):
    assert http_inspector.inspect(data) == found

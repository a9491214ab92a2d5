"""TLS mode × protocol of an inbound port."""

import pytest

from meshlab.control.translate.filter_chain import Chain, inbound_chains, without_http2
from meshlab.control.translate.peer_authentication import Mode
from meshlab.control.translate.protocol import Protocol

ISTIO = ("istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2")
ISTIO_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")


@pytest.mark.parametrize(
    ("protocol", "mode", "chains"),
    [
        (Protocol.HTTP, "STRICT", ["tls terminate http"]),
        (Protocol.HTTP, "PERMISSIVE", ["tls+istio terminate http", "raw_buffer http"]),
        (Protocol.HTTP, "DISABLE", ["raw_buffer http"]),
        (Protocol.HTTP2, "PERMISSIVE", ["tls+istio terminate http", "raw_buffer http"]),
        (Protocol.TCP, "STRICT", ["tls terminate tcp"]),
        (Protocol.TCP, "PERMISSIVE", ["tls+istio terminate tcp", "tls tcp", "raw_buffer tcp"]),
        (Protocol.TCP, "DISABLE", ["any tcp"]),
        (Protocol.AUTO, "STRICT", ["tls+istio-http terminate http", "tls terminate tcp"]),
        (
            Protocol.AUTO,
            "PERMISSIVE",
            [
                "tls+istio-http terminate http",
                "raw_buffer+plain http",
                "tls+istio-tcp terminate tcp",
                "raw_buffer tcp",
                "tls tcp",
            ],
        ),
        (Protocol.AUTO, "DISABLE", ["raw_buffer+plain http", "any tcp"]),
    ],
)
def test_inbound_chains(protocol: Protocol, mode: Mode, chains: list[str]) -> None:
    assert [in_words(chain) for chain in inbound_chains(protocol, mode)] == chains


def in_words(chain: Chain) -> str:
    alpn = {
        (): "",
        ISTIO: "+istio",
        ISTIO_HTTP: "+istio-http",
        ISTIO[:2]: "+istio-tcp",
        ("http/1.1", "h2c"): "+plain",
    }[chain.alpn]
    words = [f"{chain.transport or 'any'}{alpn}"]
    if chain.terminate:
        words.append("terminate")
    return " ".join([*words, "http" if chain.http else "tcp"])


def test_http2_is_left_out_for_who_has_none() -> None:
    assert without_http2(["h2", "http/1.1"], http2=False) == ["http/1.1"]
    assert without_http2(["http/1.1", "h2c"], http2=False) == ["http/1.1"]
    assert without_http2(["h2", "http/1.1"], http2=True) == ["h2", "http/1.1"]

from dataclasses import replace

import pytest

from meshlab.errors import ConfigError
from meshlab.proxy.core.filter_chain import (
    ConnectionFacts,
    FilterChain,
    FilterChainMatch,
    FilterChainTable,
)
from meshlab.proxy.core.tcp_proxy import TcpProxy

FACTS = ConnectionFacts(
    destination_ip="10.0.0.1", destination_port=80, source_ip="10.9.9.9", source_port=1234
)
ISTIO = ("istio", "istio-peer-exchange", "istio-http/1.1")


def chosen(matches, default=False, **facts):
    """Return the name of the chain; chains are named by their place."""
    chains = tuple(
        FilterChain(name=str(place), match=match, terminal=TcpProxy(stat_prefix="t", cluster="c"))
        for place, match in enumerate(matches)
    )
    fallback = FilterChain(name="default", terminal=TcpProxy(stat_prefix="t", cluster="c"))
    table = FilterChainTable(chains, fallback if default else None)
    found = table.choose(replace(FACTS, **facts))
    return found.name if found else None


def m(**criteria):
    return FilterChainMatch(**criteria)


INBOUND = (  # what Istio sends for a PERMISSIVE port whose protocol is not declared
    m(destination_port=80, transport_protocol="tls", application_protocols=("istio-http/1.1",)),
    m(destination_port=80, transport_protocol="raw_buffer", application_protocols=("http/1.1",)),
    m(
        destination_port=80,
        transport_protocol="tls",
        application_protocols=("istio-peer-exchange", "istio"),
    ),
    m(destination_port=80, transport_protocol="raw_buffer"),
    m(destination_port=80, transport_protocol="tls"),
    m(destination_port=15006),
)


@pytest.mark.parametrize(
    ("facts", "chain"),
    [
        pytest.param(
            {"transport_protocol": "tls", "application_protocols": ("istio-http/1.1", "istio")},
            "0",
            id="mTLS HTTP",
        ),
        pytest.param({"application_protocols": ("http/1.1",)}, "1", id="plain HTTP"),
        pytest.param(
            {"transport_protocol": "tls", "application_protocols": ("istio-peer-exchange",)},
            "2",
            id="mTLS TCP",
        ),
        pytest.param({}, "3", id="plain TCP"),
        pytest.param(
            {"transport_protocol": "tls", "application_protocols": ("h2",)}, "4", id="foreign TLS"
        ),
        pytest.param({"destination_port": 15006}, "5", id="straight to the sidecar"),
        pytest.param({"destination_port": 81}, "default", id="other port"),
    ],
)
def test_chains_of_an_inbound_listener(facts, chain):
    assert chosen(INBOUND, default=True, **facts) == chain


@pytest.mark.parametrize(
    ("matches", "facts", "chain"),
    [
        pytest.param(
            (m(prefix_ranges=("10.0.0.0/8",)), m(prefix_ranges=("10.0.0.0/24",))),
            {},
            "1",
            id="longest prefix",
        ),
        pytest.param((m(prefix_ranges=("11.0.0.0/8",)), m()), {}, "1", id="no range fits"),
        pytest.param((m(prefix_ranges=("11.0.0.0/8",)),), {}, None, id="nothing fits"),
        pytest.param(
            (m(server_names=("*.b",)), m(server_names=("a.b",))),
            {"server_name": "a.b"},
            "1",
            id="exact name",
        ),
        pytest.param(
            (m(server_names=("*.b.c",)), m(server_names=("*.c",))),
            {"server_name": "x.a.b.c"},
            "0",
            id="longest wildcard",
        ),
        pytest.param((m(server_names=("*.b",)), m()), {"server_name": "b"}, "1", id="not itself"),
        pytest.param((m(server_names=("a.b",)), m()), {}, "1", id="no SNI"),
        pytest.param(
            (m(application_protocols=("h2",)), m(application_protocols=("http/1.1",))),
            {"application_protocols": ("http/1.1", "h2")},
            "1",
            id="the client's order of ALPN",
        ),
        pytest.param(
            (m(destination_port=80, server_names=("a.b",)), m()),
            {"server_name": "c.d"},
            None,
            id="no way back from an earlier criterion",
        ),
        pytest.param(
            (m(source_type="external"), m(source_type="same_ip_or_loopback")),
            {"source_ip": "127.0.0.1"},
            "1",
            id="loopback source",
        ),
        pytest.param((m(source_prefix_ranges=("10.9.0.0/16",)), m()), {}, "0", id="source range"),
        pytest.param((m(source_ports=(1,)), m(source_ports=(1234,))), {}, "1", id="source port"),
    ],
)
def test_precedence(matches, facts, chain):
    assert chosen(matches, **facts) == chain


def test_equal_matches_are_refused():
    with pytest.raises(ConfigError) as caught:
        chosen((m(destination_port=1), m(destination_port=1)))
    assert caught.value.field == "filter_chains[1].filter_chain_match"


def test_range_that_is_none():
    with pytest.raises(ConfigError) as caught:
        chosen((m(prefix_ranges=("10.0.0.0/33",)),))
    assert caught.value.field == "filter_chains[0].filter_chain_match.prefix_ranges"

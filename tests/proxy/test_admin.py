"""The admin end point's answers, and its HTTP."""

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fixtures.envoy import Json, address, chain, listener, message, tcp

from meshlab.proxy.admin import HANDLERS, Admin, Request, Response, serve
from meshlab.proxy.config.bootstrap import read_bootstrap
from meshlab.proxy.config.snapshot import Configuration
from meshlab.proxy.config.xds import (
    CLUSTER_TYPE,
    LISTENER_TYPE,
    SECRET_TYPE,
    Resource,
    Update,
    resource_name,
)
from meshlab.proxy.core.listener import Listener
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.net.cluster import ClusterState


def self_signed() -> str:
    """Return a certificate for spiffe://a."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://a")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(255)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


SECRET = {
    "name": "default",
    "tls_certificate": {
        "certificate_chain": {"inline_string": self_signed()},
        "private_key": {"inline_string": "-----BEGIN PRIVATE KEY-----\nsecret"},
    },
}
KINDS = {
    CLUSTER_TYPE: "config.cluster.v3.Cluster",
    LISTENER_TYPE: "config.listener.v3.Listener",
    SECRET_TYPE: "extensions.transport_sockets.tls.v3.Secret",
}


class Proxy:
    """Stands for the process."""

    def __init__(self) -> None:
        text = json.dumps(
            {
                "node": {"id": "n"},
                "static_resources": {
                    "secrets": [SECRET],
                    "clusters": [{"name": "static", "connect_timeout": "1s"}],
                    "listeners": [listener(chain(tcp("static")))],
                },
            }
        )
        self.configuration = Configuration(read_bootstrap(text), now=lambda: 1700000000.0)
        self.configuration.load_static()
        self.stats = StatRegistry()
        self.stats.counter("cluster.a.upstream_rq_total").value = 1
        self.done: list[str] = []
        self.current = "LIVE"

    def put(self, type_url: str, value: Json) -> None:
        found = message(KINDS[type_url], value)
        resource = Resource(resource_name(found), "v1", found)
        self.configuration.update(Update(type_url, "v1", (resource,)))

    def clusters(self) -> Mapping[str, ClusterState]:
        return {}

    def listeners(self) -> Mapping[str, Listener]:
        return self.configuration.snapshot.listeners

    def state(self) -> str:
        return self.current

    def refresh_gauges(self) -> None:
        self.stats.gauge("server.live").value = 1

    def quit(self) -> None:
        self.done.append("quit")

    def drain(self, *, inbound_only: bool, graceful: bool) -> None:
        self.done.append(f"drain inbound_only={inbound_only} graceful={graceful}")

    def fail_health_check(self, failed: bool) -> None:
        self.done.append(f"failed={failed}")


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


def ask(proxy: Proxy, path: str, method: str = "GET", **query: str) -> Response:
    return Admin(proxy).answer(Request(method=method, path=path, query=query))


def test_ready(proxy: Proxy) -> None:
    assert ask(proxy, "/ready") == Response(body="LIVE\n")
    proxy.current = "INITIALIZING"
    assert ask(proxy, "/ready") == Response(body="INITIALIZING\n", status=503)


@pytest.mark.parametrize(
    ("path", "query", "done"),
    [
        ("/quitquitquit", {}, "quit"),
        ("/drain_listeners", {}, "drain inbound_only=False graceful=False"),
        (
            "/drain_listeners",
            {"graceful": "", "inboundonly": ""},
            "drain inbound_only=True graceful=True",
        ),
        ("/healthcheck/fail", {}, "failed=True"),
        ("/healthcheck/ok", {}, "failed=False"),
    ],
)
def test_changes_are_posts(proxy: Proxy, path: str, query: dict[str, str], done: str) -> None:
    assert ask(proxy, path, **query).status == 405
    assert proxy.done == []
    assert ask(proxy, path, "POST", **query) == Response(body="OK\n")
    assert proxy.done == [done]


def test_stats(proxy: Proxy) -> None:
    assert ask(proxy, "/stats").body == "cluster.a.upstream_rq_total: 1\nserver.live: 1\n"
    assert ask(proxy, "/stats", filter="^server").body == "server.live: 1\n"
    prometheus = ask(proxy, "/stats/prometheus", usedonly="")
    assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="a"} 1' in prometheus.body
    assert prometheus == ask(proxy, "/stats", format="prometheus", usedonly="")
    assert json.loads(ask(proxy, "/stats", format="json", type="Gauges").body) == {
        "stats": [{"name": "server.live", "value": 1}]
    }
    for query in ({"format": "xml"}, {"filter": "("}, {"type": "Other"}):
        assert ask(proxy, "/stats", **query).status == 400
    ask(proxy, "/reset_counters", "POST")
    assert ask(proxy, "/stats", filter="upstream").body == "cluster.a.upstream_rq_total: 0\n"


def test_listeners(proxy: Proxy) -> None:
    assert ask(proxy, "/listeners").body == "l::127.0.0.1:80\n"
    assert json.loads(ask(proxy, "/listeners", format="json").body) == {
        "listener_statuses": [
            {
                "name": "l",
                "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
            }
        ]
    }


def dumped(proxy: Proxy, **query: str) -> dict[str, Json]:
    configs = json.loads(ask(proxy, "/config_dump", **query).body)["configs"]
    return {config["@type"].rpartition(".")[2]: config for config in configs}


UPDATED = "2023-11-14T22:13:20Z"


def test_config_dump(proxy: Proxy) -> None:
    proxy.put(CLUSTER_TYPE, {"name": "good", "connect_timeout": "1s"})
    proxy.put(CLUSTER_TYPE, {"name": "bad", "lb_policy": "MAGLEV"})
    proxy.put(
        CLUSTER_TYPE,
        {"name": "cold", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}},
    )
    proxy.put(LISTENER_TYPE, listener(chain(tcp("good")), name="dynamic", address=address(81)))
    dump = dumped(proxy)
    assert list(dump) == [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "ListenersConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
    ]
    clusters = dump["ClustersConfigDump"]
    kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    assert clusters["static_clusters"] == [
        {
            "cluster": {"@type": kind, "name": "static", "connect_timeout": "1s"},
            "last_updated": UPDATED,
        }
    ]
    assert clusters["dynamic_active_clusters"] == [
        {
            "version_info": "v1",
            "cluster": {"@type": kind, "name": "good", "connect_timeout": "1s"},
            "last_updated": UPDATED,
        }
    ]
    cold, bad = clusters["dynamic_warming_clusters"]
    assert cold["cluster"]["name"] == "cold"
    assert bad["error_state"] == {
        "failed_configuration": {"@type": kind, "name": "bad", "lb_policy": "MAGLEV"},
        "last_update_attempt": UPDATED,
        "version_info": "v1",
        "details": "Cluster bad: lb_policy: is a policy that this proxy does not have (found "
        "MAGLEV; allowed: ROUND_ROBIN, LEAST_REQUEST, RANDOM, CLUSTER_PROVIDED)",
    }
    (dynamic,) = dump["ListenersConfigDump"]["dynamic_listeners"]
    assert (dynamic["name"], dynamic["active_state"]["version_info"]) == ("dynamic", "v1")


def test_no_key_leaves(proxy: Proxy) -> None:
    text = ask(proxy, "/config_dump", include_eds="").body
    assert "secret" not in text.replace("SecretsConfigDump", "").replace(
        "static_secrets", ""
    ).replace('"secrets"', "").replace('"secret"', "").replace("tls.v3.Secret", "")
    assert text.count("[redacted]") == 2  # in the bootstrap and in the list of secrets


def test_config_dump_of_a_part(proxy: Proxy) -> None:
    answer = ask(proxy, "/config_dump", resource="static_clusters")
    (only,) = json.loads(answer.body)["configs"]
    assert only["cluster"]["name"] == "static"
    assert ask(proxy, "/config_dump", resource="nothing").status == 404
    assert ask(proxy, "/config_dump", name_regex="(").status == 400
    assert "static_clusters" not in dumped(proxy, name_regex="^x")["ClustersConfigDump"]


def test_certs(proxy: Proxy) -> None:
    (found,) = json.loads(ask(proxy, "/certs").body)["certificates"]
    (chain_part,) = found["cert_chain"]
    assert int(chain_part.pop("days_until_expiration")) > 365
    assert chain_part == {
        "path": "<inline>",
        "serial_number": "ff",
        "subject_alt_names": [{"uri": "spiffe://a"}],
        "valid_from": "2020-01-01T00:00:00Z",
        "expiration_time": "2100-01-01T00:00:00Z",
    }
    assert found["ca_cert"] == []


def test_server_info(proxy: Proxy) -> None:
    info = json.loads(ask(proxy, "/server_info").body)
    assert (info["state"], info["node"]["id"]) == ("LIVE", "n")


def test_logging_levels(proxy: Proxy) -> None:
    logger = logging.getLogger("meshlab.proxy.config.xds")
    before = logger.level
    try:
        answer = ask(proxy, "/logging", "POST", paths="meshlab.proxy.config.xds:debug")
        assert "  meshlab.proxy.config.xds: debug\n" in answer.body
        assert ask(proxy, "/logging", "POST", level="loud").status == 400
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize("path", [path for path, handler in HANDLERS.items() if not handler[0]])
def test_every_page_answers(proxy: Proxy, path: str) -> None:
    assert ask(proxy, path).status == 200


def test_unknown_path(proxy: Proxy) -> None:
    answer = ask(proxy, "/nothing")
    assert answer.status == 404
    assert answer.body.startswith("invalid path. admin commands are:\n")


@pytest.mark.parametrize(
    ("raw", "answers"),
    [
        pytest.param(
            b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\nHEAD /ready HTTP/1.1\r\n"
            b"connection: close\r\n\r\n",
            [b"HTTP/1.1 200 OK", b"LIVE\nHTTP/1.1 200 OK", b""],
            id="two on one connection",
        ),
        pytest.param(
            b"POST /healthcheck/ok HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc",
            [b"HTTP/1.1 200 OK", b"OK\n"],
            id="body is read",
        ),
        pytest.param(
            b"GET /stats?filter=s[e]+rver HTTP/1.0\r\n\r\n",
            [b"HTTP/1.1 200 OK", b"server.live: 1\n"],
            id="plus is a plus",
        ),
        pytest.param(b"rubbish\r\n\r\n", [b"HTTP/1.1 400 Bad Request", b"Bad Request\n"], id="bad"),
        pytest.param(
            b"POST /ready HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n",
            [b"HTTP/1.1 413 Content Too Large", b"Content Too Large\n"],
            id="too large",
        ),
        pytest.param(
            b"POST /ready HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            [b"HTTP/1.1 400 Bad Request", b"Bad Request\n"],
            id="chunked",
        ),
        pytest.param(b"x" * 100_000, [b""], id="no head"),
    ],
)
def test_http(proxy: Proxy, raw: bytes, answers: list[bytes]) -> None:
    async def scenario() -> None:
        server = await serve(Admin(proxy), host="127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        received = b""
        try:
            while piece := await asyncio.wait_for(reader.read(65536), 5):
                received += piece
        except ConnectionError:
            pass
        writer.close()
        server.close()
        heads = [part.split(b"\r\n")[0] for part in received.split(b"\r\n\r\n")]
        assert heads == answers

    asyncio.run(scenario())

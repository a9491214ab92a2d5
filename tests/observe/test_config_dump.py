from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshlab.observe import config_dump
from meshlab.observe.config_dump import VIEWS, choose, table

ADMIN = "type.googleapis.com/envoy.admin.v3"
BLUE = "outbound|80|v1|blue.shop.svc.cluster.local"
CONFIG = "/apis/networking.istio.io/v1/namespaces/shop"


def istio(path: str) -> dict[str, Any]:
    return {"filter_metadata": {"istio": {"config": f"{CONFIG}/{path}"}}}


def http(**config: Any) -> dict[str, Any]:
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def tcp(**config: Any) -> dict[str, Any]:
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def listener(host: str, port: int, *chains: dict[str, Any]) -> dict[str, Any]:
    address = {"socket_address": {"address": host, "port_value": port}}
    return {"address": address, "filter_chains": list(chains)}


READY = {"virtual_hosts": [{"domains": ["*"], "routes": [{"match": {"prefix": "/healthz/ready"}}]}]}
DUMP = {
    "configs": [
        {
            "@type": f"{ADMIN}.ClustersConfigDump",
            "static_clusters": [{"cluster": {"name": "xds-grpc"}}],
            "dynamic_active_clusters": [
                {
                    "cluster": {
                        "name": BLUE,
                        "type": "EDS",
                        "metadata": istio("destination-rule/blue"),
                    }
                },
                {"cluster": {"name": "inbound|8080||", "type": "ORIGINAL_DST"}},
            ],
        },
        {
            "@type": f"{ADMIN}.ListenersConfigDump",
            "static_listeners": [
                {"listener": listener("0.0.0.0", 15021, {"filters": [http(route_config=READY)]})}
            ],
            "dynamic_listeners": [
                {
                    "active_state": {
                        "listener": listener(
                            "0.0.0.0",
                            15006,
                            {
                                "filter_chain_match": {
                                    "destination_port": 8080,
                                    "transport_protocol": "tls",
                                    "application_protocols": ["istio", "istio-peer-exchange"],
                                },
                                "filters": [tcp(cluster="inbound|8080||")],
                            },
                            {
                                "filter_chain_match": {
                                    "prefix_ranges": [
                                        {"address_prefix": "0.0.0.0", "prefix_len": 0}
                                    ]
                                },
                                "filters": [tcp(cluster="InboundPassthroughCluster")],
                            },
                        )
                    }
                },
                {
                    "active_state": {
                        "listener": listener(
                            "0.0.0.0", 80, {"filters": [http(rds={"route_config_name": "80"})]}
                        )
                    }
                },
            ],
        },
        {
            "@type": f"{ADMIN}.RoutesConfigDump",
            "dynamic_route_configs": [
                {
                    "route_config": {
                        "name": "80",
                        "virtual_hosts": [
                            {
                                "name": "blue.shop:80",
                                "domains": ["blue.shop.svc.cluster.local", "blue", "blue.shop"],
                                "routes": [
                                    {
                                        "match": {
                                            "prefix": "/api/color",
                                            "headers": [{"name": "foo"}],
                                        },
                                        "metadata": istio("virtual-service/blue"),
                                    },
                                    {"match": {"path": "/x"}, "direct_response": {"status": 503}},
                                ],
                            },
                            {"name": "blackhole:80", "domains": ["*"]},
                        ],
                    }
                }
            ],
        },
    ]
}
CLUSTERS_PAGE = {
    "cluster_statuses": [
        {
            "name": BLUE,
            "host_statuses": [
                {
                    "address": {"socket_address": {"address": "10.244.0.5", "port_value": 8080}},
                    "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": True},
                }
            ],
        },
        {"name": "xds-grpc", "host_statuses": [{"address": {"pipe": {"path": "./etc/XDS"}}}]},
    ]
}
GOLDEN = {
    "clusters": """
SERVICE FQDN  PORT  SUBSET  DIRECTION  TYPE  DESTINATION RULE
                              8080  -  inbound  ORIGINAL_DST
blue.shop.svc.cluster.local  80  v1  outbound  EDS  blue.shop
xds-grpc  -  -  -  STATIC
""",
    "listeners": """
ADDRESSES  PORT  MATCH  DESTINATION
0.0.0.0  80  ALL  Route: 80
0.0.0.0  15006  Trans: tls; App: istio,istio-peer-exchange; Addr: *:8080  Cluster: inbound|8080||
0.0.0.0  15006  Addr: 0.0.0.0/0  InboundPassthroughCluster
0.0.0.0  15021  ALL  Inline Route: /healthz/ready*
""",
    "routes": """
NAME VHOST NAME DOMAINS MATCH VIRTUAL SERVICE
80 blue.shop:80 blue.shop.svc.cluster.local, blue + 1 more... /api/color* [foo] blue.shop
80 blue.shop:80 blue.shop.svc.cluster.local, blue + 1 more... /x 503
80 blackhole:80 * 404
""",
    "endpoints": """
ENDPOINT  STATUS  OUTLIER CHECK  CLUSTER
10.244.0.5:8080  HEALTHY  FAILED  outbound|80|v1|blue.shop.svc.cluster.local
unix://./etc/XDS  HEALTHY  OK  xds-grpc
""",
}


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", GOLDEN)
def test_views(name: str) -> None:
    view = VIEWS[name]
    rows = view.rows(CLUSTERS_PAGE if name == "endpoints" else DUMP)
    assert words(table(view, rows).text()) == words(GOLDEN[name])


def certificate(days: int) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 0xAB)
    made = made.not_valid_before(start).not_valid_after(start + timedelta(days=days))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_secrets() -> None:
    chain = {"inline_string": certificate(1).decode()}
    dump = {
        "configs": [
            {
                "@type": f"{ADMIN}.SecretsConfigDump",
                "dynamic_active_secrets": [
                    {
                        "name": "default",
                        "secret": {"tls_certificate": {"certificate_chain": chain}},
                    },
                    {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": chain}}},
                ],
                "dynamic_warming_secrets": [{"name": "late"}],
            }
        ]
    }
    rows = config_dump.secrets(dump, datetime(2024, 1, 1, 12, tzinfo=UTC))
    dates = ("2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z")
    assert [tuple(row.cells) for row in rows] == [
        ("default", "Cert Chain", "ACTIVE", "true", "ab", *dates),
        ("ROOTCA", "CA", "ACTIVE", "true", "ab", *dates),
        ("late", "-", "WARMING", "false", "-", "-", "-"),
    ]
    later = config_dump.secrets(dump, datetime(2024, 1, 3, tzinfo=UTC))
    assert later[0].cells[3] == "false"


@pytest.mark.parametrize(
    ("wanted", "ports"),
    [
        pytest.param({"port": "80"}, ["80"], id="a number is equal"),
        pytest.param({"fqdn": "blue"}, ["80"], id="a text is contained"),
        pytest.param({"direction": None}, ["8080", "80", "-"], id="none: all"),
        pytest.param({"fqdn": "blue", "port": "8080"}, [], id="all must fit"),
    ],
)
def test_choose(wanted: dict[str, str | None], ports: list[str]) -> None:
    view = VIEWS["clusters"]
    assert [row.cells[1] for row in choose(view, view.rows(DUMP), **wanted)] == ports

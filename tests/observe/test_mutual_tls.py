from datetime import UTC, datetime, timedelta

from meshlab.observe.certificate import Certificate
from meshlab.observe.graph import Edge, Workload
from meshlab.observe.mutual_tls import MutualTls, Proxy

START = datetime(2024, 1, 1, tzinfo=UTC)
BLUE, CURL = Workload("blue", "shop"), Workload("curl", "shop")
CERTIFICATE = Certificate(
    identity="spiffe://cluster.local/ns/shop/sa/blue",
    serial="ab",
    not_before=START,
    not_after=START + timedelta(days=1),
)
EDGE = Edge(
    source=CURL,
    destination=BLUE,
    mutual_tls=True,
    source_principal="spiffe://curl",
    destination_principal="spiffe://blue",
    requests=12,
)
FOUND = MutualTls(
    proxies=[
        Proxy(pod="blue-1", namespace="shop", workload=BLUE, certificates=[CERTIFICATE]),
        Proxy(pod="curl-1", namespace="shop", workload=CURL, problem="not running"),
    ],
    edges=[EDGE],
    commands=["kubectl exec …"],
)


def test_identities() -> None:
    assert FOUND.identities(START + timedelta(hours=2)).rows == [
        ["blue-1", "shop", "spiffe://cluster.local/ns/shop/sa/blue", "1d", "22h", "ab"],
        ["curl-1", "shop", "not running", "-", "-", "-"],
    ]
    assert FOUND.identities(START + timedelta(days=2)).rows[0][4] == "expired"


def test_matrix_shows_destinations_without_traffic() -> None:
    table = FOUND.matrix()
    assert list(table.headers) == ["from \\ to", "blue.shop", "curl.shop"]
    assert table.rows == [["curl.shop", "🔒", "·"]]


def test_no_connection_seen() -> None:
    assert "no connection seen" in MutualTls(proxies=FOUND.proxies, edges=[]).text()
    assert FOUND.edge("blue", "curl") == []
    assert FOUND.edge("curl", "blue") == [EDGE]


def test_connections() -> None:
    assert [str(cell) for cell in FOUND.connections().rows[0]] == [
        "curl.shop",
        "blue.shop",
        "mutual TLS",
        "spiffe://curl",
        "12",
        "0",
    ]

from meshlab.observe.graph import Edge, Workload, edges, matrix
from meshlab.observe.metrics import Sample

BLUE, CURL, NOBODY = (
    Workload("blue", "shop"),
    Workload("curl", "shop"),
    Workload("unknown", "unknown"),
)


def sample(
    source: Workload,
    value: float,
    *,
    mutual: bool = True,
    reporter: str = "destination",
    name: str = "istio_requests_total",
) -> Sample:
    labels = {
        "reporter": reporter,
        "source_workload": source.name,
        "source_workload_namespace": source.namespace,
        "source_principal": f"spiffe://{source.name}" if mutual else "unknown",
        "destination_workload": "blue",
        "destination_workload_namespace": "shop",
        "destination_principal": "spiffe://blue" if mutual else "unknown",
        "connection_security_policy": "mutual_tls" if mutual else "none",
    }
    return Sample(name, labels, value)


SAMPLES = [
    sample(CURL, 3),
    sample(CURL, 4),
    sample(CURL, 2, name="istio_tcp_connections_opened_total"),
    sample(NOBODY, 5, mutual=False),
    sample(CURL, 99, reporter="source"),
    sample(CURL, 0, mutual=False),
    Sample("istio_response_bytes_sum", {"reporter": "destination"}, 1),
]


def test_edges_are_what_destinations_counted() -> None:
    assert edges(SAMPLES) == [
        Edge(
            source=CURL,
            destination=BLUE,
            mutual_tls=True,
            source_principal="spiffe://curl",
            destination_principal="spiffe://blue",
            requests=7,
            connections=2,
        ),
        Edge(
            source=NOBODY,
            destination=BLUE,
            mutual_tls=False,
            source_principal="unknown",
            destination_principal="unknown",
            requests=5,
        ),
    ]


def test_matrix() -> None:
    both = [*SAMPLES, sample(CURL, 1, mutual=False)]
    table = matrix(edges(both), [Workload("green", "shop")])
    assert table.headers == ["from \\ to", "blue.shop", "green.shop"]
    assert table.rows == [["curl.shop", "🔒🔓", "·"], ["no sidecar", "🔓", "·"]]


def test_matrix_without_traffic() -> None:
    assert matrix([], [BLUE]).rows == []

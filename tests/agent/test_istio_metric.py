"""Istio's metrics from a stock Envoy's access log."""

from typing import Any

import pytest
from envoy.service.accesslog.v3 import als_pb2

from meshlab.agent.istio_metric import IstioMetrics

OWN = {"WORKLOAD_NAME": "web", "LABELS": {"app": "web", "version": "v1"}}


def logged(cluster: str, code: int = 200, *, peer: str = "") -> bytes:
    message = als_pb2.StreamAccessLogsMessage()
    entry: Any = message.http_logs.log_entry.add()
    entry.response.response_code.value = code
    entry.request.request_body_bytes = 7
    common = entry.common_properties
    common.upstream_cluster = cluster
    common.time_to_last_downstream_tx_byte.FromMilliseconds(12)
    if peer:
        tls = common.tls_properties
        tls.peer_certificate_properties.subject_alt_name.add().uri = peer
        tls.local_certificate_properties.subject_alt_name.add().uri = "spiffe://d/ns/shop/sa/web"
    data: bytes = message.SerializeToString()
    return data


def taken(*messages: bytes) -> tuple[dict[str, str], float, str]:
    """Return the labels and value of the only istio_requests_total, and the whole text."""
    metrics = IstioMetrics(OWN, "shop", "Kubernetes")
    for message in messages:
        metrics.take(message)
    ((key, value),) = [item for item in metrics.counts.items() if "requests" in item[0][0]]
    return dict(key[1]), value, metrics.render().decode()


def test_a_call_out() -> None:
    message = logged("outbound|80||api.back.svc.cluster.local", 503)
    labels, value, text = taken(message, message)
    picked = ("reporter", "source_workload", "destination_service", "destination_service_name")
    assert [labels[key] for key in picked] == ["source", "web", "api.back.svc.cluster.local", "api"]
    assert (labels["response_code"], labels["destination_service_namespace"]) == ("503", "back")
    assert (labels["connection_security_policy"], value) == ("unknown", 2)
    assert 'le="10"} 0' in text
    assert 'le="25"} 2' in text
    assert text.count("# TYPE istio_request_duration_milliseconds histogram") == 1


@pytest.mark.parametrize(
    ("peer", "policy", "namespace"),
    [
        pytest.param("spiffe://d/ns/front/sa/ui", "mutual_tls", "front", id="with a certificate"),
        pytest.param("", "none", "unknown", id="in the clear"),
    ],
)
def test_a_call_in(peer: str, policy: str, namespace: str) -> None:
    labels, _, _ = taken(logged("inbound|8080||", peer=peer))
    assert (labels["reporter"], labels["destination_workload"]) == ("destination", "web")
    assert labels["connection_security_policy"] == policy
    assert labels["source_workload_namespace"] == namespace
    assert labels["source_principal"] == (peer or "unknown")

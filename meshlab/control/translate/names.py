"""Istio's names for xDS resources."""

from collections.abc import Mapping

PASSTHROUGH_CLUSTER = "PassthroughCluster"
BLACK_HOLE_CLUSTER = "BlackHoleCluster"
INBOUND_PASSTHROUGH_CLUSTER = "InboundPassthroughCluster"
SDS_CLUSTER = "sds-grpc"
"""The agent's socket for secrets; defined in the bootstrap."""
ALS_CLUSTER = "als-grpc"
"""The agent's socket for access logs; defined in the bootstrap."""

VIRTUAL_OUTBOUND = "virtualOutbound"
VIRTUAL_INBOUND = "virtualInbound"
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
INBOUND_SOURCE = "127.0.0.6"
"""The address from which the app sees its sidecar; capture rules leave it alone."""


def outbound_cluster(port: int, subset: str, host: str) -> str:
    return f"outbound|{port}|{subset}|{host}"


def inbound_cluster(port: int) -> str:
    """`port`: of the workload."""
    return f"inbound|{port}||"


def sni(port: int, subset: str, host: str) -> str:
    """Return the server name that automatic mutual TLS asks for."""
    return f"outbound_.{port}_.{subset}_.{host}"


def spiffe_id(trust_domain: str, namespace: str, service_account: str) -> str:
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"


def config_path(kind: str, namespace: str, name: str) -> str:
    """Return where a configuration object is found, as Istio puts it into metadata.

    `kind` in kebab case: `virtual-service`.
    """
    return f"/apis/networking.istio.io/v1alpha3/namespaces/{namespace}/{kind}/{name}"


def workload_metadata(name: str, namespace: str, labels: Mapping[str, str], cluster_id: str) -> str:
    """Return `istio.workload` of an endpoint: `name;ns;canonical;revision;cluster`."""
    canonical = (
        labels.get("service.istio.io/canonical-name")
        or labels.get("app.kubernetes.io/name")
        or labels.get("app")
        or name
    )
    revision = (
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or labels.get("version")
        or "latest"
    )
    return f"{name};{namespace};{canonical};{revision};{cluster_id}"

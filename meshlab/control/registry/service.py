"""Kubernetes Services as destinations."""

from meshlab.control.registry.api import Json
from meshlab.control.snapshot import Service, ServicePort

HEADLESS = "None"


def service(obj: Json, cluster_domain: str) -> Service | None:
    """Read a Service; None for ExternalName, which is a DNS alias and no destination."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return None
    address = spec.get("clusterIP") or ""
    headless = address == HEADLESS
    return Service(
        name=meta["name"],
        namespace=meta["namespace"],
        fqdn=fqdn(meta["name"], meta["namespace"], cluster_domain),
        ports=tuple(_port(port) for port in spec.get("ports") or ()),
        cluster_ip="" if headless else address,
        headless=headless,
        selector=dict(spec.get("selector") or {}),
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        creation_timestamp=meta.get("creationTimestamp") or "",
        resolution="ORIGINAL_DST" if headless else "EDS",
    )


def fqdn(name: str, namespace: str, cluster_domain: str) -> str:
    return f"{name}.{namespace}.svc.{cluster_domain}"


def _port(port: Json) -> ServicePort:
    return ServicePort(
        name=port.get("name") or "",
        number=port["port"],
        target_port=port.get("targetPort") or port["port"],
        protocol=port.get("protocol") or "TCP",
        app_protocol=port.get("appProtocol") or "",
    )

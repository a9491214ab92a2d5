"""EndpointSlices joined with their pods: the addresses behind a service."""

from collections.abc import Iterable, Mapping

from meshlab.control.registry.api import Json
from meshlab.control.snapshot import Endpoint, Workload

SERVICE_NAME = "kubernetes.io/service-name"

PodKey = tuple[str, str]
"""(namespace, pod name)."""


def service_of(endpoint_slice: Json) -> tuple[str, str] | None:
    """Return (namespace, service) that a slice belongs to; None when it names none."""
    meta = endpoint_slice["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE_NAME)
    return (meta["namespace"], name) if name else None


def pods_of(endpoint_slice: Json) -> set[PodKey]:
    namespace = endpoint_slice["metadata"]["namespace"]
    return {
        (target.get("namespace") or namespace, target["name"])
        for entry in endpoint_slice.get("endpoints") or ()
        if (target := entry.get("targetRef")) and target.get("kind") == "Pod"
    }


def endpoints(slices: Iterable[Json], pods: Mapping[PodKey, Workload]) -> tuple[Endpoint, ...]:
    """Return the addresses of one service, each once, in order of address.

    An address may stand in two slices while one is filled into the other; the ready one wins.
    """
    found: dict[str, Endpoint] = {}
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType", "IPv4") != "IPv4":
            continue
        namespace = endpoint_slice["metadata"]["namespace"]
        ports = {
            port.get("name") or "": port["port"]
            for port in endpoint_slice.get("ports") or ()
            if port.get("port")
        }
        for entry in endpoint_slice.get("endpoints") or ():
            for address in entry.get("addresses") or ():
                made = _endpoint(entry, address, ports, namespace, pods)
                known = found.get(address)
                if known is None or (made.ready and not known.ready):
                    found[address] = made
    return tuple(found[address] for address in sorted(found))


def _endpoint(
    entry: Json,
    address: str,
    ports: Mapping[str, int],
    namespace: str,
    pods: Mapping[PodKey, Workload],
) -> Endpoint:
    conditions = entry.get("conditions") or {}
    target = entry.get("targetRef") or {}
    pod = pods.get((target.get("namespace") or namespace, target.get("name", "")))
    return Endpoint(
        address=address,
        ports=ports,
        ready=conditions.get("ready") is not False,  # the API: unset means ready
        terminating=bool(conditions.get("terminating")),
        labels=pod.labels if pod else {},
        pod=target.get("name", "") if target.get("kind") == "Pod" else "",
        namespace=namespace,
        workload=pod.workload if pod else "",
        service_account=pod.service_account if pod else "",
        node=entry.get("nodeName") or "",
        locality=pod.locality if pod else "",
        tls_mode=pod.tls_mode if pod else "disabled",
    )

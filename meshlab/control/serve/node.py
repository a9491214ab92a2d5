"""The xDS node: who a data plane says it is, checked against its token."""

from dataclasses import replace
from typing import Any, Literal

from google.protobuf.json_format import MessageToDict

from meshlab.control.serve.auth import ForbiddenError, check_claims
from meshlab.control.snapshot import Proxy, World
from meshlab.control.trust import Caller
from meshlab.errors import ProtocolError


def proxy_of(node: Any) -> Proxy:
    """Read `Node`: id `<type>~<ip>~<pod>.<ns>~<domain>` and Istio's metadata (istio.md 3.1).

    Raises:
        ProtocolError: an id of another form.
    """
    parts = node.id.split("~")
    if len(parts) != 4 or parts[0] not in ("sidecar", "router") or "." not in parts[2]:
        raise ProtocolError(
            f"node id {node.id!r} is not of the form sidecar|router~<ip>~<pod>.<ns>~<domain>"
        )
    name, _, namespace = parts[2].rpartition(".")
    metadata = MessageToDict(node.metadata)
    kind: Literal["sidecar", "router"] = "router" if parts[0] == "router" else "sidecar"
    return Proxy(
        id=node.id,
        type=kind,
        ip=parts[1],
        name=name,
        namespace=metadata.get("NAMESPACE") or namespace,
        labels={k: str(v) for k, v in (metadata.get("LABELS") or {}).items()},
        service_account=metadata.get("SERVICE_ACCOUNT") or "default",
        metadata=metadata,
        extensions=frozenset(extension.name for extension in node.extensions),
    )


def verified(proxy: Proxy, caller: Caller, world: World) -> Proxy:
    """Return the proxy if its token bears out what it says.

    Raises:
        ForbiddenError: the token is somebody else's, or the address is another pod's.
    """
    claimed = proxy.id.split("~")[2].rpartition(".")[2]
    check_claims(caller, claimed, proxy.service_account, proxy.name)
    check_claims(caller, proxy.namespace, proxy.service_account, proxy.name)
    owner = world.workloads.get(proxy.ip)
    if owner is not None and (owner.namespace, owner.name) != (proxy.namespace, proxy.name):
        raise ForbiddenError(f"address {proxy.ip} belongs to pod {owner.namespace}/{owner.name}")
    return proxy


def current(proxy: Proxy, world: World) -> Proxy:
    """Return the proxy with its pod's labels as they are now; the node was sent only once."""
    pod = world.workloads.get(proxy.ip)
    if pod is None or (pod.namespace, pod.name) != (proxy.namespace, proxy.name):
        return proxy
    return proxy if pod.labels == proxy.labels else replace(proxy, labels=pod.labels)

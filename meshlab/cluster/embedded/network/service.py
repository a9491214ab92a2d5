"""Services as the kernel sees them: nftables rules that send a virtual address to an endpoint.

A connection to a ClusterIP or a node port is translated in the cluster's namespace, in prerouting
for pods and in output for the node itself, to an endpoint drawn at random. Every service port has
a chain of its own; a change is one atomic transaction that touches only the chains it must, and
connections that are there stay where they are (conntrack remembers them).
"""

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.network.ipam import NODE_ADDRESS
from meshlab.errors import ClusterError

Object = dict[str, Any]

DNS_ADDRESS = "10.96.0.10"
API_ADDRESS = "10.96.0.1"
OWN_ADDRESSES = frozenset({DNS_ADDRESS, API_ADDRESS})
"""Services that the cluster's own sockets serve, without translation."""
SERVICE_NAME = "kubernetes.io/service-name"
AFFINITY_TIMEOUT = 10800
"""Default of `sessionAffinityConfig.clientIP.timeoutSeconds`."""

TABLE = f"""\
table ip meshlab
delete table ip meshlab
table ip meshlab {{
  map services {{
    type ipv4_addr . inet_proto . inet_service : verdict
  }}
  map node_ports {{
    type inet_proto . inet_service : verdict
  }}
  set own_service {{
    comment "pod to itself through a service"
    type ipv4_addr . ipv4_addr
  }}
  chain translate {{
    ip daddr . meta l4proto . th dport vmap @services
    ip daddr {NODE_ADDRESS} meta l4proto . th dport vmap @node_ports
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat
    jump translate
  }}
  chain output {{
    type nat hook output priority -100
    jump translate
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ct status dnat ip saddr . ip daddr @own_service masquerade
  }}
}}
"""
# A pod that gets its own packet back would answer itself directly and never match what it asked
# for: only there the source is replaced. Everybody else keeps his address.


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of one Service, with the endpoints it goes to now."""

    namespace: str
    service: str
    name: str
    protocol: str
    """`tcp` or `udp`."""
    address: str
    """ClusterIP."""
    port: int
    node_port: int | None = None
    affinity: int | None = None
    """Seconds a client stays with its endpoint (`sessionAffinity: ClientIP`); None: it does not."""
    endpoints: tuple[tuple[str, int], ...] = ()

    @property
    def chain(self) -> str:
        """The name of its chain; nft allows no `-` there, and Kubernetes no `_`."""
        words = (self.namespace, self.service, self.name or str(self.port), self.protocol)
        return "service/" + "/".join(words).replace("-", "_")

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The (map, key) pairs that lead to its chain."""
        keys = [("services", f"{self.address} . {self.protocol} . {self.port}")]
        if self.node_port:
            keys.append(("node_ports", f"{self.protocol} . {self.node_port}"))
        return keys


def ready_endpoints(slices: Iterable[Object]) -> list[tuple[Object, Object]]:
    """Return (slice, endpoint) pairs that take traffic.

    Those that are ready; when there is none, those that still serve while they terminate.
    """
    pairs = [(piece, endpoint) for piece in slices for endpoint in piece.get("endpoints") or []]
    ready = [pair for pair in pairs if pair[1].get("conditions", {}).get("ready", True)]
    return ready or [pair for pair in pairs if pair[1].get("conditions", {}).get("serving")]


def service_ports(service: Object, slices: Iterable[Object]) -> list[ServicePort]:
    """Return what of a Service needs translation: nothing of a headless or our own one."""
    spec = service["spec"]
    address = spec.get("clusterIP") or "None"
    if address == "None" or address in OWN_ADDRESSES:
        return []
    pairs = ready_endpoints(slices)
    affinity = None
    if spec.get("sessionAffinity") == "ClientIP":
        config = spec.get("sessionAffinityConfig") or {}
        affinity = (config.get("clientIP") or {}).get("timeoutSeconds", AFFINITY_TIMEOUT)
    return [
        ServicePort(
            namespace=service["metadata"]["namespace"],
            service=service["metadata"]["name"],
            name=port.get("name") or "",
            protocol=port.get("protocol", "TCP").lower(),
            address=address,
            port=port["port"],
            node_port=port.get("nodePort"),
            affinity=affinity,
            endpoints=endpoints_of(port, pairs),
        )
        for port in spec.get("ports") or []
    ]


def endpoints_of(
    port: Object, pairs: Iterable[tuple[Object, Object]]
) -> tuple[tuple[str, int], ...]:
    """Return the addresses and ports behind one service port, sorted."""
    found = {
        (address, target["port"])
        for piece, endpoint in pairs
        for target in piece.get("ports") or []
        if (target.get("name") or "") == (port.get("name") or "") and target.get("port")
        for address in endpoint.get("addresses") or []
    }
    return tuple(sorted(found))


def rules(port: ServicePort) -> list[str]:
    """Return the rules of a service port's chain, which is empty before."""
    if port.affinity is None:
        return [f"meta l4proto {port.protocol} {dnat(port.endpoints)}"]
    lines = [f"ip saddr @{set_name(port, n)} goto {port.chain}/{n}" for n in numbers(port)]
    choice = ", ".join(f"{n} : goto {port.chain}/{n}" for n in numbers(port))
    return [*lines, f"numgen random mod {len(port.endpoints)} vmap {{ {choice} }}"]


def dnat(endpoints: tuple[tuple[str, int], ...]) -> str:
    if len(endpoints) == 1:
        return f"dnat to {endpoints[0][0]}:{endpoints[0][1]}"
    choice = ", ".join(f"{n} : {address} . {port}" for n, (address, port) in enumerate(endpoints))
    return f"dnat ip to numgen random mod {len(endpoints)} map {{ {choice} }}"


def numbers(port: ServicePort) -> range:
    return range(len(port.endpoints)) if port.affinity is not None else range(0)


def set_name(port: ServicePort, number: int) -> str:
    """Name the set of clients that stay with endpoint `number`."""
    return f"{port.chain}/{number}/clients"


def added(port: ServicePort) -> list[str]:
    """Return the commands that put a service port in force."""
    lines = [f"add chain ip meshlab {port.chain}"]
    for number in numbers(port):
        clients = set_name(port, number)
        lines += [
            f"add set ip meshlab {clients} "
            f"{{ type ipv4_addr; flags dynamic, timeout; timeout {port.affinity}s; }}",
            f"add chain ip meshlab {port.chain}/{number}",
            f"add rule ip meshlab {port.chain}/{number} meta l4proto {port.protocol} "
            f"update @{clients} {{ ip saddr }} {dnat(port.endpoints[number : number + 1])}",
        ]
    lines += [f"add rule ip meshlab {port.chain} {rule}" for rule in rules(port)]
    lines += [
        f"add element ip meshlab {name} {{ {key} : goto {port.chain} }}" for name, key in port.keys
    ]
    return lines


def removed(port: ServicePort) -> list[str]:
    """Return the commands that take it out of force again."""
    lines = [f"delete element ip meshlab {name} {{ {key} }}" for name, key in port.keys]
    lines += [f"flush chain ip meshlab {port.chain}"]
    for number in numbers(port):
        lines += [
            f"flush chain ip meshlab {port.chain}/{number}",
            f"delete chain ip meshlab {port.chain}/{number}",
            f"delete set ip meshlab {set_name(port, number)}",
        ]
    return [*lines, f"delete chain ip meshlab {port.chain}"]


def changed(old: ServicePort, new: ServicePort) -> list[str]:
    """Return the commands from one state of a service port to another."""
    if old.keys != new.keys or old.affinity is not None or new.affinity is not None:
        return [*removed(old), *added(new)]
    return [
        f"flush chain ip meshlab {new.chain}",
        *(f"add rule ip meshlab {new.chain} {rule}" for rule in rules(new)),
    ]


def transaction(old: Mapping[str, ServicePort], new: Mapping[str, ServicePort]) -> str:
    """Return the nft script that leads from `old` to `new`, both by chain; "" when equal.

    Ports without endpoints have no place in either: nothing translates them, so they are refused.
    """
    lines: list[str] = []
    for chain in sorted(old.keys() - new.keys()):
        lines += removed(old[chain])
    for chain in sorted(old.keys() & new.keys()):
        if old[chain] != new[chain]:
            lines += changed(old[chain], new[chain])
    for chain in sorted(new.keys() - old.keys()):
        lines += added(new[chain])
    before, after = (
        {address for port in ports.values() for address, _ in port.endpoints}
        for ports in (old, new)
    )
    for verb, addresses in (("delete", before - after), ("add", after - before)):
        if addresses:
            elements = ", ".join(f"{address} . {address}" for address in sorted(addresses))
            lines.append(f"{verb} element ip meshlab own_service {{ {elements} }}")
    return "".join(line + "\n" for line in lines)


def nft(script: str) -> None:
    """Put a transaction in force, whole or not at all, in the calling thread's namespace.

    Raises:
        ClusterError: with what `nft` says.
    """
    command = ["nft", "-f", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"nft: {done.stderr.strip()}", found=script.strip())

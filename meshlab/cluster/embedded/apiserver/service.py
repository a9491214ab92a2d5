"""Addresses and ports of Services: which are free, and who has them.

There is no list of what is taken beside the Services themselves, so none can be wrong after a
crash.
"""

import ipaddress
import random
from collections.abc import Callable
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import copy
from meshlab.cluster.embedded.apiserver.status import FieldError, invalid
from meshlab.cluster.embedded.apiserver.store import Store

Json = dict[str, Any]

SERVICE_RANGE = ipaddress.IPv4Network("10.96.0.0/16")
NODE_PORTS = range(30000, 32768)
RESERVED = 256
"""Addresses at the range's start that only those get who ask for them."""


class Allocator:
    """Gives Services their ClusterIP and nodePorts."""

    def __init__(self, store: Store, nodeport_free: Callable[[int], bool]) -> None:
        self._store = store
        self._nodeport_free = nodeport_free
        self._dice = random.Random()

    def allocate(self, service: Json, old: Json | None) -> None:
        """Complete `service` in place; `old` is what it was before, which keeps its addresses.

        Raises:
            ApiError: 422 for an address or port that is taken or out of range.
        """
        spec = service["spec"]
        before = old["spec"] if old else {}
        self._allocate_address(service, spec, before)
        self._allocate_ports(service, spec, before)

    def _allocate_address(self, service: Json, spec: Json, before: Json) -> None:
        if spec["type"] == "ExternalName":
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
            return
        if not spec.get("clusterIP") and spec.get("clusterIPs"):
            spec["clusterIP"] = spec["clusterIPs"][0]
        address = spec.get("clusterIP") or before.get("clusterIP") or self._free_address()
        if address != "None" and address != before.get("clusterIP"):
            self._check_address(service, address)
        spec["clusterIP"] = address
        spec["clusterIPs"] = [address]

    def _free_address(self) -> str:
        taken = self._addresses()
        first = int(SERVICE_RANGE.network_address)
        span = SERVICE_RANGE.num_addresses - RESERVED - 1
        start = self._dice.randrange(span)
        for step in range(span):
            address = str(ipaddress.IPv4Address(first + RESERVED + (start + step) % span))
            if address not in taken:
                return address
        raise RuntimeError("no ClusterIP is free: 65,000 services are too many for one machine")

    def _check_address(self, service: Json, address: str) -> None:
        try:
            inside = ipaddress.IPv4Address(address) in SERVICE_RANGE
        except ValueError:
            inside = False
        if not inside:
            detail = (
                f"failed to allocate IP {address}: the provided IP is not in the valid range. "
                f"The range of valid IPs is {SERVICE_RANGE}"
            )
            raise _bad(service, "spec.clusterIPs", detail, [address])
        if address in self._addresses():
            detail = f"failed to allocate IP {address}: provided IP is already allocated"
            raise _bad(service, "spec.clusterIPs", detail, [address])

    def _addresses(self) -> set[str]:
        return {s["spec"].get("clusterIP", "") for s in self._store.list("services")}

    def _allocate_ports(self, service: Json, spec: Json, before: Json) -> None:
        ports = spec.get("ports") or []
        if spec["type"] not in {"NodePort", "LoadBalancer"}:
            for port in ports:
                port.pop("nodePort", None)
            return
        kept = {(p["port"], p["protocol"]): p.get("nodePort") for p in before.get("ports") or ()}
        own = {number for number in kept.values() if number}
        taken = self._node_ports() - own
        for index, port in enumerate(ports):
            number = port.get("nodePort") or kept.get((port["port"], port["protocol"]))
            if number and number not in own:
                self._check_port(service, index, number, taken)
            if not number:
                number = self._free_port(taken)
            port["nodePort"] = number
            taken.add(number)

    def _check_port(self, service: Json, index: int, number: int, taken: set[int]) -> None:
        path = f"spec.ports[{index}].nodePort"
        if number not in NODE_PORTS:
            detail = "provided port is not in the valid range. The range of valid ports is "
            raise _bad(service, path, f"{detail}{NODE_PORTS[0]}-{NODE_PORTS[-1]}", number)
        if number in taken:
            raise _bad(service, path, "provided port is already allocated", number)
        if not self._nodeport_free(number):
            detail = "provided port is in use by another program on this machine"
            raise _bad(service, path, detail, number)

    def _free_port(self, taken: set[int]) -> int:
        start = self._dice.randrange(len(NODE_PORTS))
        for step in range(len(NODE_PORTS)):
            number = NODE_PORTS[(start + step) % len(NODE_PORTS)]
            if number not in taken and self._nodeport_free(number):
                return number
        raise RuntimeError("no nodePort is free on this machine")

    def _node_ports(self) -> set[int]:
        return {
            port["nodePort"]
            for service in self._store.list("services")
            for port in service["spec"].get("ports") or ()
            if "nodePort" in port
        }


def _bad(service: Json, field: str, detail: str, value: Any) -> Exception:
    error = FieldError(field, "Invalid value", detail, copy(value))
    return invalid("Service", "", service["metadata"]["name"], [error])

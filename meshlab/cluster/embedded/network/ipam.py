"""Which address a pod gets: the next one of the range that is free, round and round."""

import ipaddress
from collections.abc import Iterable

from meshlab.errors import ClusterError

POD_RANGE = ipaddress.ip_network("10.244.0.0/16")
SERVICE_RANGE = ipaddress.ip_network("10.96.0.0/16")
NODE_ADDRESS = "10.244.0.1"
"""The node's own, and every pod's gateway."""


class Addresses:
    """The pod range.

    An address that was given back is the last to be given out again: a client that still has it
    from an old EndpointSlice must meet an unreachable address, never another service's pod.
    """

    def __init__(self, used: Iterable[str] = (), *, last: str = NODE_ADDRESS) -> None:
        self.used = set(used)
        self.last = int(ipaddress.ip_address(last))

    def take(self) -> str:
        """Return the next free address.

        Raises:
            ClusterError: all are in use.
        """
        first = int(ipaddress.ip_address(NODE_ADDRESS)) + 1
        end = int(POD_RANGE.broadcast_address)
        for step in range(1, end - first + 1):
            number = first + (self.last - first + step) % (end - first)
            address = str(ipaddress.ip_address(number))
            if address not in self.used:
                self.used.add(address)
                self.last = number
                return address
        raise ClusterError(f"no pod address of {POD_RANGE} is free", fix="Delete pods")

    def give_back(self, address: str) -> None:
        self.used.discard(address)

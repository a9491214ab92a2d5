"""What a change touches: which types of resources must be made again."""

from collections.abc import Collection

from meshlab.control.translate.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, TYPES

_TOUCHES: dict[str, frozenset[str]] = {
    "Service": frozenset(TYPES),
    # Clusters name the endpoints' identities; headless services have a listener an address.
    "Endpoint": frozenset({CLUSTER, ENDPOINT, LISTENER}),
    # The workload's named ports decide which inbound ports there are.
    "Workload": frozenset({CLUSTER, LISTENER}),
    "Namespace": frozenset(),
    "Mesh": frozenset(TYPES),
    "VirtualService": frozenset({ROUTE}),
    "DestinationRule": frozenset({CLUSTER, ENDPOINT}),
    "Gateway": frozenset({LISTENER, ROUTE}),
    "PeerAuthentication": frozenset({CLUSTER, ENDPOINT, LISTENER}),
}


def touched(kinds: Collection[str]) -> frozenset[str]:
    """Return the type URLs to make again, for every proxy, after changes of these kinds.

    Kinds are those of configuration objects, and `Service`, `Endpoint`, `Workload`, `Namespace`,
    `Mesh` for the other parts of a world. What comes out the same is not sent again.
    """
    return frozenset().union(*(_TOUCHES.get(kind, frozenset(TYPES)) for kind in kinds))

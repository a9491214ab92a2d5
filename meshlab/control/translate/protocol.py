"""Which protocol a service's port speaks (Istio's protocol selection)."""

from enum import Enum

from meshlab.control.snapshot import ServicePort
from meshlab.control.translate.capability import Capabilities


class Protocol(Enum):
    """How a port is treated."""

    HTTP = "http"
    """HTTP/1.1, by declaration."""
    HTTP2 = "http2"
    """HTTP/2 without negotiation, gRPC included."""
    TCP = "tcp"
    AUTO = "auto"
    """Not declared: the first bytes of each connection tell."""


_BY_NAME = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.HTTP2,
    "grpc-web": Protocol.HTTP2,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TCP,
    "https": Protocol.TCP,
    "tls": Protocol.TCP,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "redis": Protocol.TCP,
    "mysql": Protocol.TCP,
}

# Their servers speak first: waiting for the client's first bytes would wait for ever.
_SERVER_FIRST = frozenset({25, 53, 3306, 27017})


def declared(port: ServicePort) -> Protocol:
    """Return the protocol that a TCP port declares by `appProtocol`, then by its name."""
    found = _BY_NAME.get(port.app_protocol.lower())
    if found is None:
        name = port.name.lower()
        # `grpc-web-x` is gRPC-Web, though `grpc` is a protocol too.
        prefix = "grpc-web" if name.startswith("grpc-web") else name.partition("-")[0]
        found = _BY_NAME.get(prefix)
    if found is not None:
        return found
    return Protocol.TCP if port.number in _SERVER_FIRST else Protocol.AUTO


def protocol(port: ServicePort, can: Capabilities) -> Protocol:
    """Return how a data plane treats a port; HTTP/2 is opaque to one that has none."""
    found = declared(port)
    if found is Protocol.HTTP2 and not can.http2:
        return Protocol.TCP
    return found

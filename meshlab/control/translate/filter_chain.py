"""Which connections an inbound port takes: TLS mode × protocol, in Istio's table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envoy.config.listener.v3 import listener_components_pb2

from meshlab.control.translate import mtls
from meshlab.control.translate.peer_authentication import Mode
from meshlab.control.translate.protocol import Protocol

_PLAIN_HTTP = ("http/1.1", "h2c")


@dataclass(frozen=True, slots=True)
class Chain:
    """One kind of connection and what is done with it."""

    transport: str
    """`tls`, `raw_buffer` or "" for both."""
    alpn: tuple[str, ...]
    terminate: bool
    """Mutual TLS ends here; otherwise the bytes go on as they are."""
    http: bool


_ISTIO = (*mtls.ISTIO_ALPN, *mtls.ISTIO_HTTP_ALPN)
_TABLE: dict[tuple[Protocol, Mode], tuple[Chain, ...]] = {
    (Protocol.HTTP, "STRICT"): (Chain("tls", (), terminate=True, http=True),),
    (Protocol.HTTP, "PERMISSIVE"): (
        Chain("tls", _ISTIO, terminate=True, http=True),
        Chain("raw_buffer", (), terminate=False, http=True),
    ),
    (Protocol.HTTP, "DISABLE"): (Chain("raw_buffer", (), terminate=False, http=True),),
    (Protocol.TCP, "STRICT"): (Chain("tls", (), terminate=True, http=False),),
    (Protocol.TCP, "PERMISSIVE"): (
        Chain("tls", _ISTIO, terminate=True, http=False),
        Chain("tls", (), terminate=False, http=False),
        Chain("raw_buffer", (), terminate=False, http=False),
    ),
    (Protocol.TCP, "DISABLE"): (Chain("", (), terminate=False, http=False),),
    (Protocol.AUTO, "STRICT"): (
        Chain("tls", mtls.ISTIO_HTTP_ALPN, terminate=True, http=True),
        Chain("tls", (), terminate=True, http=False),
    ),
    (Protocol.AUTO, "PERMISSIVE"): (
        Chain("tls", mtls.ISTIO_HTTP_ALPN, terminate=True, http=True),
        Chain("raw_buffer", _PLAIN_HTTP, terminate=False, http=True),
        Chain("tls", mtls.ISTIO_ALPN, terminate=True, http=False),
        Chain("raw_buffer", (), terminate=False, http=False),
        Chain("tls", (), terminate=False, http=False),
    ),
    (Protocol.AUTO, "DISABLE"): (
        Chain("raw_buffer", _PLAIN_HTTP, terminate=False, http=True),
        Chain("", (), terminate=False, http=False),
    ),
}


def inbound_chains(protocol: Protocol, mode: Mode) -> Sequence[Chain]:
    """Return the kinds of connections that a port takes."""
    return _TABLE[Protocol.HTTP if protocol is Protocol.HTTP2 else protocol, mode]


def without_http2(alpn: Sequence[str], *, http2: bool) -> list[str]:
    """Return application protocols without those of HTTP/2 for a data plane that has none."""
    return [name for name in alpn if http2 or name not in ("h2", "h2c")]


def filter_chain(
    name: str,
    filters: Sequence[Any],
    *,
    port: int = 0,
    transport: str = "",
    alpn: Sequence[str] = (),
    transport_socket: Any = None,
) -> Any:
    """Return a filter chain; an empty criterion takes everything."""
    made = listener_components_pb2.FilterChain(
        name=name, filters=filters, transport_socket=transport_socket
    )
    if port or transport or alpn:
        match = listener_components_pb2.FilterChainMatch(
            transport_protocol=transport, application_protocols=alpn
        )
        if port:
            match.destination_port.value = port
        made.filter_chain_match.CopyFrom(match)
    return made

"""Tell the peer who we are and learn who it is, in headers (Istio's `metadata_exchange`)."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.metadata_exchange import HEADER, ID_HEADER, decode

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def read_downstream_peer(stream: "Stream") -> None:
    headers = stream.head.headers
    value = headers.get(HEADER)
    if value is not None:
        stream.info.downstream_peer = decode(value, headers.get(ID_HEADER) or b"")
        headers.remove(HEADER)
        headers.remove(ID_HEADER)


def exchange_in_request(stream: "Stream") -> None:
    info = stream.info
    inbound = info.connection.traffic_direction == "inbound"
    if not inbound and info.upstream_cluster != "PassthroughCluster":
        runtime = stream.manager.runtime
        stream.head.headers.set(ID_HEADER, runtime.metadata_id)
        stream.head.headers.set(HEADER, runtime.metadata)


def exchange_in_response(stream: "Stream", headers: Headers) -> None:
    info = stream.info
    if info.connection.traffic_direction == "inbound":
        if info.downstream_peer is not None:  # only who told us is told
            headers.set(ID_HEADER, stream.manager.runtime.metadata_id)
            headers.set(HEADER, stream.manager.runtime.metadata)
        return
    value = headers.get(HEADER)
    if value is not None:
        info.upstream_peer = decode(value, headers.get(ID_HEADER) or b"")
        headers.remove(HEADER)
        headers.remove(ID_HEADER)

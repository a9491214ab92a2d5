"""What the connection manager adds to every response's head before it goes to the client."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.head import Headers

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def send_response(
    stream: "Stream",
    status: int,
    reason: bytes,
    headers: Headers,
    length: int,
    data: bytes,
    end: bool,
) -> None:
    """Begin the response downstream; `length` as in `ResponseHead.body`, `end`: this is all."""
    manager = stream.manager
    config = manager.config
    info = stream.info
    names = headers.names
    if config.server_header == "overwrite" or (
        config.server_header == "append_if_absent" and b"server" not in names
    ):
        headers.set(b"server", config.server_name)
    if b"date" not in names:
        headers.add(b"date", manager.runtime.date(info.start_time))
    if config.always_set_request_id_in_response and info.request_id:
        headers.set(b"x-request-id", info.request_id)
    if config.via:
        headers.add(b"via", config.via)
    info.response_code = status
    info.response_headers = headers
    info.bytes_sent += len(data)
    info.upstream_bytes_received += len(data)
    info.first_downstream_byte_sent = info.first_upstream_byte_received or manager.runtime.now()
    if end:
        info.last_upstream_byte_received = info.first_upstream_byte_received
    stream.response_started = True
    stream.connection.send_response(status, reason, headers, length, data, end)
    if end:
        stream.finish()

"""Answers of the proxy itself, without or in place of upstream (Envoy's local replies)."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.route import is_grpc
from meshlab.proxy.net.response_head import send_response
from meshlab.proxy.net.retry import release_retry

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream

GRPC_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""HTTP status of an answer of our own → gRPC status (Envoy `httpToGrpcStatus`)."""


def reply(
    stream: "Stream", status: int, body: bytes, details: str, *, overloaded: bool = False
) -> None:
    """Answer without upstream."""
    headers = Headers([], [])
    if overloaded and not stream.manager.suppress_envoy_headers:
        headers.add(b"x-envoy-overloaded", b"true")
    if is_grpc(stream.head):
        headers.add(b"content-type", b"application/grpc")
        headers.add(b"grpc-status", b"%d" % GRPC_STATUS.get(status, 2))
        if body:
            headers.add(b"grpc-message", body.replace(b"%", b"%25"))
        send_own(stream, 200, headers, b"", details)
        return
    if body:
        headers.add(b"content-type", b"text/plain")
    send_own(stream, status, headers, body, details)


def redirect(stream: "Stream", status: int, where: bytes) -> None:
    send_own(stream, status, Headers.of((b"location", where)), b"", "direct_response")


def local_failure(
    stream: "Stream", status: int, body: bytes, details: str, *, overloaded: bool = False
) -> None:
    """Answer for an upstream that did not."""
    if stream.cluster is not None:
        stream.cluster.stats.count_response(status)
    reply(stream, status, body, details, overloaded=overloaded)


def send_own(stream: "Stream", status: int, headers: Headers, body: bytes, details: str) -> None:
    """Answer with headers of one's own; what upstream still does is given up."""
    stream.cancel_upstream()
    stream.retry = None
    release_retry(stream)
    info = stream.info
    info.response_code_details = details
    if b"content-length" not in headers.names and status >= 200 and status != 204:
        headers.add(b"content-length", b"%d" % len(body))
    route = stream.route
    if route is not None and route.mutate_response is not None:
        info.response_code = status
        info.response_headers = headers
        route.mutate_response(headers, info)
    if stream.head.method == b"HEAD" or status in (204, 304):
        body = b""
    send_response(stream, status, b"", headers, len(body), body, True)

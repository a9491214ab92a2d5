"""What the connection manager checks and completes in a request's head, before any filter."""

from typing import TYPE_CHECKING

from meshlab.proxy.core.forwarded import forward, remove_hop_by_hop, request_id
from meshlab.proxy.core.path import (
    has_escaped_slash,
    merge_slashes,
    normalize,
    split,
    unescape_slashes,
)
from meshlab.proxy.core.route import without_port
from meshlab.proxy.core.stream_info import DPE, NR
from meshlab.proxy.net.local_reply import redirect, reply
from meshlab.proxy.net.metadata_exchange import read_downstream_peer

if TYPE_CHECKING:
    from meshlab.proxy.net.stream import Stream


def accept_head(stream: "Stream") -> bool:
    """Check and complete the request's head; False: it was answered."""
    manager = stream.manager
    config = manager.config
    head = stream.head
    info = stream.info
    if head.authority is None:
        if not config.default_host_for_http_10:
            return _refuse(stream, 400, b"", "missing_host_header")
        head.authority = config.default_host_for_http_10
        head.headers.set(b"host", head.authority)
        info.authority = head.authority
    if head.method == b"CONNECT":
        info.flags |= NR
        info.path = b""
        return _refuse(stream, 404, b"", "route_not_found")
    if head.scheme == b"https" and not info.connection.tls_version:
        _forget_head(stream)
        return _refuse(stream, 403, b"Forbidden", "http1.https_url_on_plaintext_connection")
    if not head.target.startswith(b"/"):
        manager.stats.rq_non_relative_path.value += 1
        reply(stream, 404, b"", "absolute_path_rejected")
        return False
    if b"#" in head.target:
        return _refuse(stream, 400, b"", "path_normalization_failed")
    if config.headers_with_underscores != "allow" and not _check_underscores(stream):
        return False
    remove_hop_by_hop(head.headers)
    if head.upgrade == b"h2c":  # RFC 9113 §3.1: given up by HTTP/2, and ignored as Envoy does
        head.upgrade = b""
        head.headers.remove(b"http2-settings")
    if (config.normalize_path or config.merge_slashes or config.escaped_slashes != "keep") and (
        not _normalize_path(stream)
    ):
        return False
    if config.strip_any_host_port or config.strip_matching_host_port:
        _strip_port(stream)
    peer_ip = info.connection.remote_address.rpartition(":")[0].strip("[]")
    remote, stream.external = forward(head, config, info.connection, peer_ip)
    if remote and remote != peer_ip:
        info.downstream_remote_address = f"[{remote}]:0" if ":" in remote else f"{remote}:0"
    if config.scheme_overwrite:
        info.scheme = config.scheme_overwrite.encode()
    else:
        info.scheme = head.headers.get(b"x-forwarded-proto") or b"http"
    head.scheme = info.scheme
    if config.generate_request_id:
        known = head.headers.get(b"x-request-id")
        if known is None or (stream.external and not config.preserve_external_request_id):
            known = request_id(manager.runtime.random_bytes(16))
            head.headers.set(b"x-request-id", known)
        info.request_id = known
    if manager.exchange_metadata and info.connection.traffic_direction == "inbound":
        read_downstream_peer(stream)
    return True


def _forget_head(stream: "Stream") -> None:
    """What the codec refuses has no method or path in the log."""
    stream.info.flags |= DPE
    stream.info.method = b""
    stream.info.path = b""


def _refuse(stream: "Stream", status: int, body: bytes, details: str) -> bool:
    """Answer a request that no filter shall see, and the last of its connection."""
    stream.connection.close_after_response()
    reply(stream, status, body, details)
    return False


def _check_underscores(stream: "Stream") -> bool:
    headers = stream.head.headers
    bad = [name for name in headers.names if b"_" in name]
    if bad and stream.manager.config.headers_with_underscores == "reject_request":
        _forget_head(stream)
        return _refuse(stream, 400, b"Bad Request", "http1.unexpected_underscore")
    for name in bad:
        headers.remove(name)
    return True


def _normalize_path(stream: "Stream") -> bool:
    config = stream.manager.config
    head = stream.head
    path, rest = split(head.target)
    if not path.startswith(b"/"):
        return True
    if config.escaped_slashes != "keep" and has_escaped_slash(path):
        path = unescape_slashes(path)
        if config.escaped_slashes == "reject":
            stream.info.path = path + rest
            return _refuse(stream, 400, b"", "path_normalization_failed")
        if config.escaped_slashes == "unescape_redirect":
            redirect(stream, 307, path + rest)
            return False
    if config.normalize_path:
        if b"%00" in path:
            return _refuse(stream, 400, b"", "path_normalization_failed")
        path = normalize(path)
    if config.merge_slashes:
        path = merge_slashes(path)
    head.target = path + rest
    stream.info.path = head.target
    return True


def _strip_port(stream: "Stream") -> None:
    head = stream.head
    authority = head.authority or b""
    bare = without_port(authority)
    if bare == authority:
        return
    config = stream.manager.config
    local = stream.info.connection.local_address.rpartition(":")[2].encode()
    if config.strip_any_host_port or authority.endswith(b":" + local):
        head.authority = bare
        head.headers.set(b"host", bare)
        stream.info.authority = bare

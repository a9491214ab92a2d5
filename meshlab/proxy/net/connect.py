"""Opening an upstream connection: source address, keep-alive, TLS, the peer's name."""

import asyncio
import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING, TypeVar

from meshlab.proxy.core.load_balancer.base import Host
from meshlab.proxy.core.retry import Reset
from meshlab.proxy.core.tls import UpstreamTls
from meshlab.proxy.net.original_dst import IP_BIND_ADDRESS_NO_PORT
from meshlab.proxy.net.tls import MissingSecretError, peer_certificate

if TYPE_CHECKING:
    from meshlab.proxy.net.cluster import ClusterState

P = TypeVar("P", bound=asyncio.Protocol)


class ConnectFailedError(Exception):
    """A connection that did not come about.

    Attributes:
        reset: as which kind of reset the requests that waited for it see it.
        reason: Envoy's `transport failure reason`, "" where it has none.
    """

    def __init__(self, reset: Reset, reason: str) -> None:
        self.reset = reset
        self.reason = reason
        super().__init__(f"{reset.value}: {reason}")


async def connect(
    cluster: "ClusterState",
    host: Host,
    protocol: P,
    tls: UpstreamTls | None,
    alpn: tuple[str, ...],
    server_name: str,
) -> P:
    """Connect `protocol` to `host`, within the cluster's connect timeout.

    Raises:
        ConnectFailedError: refused, timed out, TLS failed, or the peer is not who it should be.
    """
    try:
        async with asyncio.timeout(cluster.config.connect_timeout or None):
            return await _connect(cluster, host, protocol, tls, alpn, server_name)
    except TimeoutError as error:
        cluster.stats.cx_connect_timeout.value += 1
        raise ConnectFailedError(Reset.CONNECT_TIMEOUT, "") from error
    except ssl.SSLError as error:
        cluster.stats.ssl_connection_error.value += 1
        if isinstance(error, ssl.SSLCertVerificationError):
            cluster.stats.ssl_fail_verify_error.value += 1
        reason = f"TLS_error:|{error.reason or error}:TLS_error_end"
        raise ConnectFailedError(Reset.CONNECT_FAILURE, reason) from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            cluster.stats.bind_errors.value += 1
        word = os.strerror(error.errno) if error.errno else str(error)
        raise ConnectFailedError(Reset.CONNECT_FAILURE, f"delayed connect error: {word}") from error


async def _connect(
    cluster: "ClusterState",
    host: Host,
    protocol: P,
    tls: UpstreamTls | None,
    alpn: tuple[str, ...],
    server_name: str,
) -> P:
    prepared = None
    if tls is not None:
        try:
            prepared = cluster.runtime.tls.client(tls, alpn)
        except MissingSecretError as error:
            cluster.stats.ssl_context_missing.value += 1
            raise ConnectFailedError(
                Reset.CONNECT_FAILURE, "TLS_error:_Secret_is_not_supplied_by_SDS"
            ) from error
    loop = cluster.runtime.loop
    sock = upstream_socket(cluster, host)
    try:
        address = host.endpoint.address
        await loop.sock_connect(
            sock, unix_path(address.path) if address.path else (address.host, address.port)
        )
        if prepared is None:
            await loop.create_connection(lambda: protocol, sock=sock)
            return protocol
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=sock, ssl=prepared.context, server_hostname=server_name
        )
    except BaseException:
        sock.close()
        raise
    cluster.stats.ssl_handshake.value += 1
    if prepared.accepts is not None:
        certificate = peer_certificate(transport.get_extra_info("ssl_object"))
        if certificate is None or not prepared.accepts(certificate):
            cluster.stats.ssl_fail_verify_san.value += 1
            transport.abort()
            raise ConnectFailedError(
                Reset.CONNECT_FAILURE,
                "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:"
                "verify_cert_failed:_verify_SAN_list:TLS_error_end",
            )
    return protocol


def unix_path(path: str) -> str:
    return "\0" + path[1:] if path.startswith("@") else path


def upstream_socket(cluster: "ClusterState", host: Host) -> socket.socket:
    """Return a socket for `host`, bound and tuned as the cluster says, not connected yet."""
    address = host.endpoint.address
    config = cluster.config
    if address.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        return sock
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        source = config.bind_source
        if source and (":" in source) == (family == socket.AF_INET6):
            sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        keepalive = config.tcp_keepalive
        if keepalive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                (socket.TCP_KEEPCNT, keepalive.probes),
                (socket.TCP_KEEPIDLE, keepalive.time),
                (socket.TCP_KEEPINTVL, keepalive.interval),
            ):
                if value is not None:
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError:
        sock.close()
        raise
    return sock

"""Listening, accepting, looking at the first bytes, and giving a connection its filter chain."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from meshlab.errors import ConfigError
from meshlab.proxy.core import http_inspector, tls_inspector
from meshlab.proxy.core.filter_chain import ConnectionFacts, FilterChain, FilterChainTable
from meshlab.proxy.core.http_connection_manager import HttpConnectionManager
from meshlab.proxy.core.listener import Address, Inspector, Listener
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.core.stream_info import NR, ConnectionInfo, StreamInfo
from meshlab.proxy.net.clock import Timer
from meshlab.proxy.net.connect import unix_path
from meshlab.proxy.net.downstream_http1 import DownstreamHttp1
from meshlab.proxy.net.manager import Manager
from meshlab.proxy.net.original_dst import ip_and_port, original_dst, text
from meshlab.proxy.net.runtime import Runtime
from meshlab.proxy.net.task import spawn
from meshlab.proxy.net.tcp_proxy import Proxy, TcpConnection
from meshlab.proxy.net.tls import MissingSecretError, PreparedTls, peer_certificate

log = logging.getLogger(__name__)

Connection = DownstreamHttp1 | TcpConnection
_ACCEPT_AT_ONCE = 64
_PEEK_MAX = 64 * 1024
_HANDSHAKE_SECONDS = 15.0


class ListenerStats:
    """Envoy's `listener.<address>.` statistics, the ones we count."""

    __slots__ = (
        "cx_active",
        "cx_destroy",
        "cx_length_ms",
        "cx_total",
        "no_filter_chain_match",
        "pre_cx_active",
        "pre_cx_timeout",
        "ssl_connection_error",
        "ssl_context_missing",
        "ssl_fail_verify_error",
        "ssl_fail_verify_no_cert",
        "ssl_fail_verify_san",
        "ssl_handshake",
    )

    def __init__(self, registry: StatRegistry, prefix: str) -> None:
        count = registry.counter
        gauge = registry.gauge
        self.cx_active = gauge(f"{prefix}downstream_cx_active")
        self.cx_destroy = count(f"{prefix}downstream_cx_destroy")
        self.cx_length_ms = registry.histogram(f"{prefix}downstream_cx_length_ms")
        self.cx_total = count(f"{prefix}downstream_cx_total")
        self.no_filter_chain_match = count(f"{prefix}no_filter_chain_match")
        self.pre_cx_active = gauge(f"{prefix}downstream_pre_cx_active")
        self.pre_cx_timeout = count(f"{prefix}downstream_pre_cx_timeout")
        self.ssl_connection_error = count(f"{prefix}ssl.connection_error")
        self.ssl_context_missing = count(
            f"{prefix}server_ssl_socket_factory.downstream_context_secrets_not_ready"
        )
        self.ssl_fail_verify_error = count(f"{prefix}ssl.fail_verify_error")
        self.ssl_fail_verify_no_cert = count(f"{prefix}ssl.fail_verify_no_cert")
        self.ssl_fail_verify_san = count(f"{prefix}ssl.fail_verify_san")
        self.ssl_handshake = count(f"{prefix}ssl.handshake")


Terminal = Manager | Proxy


class ActiveListener:
    """A listener at work.

    Attributes:
        table: its filter chains.
        draining: answers carry `connection: close`; no new connections soon.
        open: connections that it serves.
    """

    __slots__ = (
        "_chains",
        "_sockets",
        "config",
        "draining",
        "logs",
        "open",
        "registry",
        "runtime",
        "stats",
        "table",
        "waiting",
    )

    def __init__(
        self, config: Listener, runtime: Runtime, registry: "Mapping[str, ActiveListener]"
    ) -> None:
        """Compile `config`; nothing is bound yet.

        Raises:
            ConfigError: a chain, route table, log or match that does not compile.
        """
        self.config = config
        self.runtime = runtime
        self.registry = registry
        name = config.stat_prefix or str(config.address).replace(":", "_")
        self.stats = ListenerStats(runtime.stats, f"listener.{name}.")
        self.table = FilterChainTable(config.filter_chains, config.default_filter_chain)
        self.logs = [runtime.log(entry) for entry in config.access_logs]
        self.draining = False
        self.open: set[Connection] = set()
        self.waiting: set[Incoming] = set()
        self._sockets: list[socket.socket] = []
        self._chains: dict[int, tuple[FilterChain, Terminal]] = {}
        chains = list(config.filter_chains)
        if config.default_filter_chain is not None:
            chains.append(config.default_filter_chain)
        for chain in chains:
            self._chains[id(chain)] = (chain, self._compile(chain))

    def _compile(self, chain: FilterChain) -> Terminal:
        if isinstance(chain.terminal, HttpConnectionManager):
            return Manager(chain.terminal, self.runtime)
        return Proxy(chain, self.runtime)

    @property
    def connections(self) -> int:
        return len(self.open)

    @property
    def local_addresses(self) -> list[str]:
        """Where it listens, port 0 filled in; its nominal address when it does not bind."""
        if not self._sockets:
            return [str(self.config.address)]
        return [text(sock.getsockname()) for sock in self._sockets]

    def bind(self) -> None:
        """Open the sockets, without accepting.

        Raises:
            ConfigError: an address is in use, or not ours.
        """
        if not self.config.bind_to_port:
            return
        try:
            for address in (self.config.address, *self.config.additional_addresses):
                self._sockets.append(listening_socket(address, self.config))
        except OSError as error:
            self.close_sockets()
            raise ConfigError(
                f"cannot listen: {error.strerror or error}",
                object=f"Listener {self.config.name}",
                field="address",
                found=str(self.config.address),
            ) from error

    def take_sockets(self, earlier: "ActiveListener") -> None:
        """Go on with the sockets of the listener that this one replaces: no connection is lost."""
        self._sockets, earlier._sockets = earlier._sockets, []
        for sock in self._sockets:
            self.runtime.loop.remove_reader(sock)

    def start(self) -> None:
        for sock in self._sockets:
            self.runtime.loop.add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                accepted, _ = sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no descriptors left, for one: later there may be
                log.error("listener %s: accept: %s", self.config.name, error)
                return
            accepted.setblocking(False)
            Incoming(self, accepted).begin()

    def matching(self, ip: str, port: int) -> "ActiveListener":
        """Return the listener for a connection to this destination; itself when none is."""
        wildcard: ActiveListener | None = None
        for listener in self.registry.values():
            for address in (listener.config.address, *listener.config.additional_addresses):
                if address.port != port:
                    continue
                if address.host == ip:
                    return listener
                if address.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
                    wildcard = listener
        return wildcard or self

    def terminal(self, chain: FilterChain) -> Terminal:
        return self._chains[id(chain)][1]

    def admit(
        self, connection: Connection, transport: asyncio.Transport, info: ConnectionInfo
    ) -> bool:
        """Take a connection, its handshake done; False: the peer is not who it should be."""
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and not self._check_peer(tls, info):
            return False
        self.open.add(connection)
        self.stats.cx_total.value += 1
        self.stats.cx_active.value += 1
        return True

    def _check_peer(self, tls: ssl.SSLObject, info: ConnectionInfo) -> bool:
        stats = self.stats
        stats.ssl_handshake.value += 1
        info.tls_version = tls.version() or ""
        cipher = tls.cipher()
        info.tls_cipher = cipher[0] if cipher else ""
        info.alpn = tls.selected_alpn_protocol() or ""
        certificate = peer_certificate(tls)
        info.peer_certificate = certificate
        prepared = info.prepared
        if not isinstance(prepared, PreparedTls):
            return True
        info.local_certificate = prepared.own
        if prepared.accepts is None:
            return True
        if certificate is None:
            stats.ssl_fail_verify_no_cert.value += 1
            return False
        if not prepared.accepts(certificate):
            stats.ssl_fail_verify_san.value += 1
            return False
        return True

    def release(self, connection: Connection) -> bool:
        """Forget a connection; False: it had never been admitted."""
        if connection not in self.open:
            return False
        self.open.discard(connection)
        self.stats.cx_active.value -= 1
        self.stats.cx_destroy.value += 1
        return True

    def close_idle(self, now: float) -> None:
        """Close connections whose idle timeout is over; called about once a second."""
        for connection in list(self.open):
            connection.close_if_expired(now)

    def drain(self) -> None:
        """Answer with `connection: close` from now on; idle connections end in a while."""
        self.draining = True

    def close_sockets(self) -> None:
        """Accept no more."""
        for sock in self._sockets:
            self.runtime.loop.remove_reader(sock)
            sock.close()
        self._sockets = []
        address = self.config.address
        if address.path and self.config.bind_to_port and not address.path.startswith("@"):
            Path(address.path).unlink(missing_ok=True)

    def close(self) -> None:
        self.close_sockets()
        for waiting in list(self.waiting):
            waiting.close()
        for connection in list(self.open):
            connection.terminate()

    def log_refused(self, info: ConnectionInfo, flags: int, details: str) -> None:
        """Write the listener's own log for a connection that no chain served."""
        if not self.logs:
            return
        runtime = self.runtime
        stream = StreamInfo(info, runtime.wall(), runtime.now())
        stream.end = stream.start
        stream.flags |= flags
        stream.response_code_details = details
        for write in self.logs:
            write(stream)


def listening_socket(address: Address, config: Listener) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the address is in use, or not ours.
    """
    if address.path:
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if address.path:
            if not address.path.startswith("@"):
                Path(address.path).unlink(missing_ok=True)
            sock.bind(unix_path(address.path))
            if config.pipe_mode:
                Path(address.path).chmod(config.pipe_mode)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if config.reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((address.host, address.port))
        sock.listen(config.tcp_backlog)
    except OSError:
        sock.close()
        raise
    return sock


def enabled(inspector: Inspector | None, port: int) -> bool:
    return inspector is not None and not any(
        low <= port < high for low, high in inspector.disabled_port_ranges
    )


class Incoming:
    """An accepted connection until it has its chain: destination, inspection, handshake.

    Bytes are only peeked at here: the chain's codec, or OpenSSL, reads them from the socket.
    """

    __slots__ = (
        "_alpn",
        "_destination",
        "_http_wanted",
        "_listener",
        "_low_water",
        "_server_name",
        "_sock",
        "_source",
        "_timer",
        "_tls_wanted",
        "_transport_protocol",
    )

    def __init__(self, listener: ActiveListener, sock: socket.socket) -> None:
        self._listener = listener
        self._sock = sock
        self._destination: tuple[str, int] = ("", 0)
        self._source: tuple[str, int] = ("", 0)
        self._timer: Timer | None = None
        self._tls_wanted = False
        self._http_wanted = False
        self._low_water = 1
        self._server_name = ""
        self._alpn: tuple[str, ...] = ()
        self._transport_protocol = "raw_buffer"

    def begin(self) -> None:
        """Find out where the connection was going, then look at its first bytes if need be."""
        sock = self._sock
        try:
            self._source = ip_and_port(sock.getpeername())
            self._destination = ip_and_port(sock.getsockname())
        except OSError:  # gone before we looked
            sock.close()
            return
        listener = self._listener
        if listener.config.original_dst_filter or listener.config.use_original_dst:
            self._destination = original_dst(sock) or self._destination
        if listener.config.use_original_dst:
            self._listener = listener = listener.matching(*self._destination)
        port = self._destination[1]
        self._tls_wanted = enabled(listener.config.tls_inspector, port) or (
            listener.config.tls_inspector is None and listener.table.needs_tls_inspector
        )
        self._http_wanted = enabled(listener.config.http_inspector, port)
        if not self._tls_wanted and not self._http_wanted:
            self._serve()
            return
        listener.waiting.add(self)
        listener.stats.pre_cx_active.value += 1
        seconds = listener.config.listener_filters_timeout
        if seconds:
            self._timer = listener.runtime.timers.after(seconds, self._on_timeout)
        listener.runtime.loop.add_reader(sock, self._peek)
        self._peek()

    def _peek(self) -> None:
        try:
            data = self._sock.recv(_PEEK_MAX, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        if self._inspect(data):
            self._stop_waiting()
            self._serve()
            return
        if len(data) < self._low_water and self._low_water > 1:
            self.close()  # woken without more bytes: the client has ended what it never finished
            return
        # Peeked bytes stay readable; the mark keeps the loop asleep until there are more.
        self._low_water = len(data) + 1
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._low_water)

    def _inspect(self, data: bytes) -> bool:
        """Learn from the first bytes; False: more are needed."""
        if self._tls_wanted:
            try:
                hello = tls_inspector.inspect(data)
            except tls_inspector.NotTls:
                self._tls_wanted = False
            else:
                if hello is None:
                    return False
                self._transport_protocol = "tls"
                self._server_name = hello.server_name
                self._alpn = hello.application_protocols
                return True
        if self._http_wanted:
            found = http_inspector.inspect(data)
            if found is None:
                return False
            if found:
                self._alpn = (found,)
        return True

    def _on_timeout(self) -> None:
        self._timer = None
        listener = self._listener
        listener.stats.pre_cx_timeout.value += 1
        if listener.config.continue_on_listener_filters_timeout:
            self._stop_waiting()
            self._serve()
        else:
            self.close()

    def _stop_waiting(self) -> None:
        listener = self._listener
        if self in listener.waiting:
            listener.waiting.discard(self)
            listener.stats.pre_cx_active.value -= 1
            listener.runtime.loop.remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._low_water > 1:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._low_water = 1

    def close(self) -> None:
        self._stop_waiting()
        self._sock.close()

    def _info(self) -> ConnectionInfo:
        listener = self._listener
        runtime = listener.runtime
        sock = self._sock
        if sock.family == socket.AF_UNIX:
            local, remote = text(sock.getsockname()), "@"
        else:
            local, remote = text(self._destination), text(self._source)
        info = ConnectionInfo(runtime.connection_id(), local, remote)
        info.requested_server_name = self._server_name
        info.start_time = runtime.wall()
        info.traffic_direction = listener.config.traffic_direction
        return info

    def _serve(self) -> None:
        """Choose the chain and hand the socket to it."""
        listener = self._listener
        info = self._info()
        chain = listener.table.choose(
            ConnectionFacts(
                destination_ip=self._destination[0],
                destination_port=self._destination[1],
                source_ip=self._source[0],
                source_port=self._source[1],
                server_name=self._server_name,
                transport_protocol=self._transport_protocol,
                application_protocols=self._alpn,
            )
        )
        if chain is None:
            listener.stats.no_filter_chain_match.value += 1
            listener.log_refused(info, NR, "filter_chain_not_found")
            self._sock.close()
            return
        terminal = listener.terminal(chain)
        prepared: PreparedTls | None = None
        if chain.tls is not None:
            try:
                prepared = listener.runtime.tls.server(chain.tls)
            except (MissingSecretError, ConfigError) as error:
                log.warning("listener %s: %s", listener.config.name, error)
                listener.stats.ssl_context_missing.value += 1
                self._sock.close()
                return
            info.prepared = prepared

        def make() -> Connection:
            if isinstance(terminal, Manager):
                return DownstreamHttp1(listener, terminal, info)
            return TcpConnection(listener, terminal, info)

        seconds = chain.transport_socket_connect_timeout or _HANDSHAKE_SECONDS
        spawn(self._connect(make, prepared, info, seconds), "accept")

    async def _connect(
        self,
        make: Callable[[], Connection],
        prepared: PreparedTls | None,
        info: ConnectionInfo,
        seconds: float,
    ) -> None:
        listener = self._listener
        loop = listener.runtime.loop
        try:
            if prepared is None:
                await loop.connect_accepted_socket(make, self._sock)
            else:
                await loop.connect_accepted_socket(
                    make, self._sock, ssl=prepared.context, ssl_handshake_timeout=seconds
                )
        except (OSError, ssl.SSLError) as error:
            self._sock.close()
            if prepared is None:
                return
            listener.stats.ssl_connection_error.value += 1
            if isinstance(error, ssl.SSLCertVerificationError):
                listener.stats.ssl_fail_verify_error.value += 1
            reason = getattr(error, "reason", None) or str(error)
            if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
                listener.stats.ssl_fail_verify_no_cert.value += 1
            info.transport_failure_reason = f"TLS_error:|{reason}:TLS_error_end"
            listener.log_refused(info, 0, "")

"""The client side of an HTTP/1 connection: one request at a time, bytes in, callbacks out."""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from meshlab.errors import ProtocolError
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import MessageReader, ResponseHead
from meshlab.proxy.core.retry import Reset
from meshlab.proxy.core.stream_info import PeerCertificate
from meshlab.proxy.net.original_dst import text
from meshlab.proxy.net.tls import peer_certificate

if TYPE_CHECKING:
    from meshlab.proxy.net.pool import HostPool


class Exchange(Protocol):
    """Whose request a connection carries."""

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx other than 101."""
        ...

    def on_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        """The head, and the first bytes of the body where they came with it."""
        ...

    def on_response_data(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        """More of the body."""
        ...

    def on_reset(self, reset: Reset, reason: str) -> None:
        """The response will not come, or not come to its end."""
        ...

    def on_upstream_full(self) -> None:
        """Send no more for now."""
        ...

    def on_upstream_free(self) -> None:
        """Send again."""
        ...


class UpstreamHttp1(asyncio.Protocol):
    """A pooled connection.

    Attributes:
        exchange: whose response is awaited; None: idle.
        tunnel: after 101 there are no messages any more, only bytes.
    """

    __slots__ = (
        "_keep_alive",
        "_method",
        "_pool",
        "_reader",
        "_request_done",
        "_requests",
        "_responding",
        "_started",
        "_transport",
        "certificate",
        "closed",
        "exchange",
        "last_used",
        "local_address",
        "own_certificate",
        "tls_version",
        "tunnel",
    )

    def __init__(self, pool: "HostPool") -> None:
        config = pool.cluster.config
        self._pool = pool
        self._reader = MessageReader(
            config.max_response_headers_bytes, config.max_response_headers_count
        )
        self._transport: asyncio.Transport | None = None
        self._method = b""
        self._request_done = False
        self._responding = False
        self._keep_alive = False
        self._requests = 0
        self._started = 0.0
        self.exchange: Exchange | None = None
        self.closed = False
        self.tunnel = False
        self.last_used = 0.0
        self.local_address = ""
        self.tls_version = ""
        self.certificate: PeerCertificate | None = None
        self.own_certificate: PeerCertificate | None = None

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = self._transport = cast("asyncio.Transport", base)
        self.local_address = text(transport.get_extra_info("sockname"))
        self._started = self.last_used = self._pool.cluster.runtime.now()
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.tls_version = tls.version() or ""
            self.certificate = peer_certificate(tls)
            self.own_certificate = self._pool.own_certificate()

    def send_head(self, exchange: Exchange, method: bytes, wire: bytes, *, end: bool) -> None:
        """Begin a request; `wire` is its head and what there is of its body, framed."""
        self.exchange = exchange
        self._method = method
        self._request_done = end
        self._responding = False
        self._requests += 1
        self._write(wire)

    def send(self, wire: bytes, *, end: bool) -> None:
        """Send more of the body, framed."""
        self._request_done = end
        if wire:
            self._write(wire)

    def _write(self, wire: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._pool.cluster.stats.cx_tx_bytes_total.value += len(wire)
            self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        stats = self._pool.cluster.stats
        stats.cx_rx_bytes_total.value += len(data)
        exchange = self.exchange
        if exchange is None:  # nobody asked: an early 408, or garbage
            self.close()
            return
        if self.tunnel:
            exchange.on_response_data(data, False, None)
            return
        self._reader.feed(data)
        try:
            self._read(exchange)
        except ProtocolError:
            stats.cx_protocol_error.value += 1
            self._fail(Reset.PROTOCOL_ERROR, "")

    def _read(self, exchange: Exchange) -> None:
        reader = self._reader
        if not self._responding:
            head = reader.next_response(self._method)
            while head is not None and head.status < 200 and head.status != 101:
                exchange.on_informational(head)
                if self.exchange is not exchange:
                    return
                head = reader.next_response(self._method)
            if head is None:
                return
            self._keep_alive = head.keep_alive
            if head.status == 101:
                self.tunnel = True
                data, reader.buffer = reader.buffer, b""
                exchange.on_response(head, data, False)
                return
            self._responding = True
            data = reader.take_body()
            end = reader.complete
            if end and reader.trailers is None:
                self._release()
                exchange.on_response(head, data, True)
                return
            exchange.on_response(head, data, False)
            if end and self.exchange is exchange:
                self._release()
                exchange.on_response_data(b"", True, reader.trailers)
            return
        data = reader.take_body()
        if reader.complete:
            trailers = reader.trailers
            self._release()
            exchange.on_response_data(data, True, trailers)
        elif data:
            exchange.on_response_data(data, False, None)

    def _release(self) -> None:
        """The response is complete: give the connection back, or close it."""
        self.exchange = None
        pool = self._pool
        pool.on_released()
        self.last_used = pool.cluster.runtime.now()
        most = pool.cluster.config.max_requests_per_connection
        if most and self._requests >= most:
            pool.cluster.stats.cx_max_requests.value += 1
            self.close()
        elif (
            self._keep_alive
            and self._request_done
            and not self._reader.buffer
            and not pool.draining
            and not self.closed
        ):
            pool.on_idle(self)
        else:
            self.close()

    def cancel(self) -> None:
        """The request is not wanted any more; HTTP/1 can say so only by closing."""
        if self.exchange is not None:
            self.exchange = None
            self._pool.on_released()
            self._pool.cluster.stats.rq_tx_reset.value += 1
            self._pool.cluster.stats.cx_destroy_local_with_active_rq.value += 1
        self.close(abort=True)

    def _fail(self, reset: Reset, reason: str) -> None:
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            self._pool.on_released()
            self.close(abort=True)
            exchange.on_reset(reset, reason)
        else:
            self.close(abort=True)

    def close(self, *, abort: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._transport.close()
        self._pool.on_closed(self)

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is not None and self.tunnel:
            self.exchange = None
            self._pool.on_released()
            self.close()
            exchange.on_response_data(b"", True, None)
        elif exchange is not None and self._responding:
            if self._reader.end():
                self._keep_alive = False
                self._release()
                exchange.on_response_data(b"", True, None)
            else:
                self._fail(Reset.PROTOCOL_ERROR, "")  # the body is shorter than announced
        return False

    def connection_lost(self, error: Exception | None) -> None:
        cluster = self._pool.cluster
        cluster.stats.cx_length_ms.record((cluster.runtime.now() - self._started) * 1000)
        exchange = self.exchange
        self.exchange = None
        was_closed = self.closed
        self.closed = True
        if exchange is not None:
            self._pool.on_released()
            cluster.stats.cx_destroy_remote_with_active_rq.value += 1
        if not was_closed:
            self._pool.on_closed(self)
        if exchange is not None:
            exchange.on_reset(Reset.TERMINATION, "")

    def pause_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.on_upstream_full()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.on_upstream_free()

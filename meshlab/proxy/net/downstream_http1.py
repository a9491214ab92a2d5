"""The server side of an HTTP/1 connection: requests one after the other, pipelined or not."""

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from meshlab.errors import ProtocolError
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.http1 import (
    REASONS,
    MessageReader,
    RequestHead,
    ResponseHead,
    encode_chunk,
    encode_last_chunk,
)
from meshlab.proxy.core.stream_info import DPE, ConnectionInfo, StreamInfo
from meshlab.proxy.net.clock import Timer
from meshlab.proxy.net.downstream import TUNNEL
from meshlab.proxy.net.manager import Manager
from meshlab.proxy.net.stream import Stream

if TYPE_CHECKING:
    from meshlab.proxy.net.listener import ActiveListener

log = logging.getLogger(__name__)

_STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, reason) for status, reason in REASONS.items()
}
_DRAIN_IDLE = 1.0
"""Seconds a draining connection is given for one more request, which learns that it is the last.
Closed at once it would meet requests already on their way."""
BROKEN_BODIES = {"request_header_timeout": b"request header timeout"}
"""Bodies that are not the status's reason, by detail."""
_PIPELINE_MAX = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""


class DownstreamHttp1(asyncio.Protocol):
    """A client's connection.

    Attributes:
        stream: the request under way; None: idle.
        last_used: when the last request ended.
    """

    __slots__ = (
        "_advancing",
        "_chunked_out",
        "_close_timer",
        "_closing",
        "_discarding",
        "_head",
        "_head_timer",
        "_keep_alive",
        "_listener",
        "_manager",
        "_paused",
        "_reader",
        "_request_open",
        "_requests",
        "_started",
        "_transport",
        "info",
        "last_used",
        "stream",
    )

    def __init__(self, listener: "ActiveListener", manager: Manager, info: ConnectionInfo) -> None:
        config = manager.config
        self._listener = listener
        self._manager = manager
        self._reader = MessageReader(
            config.max_request_headers_bytes,
            config.max_headers_count,
            accept_http_10=config.accept_http_10,
        )
        self._transport: asyncio.Transport | None = None
        self._head: RequestHead | None = None
        self._advancing = False
        self._request_open = False
        self._chunked_out = False
        self._keep_alive = True
        self._closing = False
        self._discarding = False
        self._paused = False
        self._requests = 0
        self._head_timer: Timer | None = None
        self._close_timer: Timer | None = None
        self._started = 0.0
        self.last_used = 0.0
        self.info = info
        self.stream: Stream | None = None

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = self._transport = cast("asyncio.Transport", base)
        self._started = self.last_used = self._manager.runtime.now()
        if not self._listener.admit(self, transport, self.info):
            self._closing = True
            transport.abort()
            return
        stats = self._manager.stats
        stats.cx_total.value += 1
        stats.cx_active.value += 1
        stats.cx_http1_total.value += 1
        stats.cx_http1_active.value += 1
        if self.info.tls_version:
            stats.cx_ssl_total.value += 1
            stats.cx_ssl_active.value += 1

    @property
    def manager(self) -> Manager:
        return self._manager

    @property
    def idle(self) -> bool:
        return self.stream is None and not self._closing and not self._reader.buffer

    def data_received(self, data: bytes) -> None:
        self._manager.stats.cx_rx_bytes_total.value += len(data)
        if self._discarding:
            return
        self._reader.feed(data)
        if not self._advancing:
            self._advance()

    def _advance(self) -> None:
        """Take from the buffer what can be taken: heads when idle, the body of a request."""
        self._advancing = True
        try:
            while not self._closing:
                if self.stream is None:
                    if not self._next_request():
                        return
                elif not self._request_open:
                    if len(self._reader.buffer) > _PIPELINE_MAX:
                        self.pause_reading()
                    return
                elif not self._next_data():
                    return
        except ProtocolError as error:
            self._on_protocol_error(error)
        finally:
            self._advancing = False

    def _next_request(self) -> bool:
        reader = self._reader
        if not reader.buffer:
            return False
        head = reader.next_request()
        manager = self._manager
        if head is None:
            timeout = manager.config.request_headers_timeout
            if timeout and self._head_timer is None and reader.buffer:
                self._head_timer = manager.runtime.timers.after(timeout, self._on_head_timeout)
            return False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._requests += 1
        self._head = head
        self._keep_alive = head.keep_alive
        self._request_open = not reader.complete
        most = manager.config.max_requests_per_connection
        if most and self._requests >= most:
            manager.stats.cx_max_requests_reached.value += 1
            self._keep_alive = False
        if manager.runtime.draining or self._listener.draining:
            if self._keep_alive:
                manager.stats.cx_drain_close.value += 1
            self._keep_alive = False
        stream = Stream(self, manager, head)
        self.stream = stream
        if head.expect_continue:
            self._continue(head)
        if head.upgrade:
            self._request_open = True
        stream.start(end=not self._request_open)
        return True

    def _continue(self, head: RequestHead) -> None:
        """Ask for the body ourselves, unless the server upstream shall decide."""
        if not self._manager.config.proxy_100_continue:
            head.headers.remove(b"expect")
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _next_data(self) -> bool:
        stream = self.stream
        reader = self._reader
        if stream is None or self._paused:
            return False
        if stream.tunnel:
            data, reader.buffer = reader.buffer, b""
            if data:
                stream.on_data(data, False, None)
            return False
        if stream.head.upgrade and reader.complete:
            # After the head of an upgrade nothing is taken until upstream has agreed.
            if len(reader.buffer) > _PIPELINE_MAX:
                self.pause_reading()
            return False
        data = reader.take_body()
        end = reader.complete
        if end:
            self._request_open = stream.head.upgrade != b""
        if data or end:
            stream.on_data(data, end and not stream.head.upgrade, reader.trailers)
        return end

    def _on_protocol_error(self, error: ProtocolError) -> None:
        """Answer what broke the protocol, and end the connection: where it goes on is unknown."""
        manager = self._manager
        manager.stats.cx_protocol_error.value += 1
        if error.status == 431:
            manager.stats.rq_too_large.value += 1
        self._keep_alive = False
        stream = self.stream
        if stream is not None:
            stream.info.flags |= DPE
            self._request_open = True
            if stream.response_started:
                stream.on_downstream_closed()
                self.abort()
                return
            stream.reply(error.status, REASONS.get(error.status, b""), error.detail)
            return
        self._answer_broken(error)

    def _answer_broken(self, error: ProtocolError) -> None:
        """Answer a head that could not be read; the log gets what is known."""
        manager = self._manager
        runtime = manager.runtime
        info = StreamInfo(self.info, runtime.wall(), runtime.now())
        if error.status != 408:
            info.flags |= DPE
        info.response_code = error.status
        info.response_code_details = error.detail
        info.protocol = "HTTP/1.1"
        info.end = runtime.now()
        manager.stats.rq_total.value += 1
        manager.stats.count_response(error.status)
        reason = REASONS.get(error.status, b"")
        body = BROKEN_BODIES.get(error.detail, reason)
        headers = Headers.of((b"content-length", b"%d" % len(body)))
        if body:
            headers.add(b"content-type", b"text/plain")
        headers.add(b"date", runtime.date(info.start_time))
        headers.add(b"server", manager.config.server_name)
        if manager.config.via:
            headers.add(b"via", manager.config.via)
        headers.add(b"connection", b"close")
        self._write(b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (error.status, reason, headers.wire(), body))
        info.bytes_sent = len(body)
        manager.log(info)
        self._close_gently()

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        self._manager.stats.rq_header_timeout.value += 1
        self._answer_broken(
            ProtocolError("head is late", status=408, detail="request_header_timeout")
        )

    # What a stream calls

    def close_after_response(self) -> None:
        self._keep_alive = False

    def send_informational(self, head: ResponseHead) -> None:
        self._write(
            b"HTTP/1.1 %d %b\r\n%b\r\n"
            % (head.status, REASONS.get(head.status, head.reason), head.headers.wire())
        )

    def send_response(
        self, status: int, reason: bytes, headers: Headers, length: int, data: bytes, end: bool
    ) -> None:
        head = self._head
        framing = b""
        self._chunked_out = False
        bodiless = status in (204, 304) or (head is not None and head.method == b"HEAD")
        if length < 0 and length != TUNNEL and not bodiless:
            if head is not None and head.minor:
                self._chunked_out = True
                framing = b"transfer-encoding: chunked\r\n"
            else:
                self._keep_alive = False  # HTTP/1.0: the body ends with the connection
        if length == TUNNEL:
            self._keep_alive = False
        elif self._request_open and end:
            # The client is still sending what nobody reads any more.
            self._keep_alive = False
        if not self._keep_alive and length != TUNNEL:
            framing += b"connection: close\r\n"
        elif head is not None and head.minor == 0:
            framing += b"connection: keep-alive\r\n"
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d %b\r\n" % (status, reason)
        wire = b"%b%b%b\r\n" % (line, headers.wire(), framing)
        if bodiless:
            data = b""
        if self._chunked_out:
            if data:
                wire += encode_chunk(data)
            if end:
                wire += b"0\r\n\r\n"
        else:
            wire += data
        self._write(wire)
        if length == TUNNEL and self._reader.buffer and not self._advancing:
            self._advance()

    def send_data(self, data: bytes, end: bool, trailers: Headers | None) -> None:
        if self._chunked_out:
            wire = encode_chunk(data) if data else b""
            if end:
                wire += encode_last_chunk(trailers)
            if wire:
                self._write(wire)
        elif data:
            self._write(data)

    def _write(self, wire: bytes) -> None:
        if self._transport is not None and not self._discarding:
            self._manager.stats.cx_tx_bytes_total.value += len(wire)
            self._transport.write(wire)

    def finished(self, stream: Stream) -> None:
        """The response is complete: go on with the next request, or close."""
        if stream is not self.stream:
            return
        self.stream = None
        self.last_used = self._manager.runtime.now()
        if stream.tunnel:
            self._close()
            return
        if not self._keep_alive or self._request_open:
            self._close_gently()
            return
        if self._paused:
            self.resume_reading()
        elif self._reader.buffer and not self._advancing:
            self._advance()

    def abort(self) -> None:
        self.stream = None
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def terminate(self) -> None:
        """End the connection and the request on it, now."""
        stream = self.stream
        self.abort()
        if stream is not None:
            stream.on_downstream_closed()

    def pause_reading(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
            if self._reader.buffer and not self._advancing:
                self._advance()

    # The connection's end

    def _close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def _close_gently(self) -> None:
        """Close so that the client can read the answer to its end.

        With bytes of the client unread the kernel would answer them with a reset, which may
        overtake the answer: so half close, and read until the client is done or time is up.
        """
        transport = self._transport
        if transport is None or self._closing:
            return
        if not self._request_open and not self._reader.buffer:
            self._close()
            return
        self._closing = True
        self._discarding = True
        seconds = self._manager.config.delayed_close_timeout
        if not seconds or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        if self._paused:
            self._paused = False
            transport.resume_reading()
        self._close_timer = self._manager.runtime.timers.after(seconds, transport.close)

    def close_if_expired(self, now: float) -> None:
        """End the connection when it has been idle, or open, for as long as it may."""
        config = self._manager.config
        if self._listener.draining and self.idle and now - self.last_used > _DRAIN_IDLE:
            self._close()
        elif config.idle_timeout and self.idle and now - self.last_used > config.idle_timeout:
            self._manager.stats.cx_idle_timeout.value += 1
            self._close()
        elif (
            config.max_connection_duration and now - self._started > config.max_connection_duration
        ):
            if self.idle:
                self._manager.stats.cx_max_duration_reached.value += 1
                self._close()
            self._keep_alive = False

    def eof_received(self) -> bool:
        stream = self.stream
        if stream is not None and stream.tunnel:
            stream.on_downstream_closed()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        for timer in (self._head_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        stream = self.stream
        manager = self._manager
        stats = manager.stats
        if self._listener.release(self):
            stats.cx_active.value -= 1
            stats.cx_http1_active.value -= 1
            stats.cx_destroy.value += 1
            stats.cx_length_ms.record((manager.runtime.now() - self._started) * 1000)
            if self.info.tls_version:
                stats.cx_ssl_active.value -= 1
        if stream is not None:
            stats.cx_destroy_remote_active_rq.value += 1
            self.stream = None
            stream.on_downstream_closed()

    def pause_writing(self) -> None:
        if self.stream is not None:
            self.stream.on_downstream_full()

    def resume_writing(self) -> None:
        if self.stream is not None:
            self.stream.on_downstream_free()

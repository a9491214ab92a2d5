"""Write access logs: lines to files, entries to access log services (ALS).

A finished request costs one call and one append; lines are made and written by a timer, the
writing itself in a thread, so that a full pipe never stops the proxy.
"""

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any as Anything

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.accesslog.v3.als_pb2 import (
    StreamAccessLogsMessage,
    StreamAccessLogsResponse,
)

from meshlab.proxy.config.bootstrap import GrpcSource
from meshlab.proxy.config.xds import open_channel
from meshlab.proxy.core.access_log import AccessLog, FileAccessLog, GrpcAccessLog, compile_log
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.core.stream_info import StreamInfo
from meshlab.proxy.net.task import spawn
from meshlab.proxy.telemetry.access_log_entry import http_entry, tcp_entry

log = logging.getLogger(__name__)

FLUSH_INTERVAL = 0.2
"""Seconds that a line waits at most."""
MAX_LINES = 100_000
"""Lines that wait for a file; more are dropped and counted."""
MAX_ENTRIES = 20_000
"""Entries that wait for a service; more are dropped and counted."""
ENTRY_BYTES = 512
"""About the size of an entry: `buffer_size_bytes` is turned into a number of entries with it."""
BATCH = 100
"""Entries that are made before other work of the loop gets its turn."""

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
"""Written by descriptor: opening the path fails where it is a socket."""


class FileWriter:
    """One thread that writes what is handed to it, file by file in order."""

    def __init__(self) -> None:
        self._chunks: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed: set[str] = set()

    def write(self, path: str, data: bytes) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
            self._thread.start()
        self._chunks.put((path, data))

    def close(self) -> None:
        """Write what is left; waits for at most a second."""
        if self._thread is not None:
            self._chunks.put(None)
            self._thread.join(timeout=1.0)
            self._thread = None

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            path, data = chunk
            try:
                append(path, data)
            except OSError as error:
                if path not in self._failed:
                    log.error("access log %s cannot be written: %s", path, error.strerror)
                self._failed.add(path)

    def waiting(self) -> int:
        return self._chunks.qsize()


def append(path: str, data: bytes) -> None:
    """Write to the end of a file, opened anew each time: a rotated file is left at once."""
    descriptor = STANDARD_STREAMS.get(path)
    if descriptor is None:
        with Path(path).open("ab") as file:
            file.write(data)
        return
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class AccessLogs:
    """Opens the logs that listeners ask for; one sink for each file and each service."""

    def __init__(
        self, node: Node, stats: StatRegistry, grpc_source: Callable[[str], GrpcSource]
    ) -> None:
        """Prepare; `grpc_source` finds the address of a static cluster by name."""
        self._node = node
        self._stats = stats
        self._grpc_source = grpc_source
        self._writer = FileWriter()
        self._lines: dict[str, list[str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._services: dict[tuple[str, str, str], GrpcLog] = {}
        self._dropped = stats.counter("filesystem.write_failed")
        self._written = stats.counter("filesystem.write_completed")

    def open(self, config: AccessLog) -> Callable[[StreamInfo], None]:
        """Return what takes finished requests and connections.

        Raises:
            ConfigError: the format does not compile.
        """
        if isinstance(config, FileAccessLog):
            return self._open_file(config)
        return self._open_service(config)

    def _open_file(self, config: FileAccessLog) -> Callable[[StreamInfo], None]:
        render = compile_log(config)
        lines = self._lines.setdefault(config.path, [])
        loop = asyncio.get_running_loop()

        def take(info: StreamInfo) -> None:
            if len(lines) >= MAX_LINES:
                self._dropped.value += 1
                return
            lines.append(render(info))
            if self._timer is None:
                self._timer = loop.call_later(FLUSH_INTERVAL, self.flush)

        return take

    def _open_service(self, config: GrpcAccessLog) -> Callable[[StreamInfo], None]:
        key = (config.cluster, config.log_name, config.kind)
        service = self._services.get(key)
        if service is None:
            source = self._grpc_source(config.cluster)
            service = self._services[key] = GrpcLog(config, source, self._node, self._stats)
        return service.opener(config)

    def flush(self) -> None:
        """Hand the lines to the writer; they wait on while it is far behind."""
        self._timer = None
        if self._writer.waiting() > 50:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self.flush)
            return
        for path, lines in self._lines.items():
            if lines:
                self._writer.write(path, "".join(lines).encode("utf-8", "replace"))
                self._written.value += 1
                lines.clear()

    async def close(self) -> None:
        """Write and send what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self.flush()
        self._writer.close()
        for service in self._services.values():
            await service.close()


class GrpcLog:
    """One stream to one service, opened at the first entry and again when it breaks."""

    def __init__(
        self, config: GrpcAccessLog, source: GrpcSource, node: Node, stats: StatRegistry
    ) -> None:
        self._kind = config.kind
        self._source = source
        self._identifier = StreamAccessLogsMessage.Identifier(node=node, log_name=config.log_name)
        self._interval = config.buffer_flush_interval
        self._enough = max(config.buffer_size_bytes // ENTRY_BYTES, 1)
        self._entries: list[tuple[StreamInfo, GrpcAccessLog]] = []
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._written = stats.counter("access_logs.grpc_access_log.logs_written")
        self._dropped = stats.counter("access_logs.grpc_access_log.logs_dropped")

    def opener(self, config: GrpcAccessLog) -> Callable[[StreamInfo], None]:
        """Return what takes entries with the headers and keys that `config` asks for."""
        entries, wake, enough = self._entries, self._wake, self._enough
        loop = asyncio.get_running_loop()

        def take(info: StreamInfo) -> None:
            if len(entries) >= MAX_ENTRIES:
                self._dropped.value += 1
                return
            entries.append((info, config))
            if len(entries) >= enough:
                wake.set()
            elif self._timer is None:
                self._timer = loop.call_later(self._interval, self._flush)
            if self._task is None:
                self._task = spawn(self._run(), f"access log to {self._source.cluster_name}")

        return take

    def _flush(self) -> None:
        self._timer = None
        self._wake.set()

    async def close(self) -> None:
        """Send what waits; gives up after two seconds."""
        if self._task is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task], timeout=2.0)
        self._task.cancel()

    async def _run(self) -> None:
        delay = self._source.base_interval
        while not (self._closing and not self._entries):
            try:
                await self._stream()
                delay = self._source.base_interval
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else "ended"
                log.warning(
                    "access log stream to %s: %s; next try in %.1f s",
                    self._source.cluster_name,
                    reason,
                    delay,
                )
                await asyncio.sleep(delay)
                delay = min(2 * delay, self._source.max_interval)

    async def _stream(self) -> None:
        async with open_channel(self._source) as channel:
            call = channel.stream_unary(
                METHOD,
                request_serializer=StreamAccessLogsMessage.SerializeToString,
                response_deserializer=StreamAccessLogsResponse.FromString,
            )(metadata=self._source.metadata)
            first = True
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._entries:
                    batch = self._entries[:BATCH]
                    message = self._message(batch)
                    if first:
                        message.identifier.CopyFrom(self._identifier)
                        first = False
                    await call.write(message)
                    del self._entries[: len(batch)]
                    self._written.value += len(batch)
                if self._closing:
                    await call.done_writing()
                    return

    def _message(self, batch: list[tuple[StreamInfo, GrpcAccessLog]]) -> Anything:
        message = StreamAccessLogsMessage()
        if self._kind == "http":
            message.http_logs.log_entry.extend(http_entry(info, config) for info, config in batch)
        else:
            message.tcp_logs.log_entry.extend(tcp_entry(info, config) for info, config in batch)
        return message

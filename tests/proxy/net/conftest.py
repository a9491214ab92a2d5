"""A worker on loopback with scripted servers behind it and a raw client before it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import uvloop

from meshlab.proxy.core.access_log import FileAccessLog
from meshlab.proxy.core.cluster import Cluster, Endpoint, LoadAssignment, LocalityEndpoints
from meshlab.proxy.core.filter_chain import FilterChain
from meshlab.proxy.core.http_connection_manager import HttpConnectionManager, HttpFilter, Router
from meshlab.proxy.core.listener import Address, Listener
from meshlab.proxy.core.route import (
    PathMatch,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from meshlab.proxy.core.snapshot import Node, Snapshot
from meshlab.proxy.core.stream_info import StreamInfo
from meshlab.proxy.worker import Worker

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    block = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = block[:-4].split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return first, headers


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        while (await reader.readline()).strip():
            pass
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))


class Client:
    """One connection; requests and answers as they stand on the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self, *, head: bool = False) -> Answer:
        first, headers = await read_head(self.reader)
        status = int(first.split()[1])
        if head or status in (101, 100, 204, 304):
            return Answer(status, headers, b"")
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return Answer(status, headers, await self.reader.read())
        return Answer(status, headers, await read_body(self.reader, headers))

    async def request(self, wire: bytes, *, head: bool = False) -> Answer:
        self.writer.write(wire)
        return await self.answer(head=head)

    async def get(self, path: str = "/", host: str = "web", **headers: str) -> Answer:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return await self.request(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n".encode())


@dataclass
class Harness:
    """Builders with Envoy's defaults and nothing hidden but names."""

    logs: list[StreamInfo] = field(default_factory=list)
    worker: Worker | None = None
    servers: list[asyncio.Server] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def server(self, handler: Handler, **options: Any) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            try:
                await handler(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
        self.servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def web(
        self,
        name: str = "web",
        answer: Callable[[int, str, dict[str, str]], bytes | None] | None = None,
        **options: Any,
    ) -> int:
        """A server that notes requests; `answer(count, request line, headers)` gives the wire."""
        count = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            try:
                while True:
                    first, headers = await read_head(reader)
                    body = await read_body(reader, headers)
                    self.seen.append((name, first, headers, body))
                    count += 1
                    text = name.encode()
                    wire: bytes | None = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (
                        len(text),
                        text,
                    )
                    if answer is not None:
                        wire = answer(count, first, headers)
                    if wire is None:
                        break
                    writer.write(wire)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        return await self.server(handle, **options)

    def cluster(self, *ports: int, name: str = "web", **settings: Any) -> Cluster:
        return Cluster(
            name=name,
            load_assignment=LoadAssignment(
                cluster_name=name,
                localities=(
                    LocalityEndpoints(
                        endpoints=tuple(
                            Endpoint(address=Address("127.0.0.1", port)) for port in ports
                        )
                    ),
                ),
            ),
            **settings,
        )

    def route(self, action: Any = None, *, prefix: bytes = b"/", **settings: Any) -> Route:
        return Route(
            match=RouteMatch(path=PathMatch(kind="prefix", value=prefix)),
            action=action or RouteAction(cluster="web"),
            **settings,
        )

    def routes(self, *routes: Route, **host_settings: Any) -> RouteConfiguration:
        return RouteConfiguration(
            name="routes",
            virtual_hosts=(
                VirtualHost(name="all", domains=(b"*",), routes=routes, **host_settings),
            ),
        )

    def manager(
        self, *, filters: tuple[HttpFilter, ...] = (), **settings: Any
    ) -> HttpConnectionManager:
        settings.setdefault("rds_name", "routes")
        return HttpConnectionManager(
            stat_prefix="test",
            http_filters=(*filters, Router()),
            access_logs=(FileAccessLog(path="test"),),
            **settings,
        )

    def listener(self, *chains: FilterChain, name: str = "http", **settings: Any) -> Listener:
        return Listener(
            name=name,
            address=Address("127.0.0.1", 0),
            filter_chains=chains or (FilterChain(terminal=self.manager()),),
            **settings,
        )

    async def start(
        self,
        *clusters: Cluster,
        routes: RouteConfiguration | None = None,
        listeners: tuple[Listener, ...] = (),
        node: Node | None = None,
        **parts: Any,
    ) -> Worker:
        self.worker = Worker(
            node=node or Node(id="test"), access_log=lambda _: self.logs.append, seed=1
        )
        await self.worker.apply(
            Snapshot(
                listeners={one.name: one for one in listeners or (self.listener(),)},
                clusters={one.name: one for one in clusters},
                routes={"routes": routes or self.routes(self.route())},
                **parts,
            )
        )
        return self.worker

    async def change(self, **parts: Any) -> None:
        worker = self.running
        await worker.apply(replace(worker.snapshot, **parts))

    @property
    def running(self) -> Worker:
        assert self.worker is not None
        return self.worker

    def port(self, listener: str = "http") -> int:
        return int(self.running.listeners[listener].local_addresses[0].rpartition(":")[2])

    def counter(self, name: str) -> int:
        return self.running.stats.counters[name, ()].value

    def gauge(self, name: str) -> int:
        return self.running.stats.gauges[name, ()].value

    @asynccontextmanager
    async def client(
        self, listener: str = "http", tls: ssl.SSLContext | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port(listener), ssl=tls, **options
        )
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def get(self, path: str = "/", host: str = "web", **headers: str) -> Answer:
        async with self.client() as client:
            return await client.get(path, host, **headers)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - counters have no event to wait for
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        if self.worker is not None:
            await self.worker.close()
        for server in self.servers:
            server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


Run = Callable[[Callable[[Harness], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run() -> Run:
    """Run `test(harness)` in a uvloop of its own, at most for 20 s."""

    def execute(test: Callable[[Harness], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            harness = Harness()
            try:
                async with asyncio.timeout(20):
                    await test(harness)
            finally:
                await harness.close()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    return execute

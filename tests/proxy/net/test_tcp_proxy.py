import asyncio

import pytest

from meshlab.proxy.core.access_log import FileAccessLog
from meshlab.proxy.core.circuit_breaker import CircuitBreakers, Thresholds
from meshlab.proxy.core.filter_chain import FilterChain
from meshlab.proxy.core.http_connection_manager import IstioStats
from meshlab.proxy.core.stream_info import flag_names
from meshlab.proxy.core.tcp_proxy import TcpProxy


def tcp(h, *, filters=(), **settings):
    settings.setdefault("cluster", "web")
    proxy = TcpProxy(stat_prefix="t", access_logs=(FileAccessLog(path="t"),), **settings)
    return (h.listener(FilterChain(terminal=proxy, filters=filters)),)


def test_bytes_both_ways_with_half_close(run):
    async def test(h):
        async def total(reader, writer):
            data = await reader.read()  # answers only when the client has finished
            writer.write(b"%d" % len(data))

        port = await h.server(total)
        await h.start(
            h.cluster(port),
            listeners=tcp(h, filters=(IstioStats(reporter="source"),)),
        )
        async with h.client() as client:
            client.writer.write(b"x" * 1_000_000)
            client.writer.write_eof()
            assert await client.reader.read() == b"1000000"
        await h.until(lambda: bool(h.logs))
        [info] = h.logs
        assert (info.bytes_received, info.bytes_sent) == (1_000_000, 7)
        assert (info.upstream_host, info.upstream_cluster) == (f"127.0.0.1:{port}", "web")
        assert flag_names(info.flags) == "-"
        counted = {
            name: counter.value
            for (name, _), counter in h.running.stats.counters.items()
            if name.startswith("istio_tcp")
        }
        assert counted == {
            "istio_tcp_connections_opened_total": 1,
            "istio_tcp_connections_closed_total": 1,
            "istio_tcp_received_bytes_total": 1_000_000,
            "istio_tcp_sent_bytes_total": 7,
        }
        assert h.gauge("cluster.web.upstream_cx_active") == 0

    run(test)


def test_server_speaks_first(run):
    async def test(h):
        async def hello(reader, writer):
            writer.write(b"220 hello")
            await reader.read()

        await h.start(h.cluster(await h.server(hello)), listeners=tcp(h))
        async with h.client() as client:
            assert await client.reader.read(100) == b"220 hello"

    run(test)


@pytest.mark.parametrize("case", ["refused", "no cluster", "no host", "overflow"])
def test_connection_without_upstream(run, case):
    async def test(h):
        port = await h.web()
        if case == "refused":
            h.servers.pop().close()
        limits = CircuitBreakers(
            default=Thresholds(max_connections=0 if case == "overflow" else 1024)
        )
        cluster = h.cluster(*([] if case == "no host" else [port]), circuit_breakers=limits)
        await h.start(
            *([] if case == "no cluster" else [cluster]), listeners=tcp(h, max_connect_attempts=2)
        )
        async with h.client() as client:
            assert await client.reader.read() == b""
        await h.until(lambda: bool(h.logs))
        flags = {"refused": "UF,URX", "no cluster": "NC", "no host": "UH", "overflow": "UO"}
        assert flag_names(h.logs[0].flags) == flags[case]
        assert h.logs[0].attempt_count == {"refused": 2, "no cluster": 0}.get(case, 1)

    run(test)


def test_idle_timeout(run):
    async def test(h):
        async def silent(reader, writer):
            await reader.read()

        await h.start(h.cluster(await h.server(silent)), listeners=tcp(h, idle_timeout=0.1))
        async with h.client() as client:
            client.writer.write(b"x")
            assert await client.reader.read() == b""
        assert h.counter("tcp.t.idle_timeout") == 1

    run(test)


def test_slow_reader_pauses_the_server(run):
    async def test(h):
        sent = 0

        async def flood(reader, writer):
            nonlocal sent
            try:
                while sent < 300_000_000:
                    writer.write(b"x" * 100_000)
                    await writer.drain()
                    sent += 100_000
            except (ConnectionError, RuntimeError):  # uvloop's word for a closed transport
                pass

        await h.start(h.cluster(await h.server(flood)), listeners=tcp(h))
        async with h.client(limit=1024) as client:
            await client.reader.read(10)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert 0 < sent < 100_000_000

    run(test)

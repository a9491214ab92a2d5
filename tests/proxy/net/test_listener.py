import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from meshlab.errors import ConfigError
from meshlab.proxy.core.access_log import FileAccessLog
from meshlab.proxy.core.filter_chain import FilterChain, FilterChainMatch
from meshlab.proxy.core.listener import Address, Inspector
from meshlab.proxy.core.route import DirectResponse
from meshlab.proxy.core.stream_info import flag_names
from meshlab.proxy.core.tcp_proxy import TcpProxy
from meshlab.proxy.net.original_dst import original_dst, text


def answers(h, word, match=None):
    """A chain that answers with a word."""
    routes = replace(h.routes(h.route(DirectResponse(status=200, body=word))), name=word.decode())
    return FilterChain(
        name=word.decode(),
        match=match or FilterChainMatch(),
        terminal=h.manager(rds_name="", route_config=routes),
    )


def test_http_inspector_tells_http_from_the_rest(run):
    async def test(h):
        async def echo(reader, writer):
            writer.write(await reader.read(100))

        await h.start(
            h.cluster(await h.server(echo)),
            listeners=(
                h.listener(
                    answers(h, b"http", FilterChainMatch(application_protocols=("http/1.1",))),
                    FilterChain(terminal=TcpProxy(stat_prefix="t", cluster="web")),
                    http_inspector=Inspector(),
                ),
            ),
        )
        assert (await h.get()).body == b"http"
        async with h.client() as client:
            client.writer.write(b"\0\1binary")
            assert await client.reader.read(100) == b"\0\1binary"

    run(test)


@pytest.mark.parametrize("goes_on", [True, False])
def test_silent_client_and_the_listener_filters_timeout(run, goes_on):
    async def test(h):
        async def speaks_first(reader, writer):
            writer.write(b"220 hello")
            await reader.read()

        await h.start(
            h.cluster(await h.server(speaks_first)),
            listeners=(
                h.listener(
                    FilterChain(terminal=TcpProxy(stat_prefix="t", cluster="web")),
                    http_inspector=Inspector(),
                    listener_filters_timeout=0.05,
                    continue_on_listener_filters_timeout=goes_on,
                ),
            ),
        )
        async with h.client() as client:
            assert await client.reader.read(100) == (b"220 hello" if goes_on else b"")
        assert h.counter("listener.127.0.0.1_0.downstream_pre_cx_timeout") == 1

    run(test)


def test_client_that_ends_before_it_said_enough(run):
    async def test(h):
        await h.start(listeners=(h.listener(answers(h, b"x"), http_inspector=Inspector()),))
        async with h.client() as client:
            client.writer.write(b"GET")
            client.writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                assert await client.reader.read() == b""
        await h.until(lambda: h.gauge("listener.127.0.0.1_0.downstream_pre_cx_active") == 0)

    run(test)


def test_no_chain_closes_and_logs(run):
    async def test(h):
        await h.start(
            listeners=(
                h.listener(
                    answers(h, b"x", FilterChainMatch(destination_port=1)),
                    access_logs=(FileAccessLog(path="listener"),),
                ),
            )
        )
        async with h.client() as client:
            assert await client.reader.read() == b""
        assert h.counter("listener.127.0.0.1_0.no_filter_chain_match") == 1
        assert flag_names(h.logs[0].flags) == "NR"

    run(test)


def test_listener_chosen_by_original_destination(run):
    """Without REDIRECT the original destination is the socket's own address."""

    async def test(h):
        with socket.create_server(("0.0.0.0", 0)) as probe:
            port = probe.getsockname()[1]
        virtual = replace(
            h.listener(answers(h, b"own"), name="virtual"),
            address=Address("0.0.0.0", port),
            use_original_dst=True,
        )
        exact = replace(
            h.listener(answers(h, b"exact"), name="exact"),
            address=Address("127.0.0.3", port),
            bind_to_port=False,
        )
        await h.start(listeners=(virtual, exact))

        async def ask(ip):
            reader, writer = await asyncio.open_connection(ip, port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            body = (await reader.read()).rpartition(b"\r\n\r\n")[2]
            writer.close()
            return body

        assert await ask("127.0.0.3") == b"exact"
        assert await ask("127.0.0.2") == b"own"

    run(test)


def test_address_in_use_changes_nothing(run):
    async def test(h):
        await h.start(h.cluster(await h.web()))
        before = h.running.snapshot
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bad = replace(
                h.listener(name="bad"), address=Address("127.0.0.1", taken.getsockname()[1])
            )
            with pytest.raises(ConfigError) as caught:
                await h.change(listeners={**before.listeners, "bad": bad}, clusters={})
        assert caught.value.object == "Listener bad"
        assert h.running.snapshot is before
        assert (await h.get()).status == 200

    run(test)


def test_changed_listener_keeps_its_socket(run):
    async def test(h):
        await h.start(listeners=(h.listener(answers(h, b"old")),))
        port = h.port()
        async with h.client() as kept:
            assert (await kept.get()).body == b"old"
            await h.change(listeners={"http": h.listener(answers(h, b"new"))})
            assert h.port() == port
            assert (await h.get()).body == b"new"

    run(test)


def test_drain(run):
    async def test(h):
        await h.start(h.cluster(await h.web()))
        async with h.client() as idle, h.client() as busy:
            await idle.get()
            busy.writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n")
            await h.until(lambda: h.counter("http.test.downstream_cx_rx_bytes_total") > 50)
            draining = asyncio.create_task(h.running.drain(5))
            assert await idle.reader.read() == b""
            answer = await busy.request(b"\r\n")
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            port = h.port()
            await draining
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)

    run(test)


def test_idle_connection_is_closed(run):
    async def test(h):
        chain = FilterChain(terminal=h.manager(idle_timeout=0.1))
        await h.start(h.cluster(await h.web()), listeners=(h.listener(chain),))
        async with h.client() as client:
            await client.get()
            assert await client.reader.read() == b""
        assert h.counter("http.test.downstream_cx_idle_timeout") == 1

    run(test)


def test_unix_socket(run, tmp_path):
    async def test(h):
        path = str(tmp_path / "socket")
        listener = replace(
            h.listener(answers(h, b"unix")), address=Address("", path=path), pipe_mode=0o600
        )
        await h.start(listeners=(listener,))
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\nunix")
        writer.close()

    run(test)


@pytest.mark.root
def test_original_destination_of_a_redirected_connection():
    """In a network namespace of its own, a REDIRECT rule as the sidecar's."""
    script = (
        "ip link set lo up && nft 'table ip t { chain o { type nat hook output priority -100;"
        " tcp dport 81 redirect to :15001; }; }'"
        ' && exec "$0" -c \''
        "import socket; from meshlab.proxy.net.original_dst import original_dst\n"
        'server = socket.create_server(("0.0.0.0", 15001))\n'
        'client = socket.create_connection(("127.0.0.1", 81))\n'
        "accepted, _ = server.accept()\n"
        "print(original_dst(accepted))'"
    )
    if not shutil.which("nft") or not shutil.which("unshare"):
        pytest.skip("no nft or unshare")
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.stdout.strip() == "('127.0.0.1', 81)", done.stderr


def test_plain_connection_has_no_original_destination():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        server.accept()[0] as accepted,
    ):
        assert original_dst(accepted) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("::ffff:10.0.0.1", 80, 0, 0), "10.0.0.1:80"),
        ("/run/x", "/run/x"),
    ],
)
def test_text(name, shown):
    assert text(name) == shown

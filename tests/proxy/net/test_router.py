import asyncio
from dataclasses import replace

import pytest

from meshlab.proxy.core.circuit_breaker import CircuitBreakers, Thresholds
from meshlab.proxy.core.fault import Fault
from meshlab.proxy.core.filter_chain import FilterChain
from meshlab.proxy.core.header_mutation import HeaderMutation, HeaderValue
from meshlab.proxy.core.matcher import Fraction
from meshlab.proxy.core.outlier_detection import OutlierDetection
from meshlab.proxy.core.retry import RetryPolicy
from meshlab.proxy.core.route import DirectResponse, Redirect, RouteAction
from meshlab.proxy.core.stream_info import flag_names
from meshlab.proxy.core.weighted_cluster import WeightedCluster


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(b"%b\r\n" % header for header in headers)
    return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n%b" % (lines, len(body), body)


def status(code: int) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % code


def test_request_and_response_pass(run):
    async def test(h):
        port = await h.web()
        await h.start(h.cluster(port))
        answer = await h.get("/a?b=1", x_custom="1")
        assert (answer.status, answer.body) == (200, b"web")
        assert answer.headers["server"] == "envoy"
        assert "x-envoy-upstream-service-time" in answer.headers
        [(_, first, headers, _)] = h.seen
        assert first == "GET /a?b=1 HTTP/1.1"
        assert headers.pop("x-request-id")
        assert headers == {
            "host": "web",
            "x-custom": "1",
            "x-forwarded-proto": "http",
            "x-envoy-expected-rq-timeout-ms": "15000",
        }
        [info] = h.logs
        assert (info.response_code, info.response_code_details) == (200, "via_upstream")
        assert info.upstream_host == f"127.0.0.1:{port}"
        assert h.counter("cluster.web.upstream_rq_200") == 1
        assert h.counter("http.test.downstream_rq_2xx") == 1
        assert h.gauge("cluster.web.upstream_rq_active") == 0

    run(test)


def test_connections_are_reused(run):
    async def test(h):
        await h.start(h.cluster(await h.web()))
        async with h.client() as client:
            for _ in range(5):
                assert (await client.get()).status == 200
        assert h.counter("cluster.web.upstream_cx_total") == 1
        assert h.counter("cluster.web.upstream_rq_total") == 5

    run(test)


def test_max_requests_per_connection(run):
    async def test(h):
        await h.start(h.cluster(await h.web(), max_requests_per_connection=2))
        async with h.client() as client:
            for _ in range(4):
                assert (await client.get()).status == 200
        assert h.counter("cluster.web.upstream_cx_total") == 2
        assert h.counter("cluster.web.upstream_cx_max_requests") == 2

    run(test)


def test_pipelined_requests_are_answered_in_order(run):
    async def test(h):
        await h.start(h.cluster(await h.web(answer=lambda n, first, _: ok(first.encode()))))
        async with h.client() as client:
            client.writer.write(
                b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(20))
            )
            for n in range(20):
                assert (await client.answer()).body == b"GET /%d HTTP/1.1" % n

    run(test)


def test_bodies_both_ways(run):
    async def test(h):
        big = bytes(range(256)) * 4096

        def answer(n, first, headers):
            if "chunked" in headers.get("transfer-encoding", ""):
                return (
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                    b"%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)
                )
            return ok(big)

        await h.start(h.cluster(await h.web(answer=answer)))
        async with h.client() as client:
            by_length = await client.request(
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(big), big)
            )
            chunked = await client.request(
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                b"3\r\nabc\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)
            )
        assert by_length.body == big
        assert chunked.body == big
        assert [body for *_, body in h.seen] == [big, b"abc" + big]
        assert [info.bytes_sent for info in h.logs] == [len(big)] * 2
        assert [info.bytes_received for info in h.logs] == [len(big), len(big) + 3]

    run(test)


def test_trailers_pass_where_enabled(run):
    async def test(h):
        async def server(reader, writer):
            await reader.readuntil(b"0\r\nx-sent: 1\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                b"1\r\na\r\n0\r\nx-t: 2\r\n\r\n"
            )

        await h.start(
            h.cluster(await h.server(server), enable_trailers=True),
            listeners=(h.listener(h_chain(h, enable_trailers=True)),),
        )
        async with h.client() as client:
            client.writer.write(
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                b"1\r\nb\r\n0\r\nx-sent: 1\r\n\r\n"
            )
            wire = await client.reader.readuntil(b"0\r\nx-t: 2\r\n\r\n")
        assert wire.endswith(b"\r\n\r\n1\r\na\r\n0\r\nx-t: 2\r\n\r\n")

    run(test)


def h_chain(h, **settings):
    return FilterChain(terminal=h.manager(**settings))


def test_head_has_no_body(run):
    async def test(h):
        await h.start(
            h.cluster(
                await h.web(answer=lambda *_: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
            )
        )
        async with h.client() as client:
            for _ in range(2):
                answer = await client.request(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", head=True)
                assert (answer.status, answer.headers["content-length"]) == (200, "9")
        assert h.counter("cluster.web.upstream_cx_total") == 1

    run(test)


@pytest.mark.parametrize("proxied", [True, False])
def test_100_continue(run, proxied):
    async def test(h):
        async def server(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"expect:" in head:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(3)
            writer.write(ok(body + (b" expected" if b"expect:" in head else b"")))

        await h.start(
            h.cluster(await h.server(server)),
            listeners=(h.listener(h_chain(h, proxy_100_continue=proxied)),),
        )
        async with h.client() as client:
            first = await client.request(
                b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
            )
            assert first.status == 100
            answer = await client.request(b"abc")
        assert answer.body == (b"abc expected" if proxied else b"abc")

    run(test)


def test_upgrade_becomes_bytes(run):
    async def test(h):
        async def server(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"upgrade: websocket\r\n" in head
            assert b"connection: upgrade\r\n" in head
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
                b"connection: upgrade\r\n\r\nhello"
            )
            while data := await reader.read(100):
                writer.write(data.upper())
            writer.close()

        await h.start(
            h.cluster(await h.server(server)),
            listeners=(h.listener(h_chain(h, upgrades={b"websocket": True})),),
        )
        async with h.client() as client:
            answer = await client.request(
                b"GET /ws HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            assert (answer.status, answer.headers["upgrade"]) == (101, "websocket")
            assert await client.reader.readexactly(5) == b"hello"
            client.writer.write(b"abc")
            assert await client.reader.readexactly(3) == b"ABC"
        await h.until(lambda: bool(h.logs))
        assert h.gauge("http.test.downstream_cx_upgrades_active") == 0

    run(test)


def test_upgrade_not_allowed(run):
    async def test(h):
        await h.start(h.cluster(await h.web()))
        async with h.client() as client:
            answer = await client.request(
                b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            )
        assert (answer.status, h.logs[0].response_code_details) == (403, "upgrade_failed")

    run(test)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n", 426, id="HTTP/1.0 not accepted"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n", 400, id="bare LF"),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n"
            b"transfer-encoding: chunked\r\n\r\n",
            400,
            id="both lengths",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70000, 431, id="too large"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 404, id="CONNECT"),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
            id="bad chunk size",
        ),
    ],
)
def test_refused_requests(run, wire, code):
    async def test(h):
        await h.start(h.cluster(await h.web()))
        async with h.client() as client:
            answer = await client.request(wire)
            assert answer.status == code
            assert answer.headers["connection"] == "close"
        assert h.logs[0].response_code == code
        assert h.gauge("cluster.web.upstream_rq_active") == 0

    run(test)


def test_answers_without_upstream(run):
    async def test(h):
        await h.start(
            h.cluster(),
            routes=h.routes(
                h.route(DirectResponse(status=418, body=b"tea"), prefix=b"/tea"),
                h.route(Redirect(prefix_rewrite=b"/new", response_code=302), prefix=b"/old"),
                h.route(RouteAction(cluster="nowhere"), prefix=b"/nowhere"),
                h.route(prefix=b"/empty"),
            ),
        )
        tea = await h.get("/tea")
        assert (tea.status, tea.body, tea.headers["content-type"]) == (418, b"tea", "text/plain")
        old = await h.get("/old/a?b=c", host="a.test:8080")
        assert (old.status, old.headers["location"]) == (302, "http://a.test:8080/new/a?b=c")
        assert (await h.get("/missing")).status == 404
        assert (await h.get("/nowhere")).status == 503
        empty = await h.get("/empty")
        assert (empty.status, empty.body) == (503, b"no healthy upstream")
        assert [(flag_names(i.flags), i.response_code_details) for i in h.logs] == [
            ("-", "direct_response"),
            ("-", "direct_response"),
            ("NR", "route_not_found"),
            ("NC", "cluster_not_found"),
            ("UH", "no_healthy_upstream"),
        ]

    run(test)


def test_rewrites_and_header_mutations(run):
    async def test(h):
        await h.start(
            h.cluster(await h.web(answer=lambda *_: ok(b"", b"x-old: 1", b"set: a"))),
            routes=h.routes(
                h.route(
                    RouteAction(cluster="web", prefix_rewrite=b"/in", host_rewrite=b"inner"),
                    prefix=b"/out",
                    request_headers=HeaderMutation(
                        remove=(b"x-drop",),
                        add=(
                            HeaderValue(
                                name=b"x-from", value="%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
                            ),
                        ),
                    ),
                    response_headers=HeaderMutation(
                        remove=(b"x-old",),
                        add=(
                            HeaderValue(
                                name=b"set", value="b", action="overwrite_if_exists_or_add"
                            ),
                        ),
                    ),
                ),
                include_request_attempt_count=True,
            ),
        )
        answer = await h.get("/out/a?q", x_drop="1")
        assert "x-old" not in answer.headers
        assert answer.headers["set"] == "b"
        [(_, first, headers, _)] = h.seen
        assert first == "GET /in/a?q HTTP/1.1"
        assert {name: headers.get(name) for name in ("host", "x-from", "x-drop")} == {
            "host": "inner",
            "x-from": "127.0.0.1",
            "x-drop": None,
        }
        assert headers["x-envoy-original-path"] == "/out/a?q"
        assert headers["x-envoy-attempt-count"] == "1"

    run(test)


def test_retry_until_success(run):
    async def test(h):
        def answer(n, *_):
            return status(502) if n < 3 else ok(b"done")

        policy = RetryPolicy(
            retry_on=frozenset({"gateway-error"}), num_retries=5, base_interval=0.001
        )
        await h.start(
            h.cluster(await h.web(answer=answer)),
            routes=h.routes(
                h.route(RouteAction(cluster="web", retry=policy)),
                include_request_attempt_count=True,
            ),
        )
        async with h.client() as client:
            done = await client.request(
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
            )
        assert done.body == b"done"
        assert [body for *_, body in h.seen] == [b"abc"] * 3
        assert [headers["x-envoy-attempt-count"] for _, _, headers, _ in h.seen] == ["1", "2", "3"]
        assert h.counter("cluster.web.upstream_rq_retry") == 2
        assert h.counter("cluster.web.upstream_rq_retry_success") == 1
        assert h.gauge("cluster.web.circuit_breakers.default.rq_retry_open") == 0
        assert h.logs[0].attempt_count == 3
        assert flag_names(h.logs[0].flags) == "-"

    run(test)


def test_retry_limit_and_previous_hosts(run):
    async def test(h):
        ports = [await h.web(str(n), answer=lambda *_: status(503)) for n in range(3)]
        policy = RetryPolicy(
            retry_on=frozenset({"5xx"}),
            num_retries=2,
            base_interval=0.001,
            previous_hosts=True,
            host_selection_attempts=50,
        )
        await h.start(
            h.cluster(*ports, lb_policy="random"),
            routes=h.routes(h.route(RouteAction(cluster="web", retry=policy))),
        )
        answer = await h.get()
        assert answer.status == 503
        assert sorted(name for name, *_ in h.seen) == ["0", "1", "2"]
        assert flag_names(h.logs[0].flags) == "URX"
        assert h.counter("cluster.web.upstream_rq_retry_limit_exceeded") == 1

    run(test)


def test_connection_that_ends_without_an_answer(run):
    async def test(h):
        await h.start(h.cluster(await h.web(answer=lambda *_: None)))
        answer = await h.get()
        assert answer.status == 503
        assert answer.body == (
            b"upstream connect error or disconnect/reset before headers. "
            b"reset reason: connection termination"
        )
        assert flag_names(h.logs[0].flags) == "UC"
        assert h.logs[0].response_code_details == (
            "upstream_reset_before_response_started{connection_termination}"
        )

    run(test)


def test_connection_refused(run):
    async def test(h):
        port = await h.web()
        h.servers.pop().close()
        await h.start(h.cluster(port))
        answer = await h.get()
        assert answer.status == 503
        assert flag_names(h.logs[0].flags) == "UF"
        assert answer.body.endswith(b"reset reason: remote connection failure")
        assert h.counter("cluster.web.upstream_cx_connect_fail") == 1
        assert h.gauge("cluster.web.upstream_cx_active") == 0

    run(test)


def test_upstream_that_breaks_the_protocol(run):
    async def test(h):
        await h.start(h.cluster(await h.web(answer=lambda *_: b"nonsense\r\n\r\n")))
        assert (await h.get()).status == 502
        assert flag_names(h.logs[0].flags) == "UPE"

    run(test)


def test_response_cut_short_is_seen_by_the_client(run):
    async def test(h):
        async def server(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            await writer.drain()
            writer.close()

        await h.start(h.cluster(await h.server(server)))
        async with h.client() as client:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.get()
        await h.until(lambda: bool(h.logs))
        assert flag_names(h.logs[0].flags) == "UPE"

    run(test)


def test_route_timeout(run):
    async def test(h):
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        await h.start(
            h.cluster(await h.server(silent)),
            routes=h.routes(h.route(RouteAction(cluster="web", timeout=0.05))),
        )
        answer = await h.get()
        assert (answer.status, answer.body) == (504, b"upstream request timeout")
        assert flag_names(h.logs[0].flags) == "UT"
        assert h.logs[0].response_code_details == "response_timeout"
        await h.until(lambda: h.gauge("cluster.web.upstream_cx_active") == 0)

    run(test)


def test_per_try_timeout_and_retry(run):
    async def test(h):
        async def slow_once(reader, writer):
            while True:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    break
                h.seen.append(("", "", {}, b""))
                if len(h.seen) > 1:
                    writer.write(ok(b"late"))
            writer.close()

        policy = RetryPolicy(retry_on=frozenset({"5xx"}), per_try_timeout=0.05, base_interval=0.001)
        await h.start(
            h.cluster(await h.server(slow_once)),
            routes=h.routes(h.route(RouteAction(cluster="web", retry=policy))),
        )
        assert (await h.get()).body == b"late"
        assert h.counter("cluster.web.upstream_rq_per_try_timeout") == 1

    run(test)


def test_connect_timeout(run):
    async def test(h):
        # TEST-NET-1 is not routed; where it is answered at once, the flag is the same.
        cluster = h.cluster(1, connect_timeout=0.05)
        address = replace(
            cluster.load_assignment.localities[0].endpoints[0].address, host="192.0.2.1"
        )
        endpoint = replace(cluster.load_assignment.localities[0].endpoints[0], address=address)
        group = replace(cluster.load_assignment.localities[0], endpoints=(endpoint,))
        await h.start(
            replace(cluster, load_assignment=replace(cluster.load_assignment, localities=(group,)))
        )
        assert (await h.get()).status == 503
        assert flag_names(h.logs[0].flags) == "UF"

    run(test)


def test_stream_idle_timeout(run):
    async def test(h):
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        await h.start(
            h.cluster(await h.server(silent)),
            listeners=(h.listener(h_chain(h, stream_idle_timeout=0.05)),),
        )
        assert (await h.get()).status == 504
        assert flag_names(h.logs[0].flags) == "SI"

    run(test)


def test_pending_overflow(run):
    async def test(h):
        release = asyncio.Event()

        async def slow(reader, writer):
            while True:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    break
                await release.wait()
                writer.write(ok(b"slow"))

        limits = CircuitBreakers(default=Thresholds(max_connections=1, max_pending_requests=1))
        await h.start(h.cluster(await h.server(slow), circuit_breakers=limits))
        first = asyncio.create_task(h.get())
        await h.until(lambda: h.gauge("cluster.web.upstream_rq_active") == 1)
        second = asyncio.create_task(h.get())
        await h.until(lambda: h.gauge("cluster.web.upstream_rq_pending_active") == 1)
        assert h.gauge("cluster.web.circuit_breakers.default.rq_pending_open") == 1
        refused = await h.get()
        assert (refused.status, refused.headers["x-envoy-overloaded"]) == (503, "true")
        assert refused.body.endswith(b"reset reason: overflow")
        assert flag_names(h.logs[0].flags) == "UO"
        release.set()
        assert [(await first).body, (await second).body] == [b"slow", b"slow"]
        assert h.counter("cluster.web.upstream_rq_pending_overflow") == 1
        assert h.counter("cluster.web.upstream_cx_total") == 1
        assert h.gauge("cluster.web.circuit_breakers.default.rq_pending_open") == 0
        assert h.gauge("cluster.web.circuit_breakers.default.cx_open") == 1

    run(test)


def test_outlier_is_ejected_and_comes_back(run):
    async def test(h):
        bad = await h.web("bad", answer=lambda *_: status(500))
        good = await h.web("good")
        await h.start(
            h.cluster(
                bad,
                good,
                outlier_detection=OutlierDetection(
                    consecutive_5xx=2,
                    base_ejection_time=0.2,
                    interval=0.05,
                    max_ejection_percent=100,
                ),
                healthy_panic_percent=0.0,
            )
        )
        for _ in range(4):
            await h.get()
        host = next(x for x in h.running.clusters["web"].hosts if x.address.endswith(f":{bad}"))
        assert host.ejected
        assert h.gauge("cluster.web.outlier_detection.ejections_active") == 1
        assert {(await h.get()).body for _ in range(6)} == {b"good"}
        await h.until(lambda: not host.ejected)
        assert h.gauge("cluster.web.outlier_detection.ejections_active") == 0
        assert 500 in {(await h.get()).status for _ in range(2)}

    run(test)


def test_faults(run):
    async def test(h):
        await h.start(
            h.cluster(await h.web()),
            routes=h.routes(
                h.route(prefix=b"/abort", fault=Fault(abort_status=555)),
                h.route(prefix=b"/delay", fault=Fault(delay=0.05, abort_share=Fraction(0))),
                h.route(fault=Fault(abort_status=500, abort_share=Fraction(0))),
            ),
            listeners=(h.listener(h_chain(h, filters=(Fault(),))),),
        )
        abort = await h.get("/abort")
        assert (abort.status, abort.body) == (555, b"fault filter abort")
        assert (await h.get("/delay")).status == 200
        assert (await h.get("/")).status == 200
        assert [flag_names(info.flags) for info in h.logs] == ["FI", "DI", "-"]
        assert h.logs[1].end - h.logs[1].start >= 0.05
        assert h.counter("http.test.fault.aborts_injected") == 1
        assert h.gauge("http.test.fault.active_faults") == 0

    run(test)


def test_client_that_goes_away(run):
    async def test(h):
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        await h.start(h.cluster(await h.server(silent)))
        async with h.client() as client:
            client.writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await h.until(lambda: h.gauge("cluster.web.upstream_rq_active") == 1)
        await h.until(lambda: bool(h.logs))
        assert flag_names(h.logs[0].flags) == "DC"
        assert h.logs[0].response_code == 0
        await h.until(lambda: h.gauge("cluster.web.upstream_cx_active") == 0)
        assert h.gauge("http.test.downstream_rq_active") == 0

    run(test)


def test_slow_reader_pauses_the_server(run):
    async def test(h):
        sent = 0

        async def flood(reader, writer):
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 300000000\r\n\r\n")
            try:
                while sent < 300_000_000:
                    writer.write(b"x" * 100_000)
                    await writer.drain()
                    sent += 100_000
            except (ConnectionError, RuntimeError):  # uvloop's word for a closed transport
                pass

        await h.start(h.cluster(await h.server(flood)))
        async with h.client(limit=1024) as client:
            client.writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await client.reader.readuntil(b"\r\n\r\n")
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert 0 < sent < 100_000_000

    run(test)


def test_weight_change_under_load_fails_nothing(run):
    async def test(h):
        blue, green = await h.web("blue"), await h.web("green")
        clusters = (h.cluster(blue, name="blue"), h.cluster(green, name="green"))

        def split(share):
            return h.routes(
                h.route(
                    RouteAction(
                        weighted_clusters=(
                            WeightedCluster(name="blue", weight=share),
                            WeightedCluster(name="green", weight=100 - share),
                        )
                    )
                )
            )

        await h.start(*clusters, routes=split(100))
        statuses: list[int] = []
        stop = False

        async def load():
            async with h.client() as client:
                while not stop:
                    statuses.append((await client.get()).status)

        loads = [asyncio.create_task(load()) for _ in range(8)]
        for turn in range(20):
            await h.change(routes={"routes": split(turn * 5)})
            seen = len(h.seen)
            await h.until(lambda seen=seen: len(h.seen) > seen + 20)
        await h.change(routes={"routes": split(0)})
        await asyncio.sleep(0.05)
        seen = len(h.seen)
        await h.until(lambda: len(h.seen) > seen + 50)
        stop = True
        await asyncio.gather(*loads)
        assert set(statuses) == {200}
        assert {name for name, *_ in h.seen[seen:]} == {"green"}
        assert h.counter("http.test.downstream_cx_total") == 8

    run(test)

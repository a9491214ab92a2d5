"""The agent's ports, its small HTTP server and the app's probes, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from meshlab.agent import drain, http
from meshlab.agent.forward import Counters
from meshlab.agent.health import Health
from meshlab.agent.http import Request, Response
from meshlab.agent.identity import Identity
from meshlab.agent.probe import AppProbe, app_probe, ask_app
from meshlab.agent.settings import Ports, Settings


async def _never(csr: bytes) -> list[str]:
    raise AssertionError(f"nobody signs here: {csr!r}")


@contextlib.asynccontextmanager
async def app(answers: dict[str, Response]) -> AsyncIterator[int]:
    async def handle(request: Request) -> Response:
        return answers.get(request.path, Response(404))

    server = await http.serve("127.0.0.1", 0, handle)
    yield server.sockets[0].getsockname()[1]
    server.close()


def health(admin: int, **more: object) -> Health:
    given = Settings(
        type="sidecar",
        pod="p",
        namespace="n",
        ip="127.0.0.1",
        ports=Ports(admin=admin),
        **more,  # type: ignore[arg-type]
    )
    return Health(given, Identity("spiffe://x/ns/n/sa/d", _never), Counters(), lambda: None)


def test_metrics_of_data_plane_agent_and_app_are_one() -> None:
    async def scenario() -> bytes:
        async with (
            app({"/stats/prometheus": Response(200, b"envoy 1\n")}) as admin,
            app({"/m": Response(200, b"app 2")}) as own,
        ):
            merged = health(admin, scrape={"port": str(own), "path": "/m"})
            answer = await merged.status_port(Request("GET", "/stats/prometheus"))
            return answer.body

    body = asyncio.run(scenario())
    assert body.startswith(b"envoy 1\n# TYPE istio_agent_")
    assert body.endswith(b"\napp 2\n")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(200, 200, id="well"),
        pytest.param(302, 200, id="a redirect is well and is not followed"),
        pytest.param(503, 503, id="ill"),
    ],
)
def test_the_apps_probe_decides(status: int, expected: int) -> None:
    async def scenario() -> Response:
        async with app({"/live": Response(status)}) as port:
            entry = {"httpGet": {"path": "live", "port": port}, "timeoutSeconds": 2}
            probed = health(1, app_probes={"/app-health/c/livez": entry})
            return await probed.status_port(Request("GET", "/app-health/c/livez"))

    assert asyncio.run(scenario()).status == expected


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
def test_an_app_that_is_not_there_is_ill(kind: str) -> None:
    probe = AppProbe(kind=kind, port=1, timeout=1)
    assert asyncio.run(ask_app(probe, "127.0.0.1")).status == 500


def test_probes_that_stay_are_not_read() -> None:
    assert app_probe({"exec": {"command": ["true"]}}) is None


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"404", id="plain"),
        pytest.param(b"GET /\r\n\r\n", b"400", id="HTTP/0.9"),
        pytest.param(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", b"400", id="chunked"
        ),
        pytest.param(b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"400", id="length"),
    ],
)
def test_the_server_refuses_what_it_does_not_speak(wire: bytes, status: bytes) -> None:
    async def scenario() -> bytes:
        async with app({}) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(wire)
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert asyncio.run(scenario()).split()[1] == status


def test_only_requests_of_users_hold_up_the_end() -> None:
    stats = (
        "http.admin.downstream_rq_active: 1\n"
        "http.stats.downstream_rq_active: 1\n"
        "http.inbound_0.0.0.0_8080;.downstream_rq_active: 2\n"
        "cluster.x.downstream_rq_active: 9\n"
    )
    assert drain.count_active(stats) == 2

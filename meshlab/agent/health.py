"""What the agent answers on 15021 (readiness) and 15020 (metrics, app probes, drain, quit)."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlab.agent import drain
from meshlab.agent.forward import Counters
from meshlab.agent.http import Request, Response, asked
from meshlab.agent.identity import Identity
from meshlab.agent.probe import app_probe, ask_app
from meshlab.agent.settings import Settings

if TYPE_CHECKING:
    from meshlab.agent.istio_metric import IstioMetrics

LOG = logging.getLogger("meshlab.agent.health")
READY = "/healthz/ready"
START_PATIENCE = 2.0
START_POLL = 0.03
METRICS = ("/stats/prometheus", "/metrics")


class Health:
    """The handlers; knows what readiness needs."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        counters: Counters,
        quit_: Callable[[], None],
        istio: "IstioMetrics | None" = None,
    ) -> None:
        """`istio`: the standard metrics, where the data plane has none."""
        self.settings = settings
        self.identity = identity
        self.counters = counters
        self.draining = False
        self.quit = quit_
        self.istio = istio
        self._was_ready = False
        self._probes = {
            path: probe
            for path, entry in settings.app_probes.items()
            if (probe := app_probe(entry)) is not None
        }

    async def ready_port(self, request: Request) -> Response:
        """Answer on 15021."""
        if request.path == READY:
            return await self.ready()
        return Response(404)

    async def status_port(self, request: Request) -> Response:
        """Answer on 15020."""
        match request.method, request.path:
            case _, "/healthz/ready":
                return await self.ready()
            case "GET", path if path in METRICS:
                return await self.metrics()
            case "GET", path if path in self._probes:
                return await ask_app(self._probes[path], self.settings.ip)
            case "POST", "/drain":
                await self.drain()
                return Response(200, b"draining\n")
            case "POST", "/quitquitquit":
                self.quit()
                return Response(200, b"OK\n")
            case _, "/quitquitquit" | "/drain":
                return Response(405, b"POST only\n")
            case _:
                return Response(404)

    async def ready(self) -> Response:
        """Say whether the workload certificate and the first CDS, LDS and RDS are in.

        At the start a "not yet" is held back for up to START_PATIENCE seconds: a kubelet asks once
        a second, and the app waits for its answer.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (0 if self._was_ready else START_PATIENCE)
        while (missing := await self._missing()) and loop.time() < deadline:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(START_POLL)
        if missing:
            return Response(503, missing)
        if not self._was_ready:
            self._was_ready = True
            LOG.info("ready")
        return Response(200)

    async def _missing(self) -> bytes:
        """Return what readiness still lacks, b"" for nothing.

        Envoy's own `/ready` turns LIVE when all that it was told to wait for is there.
        """
        if self.identity.current is None:
            return b"no workload certificate yet\n"
        try:
            answer = await asked(self.settings.ports.admin, "GET", "/ready", timeout=1)
        except OSError as error:
            return f"the data plane does not answer: {error}\n".encode()
        if answer.status != 200 and not self.draining:
            return b"the data plane is not ready: " + answer.body
        return b""

    async def drain(self) -> None:
        self.draining = True
        await drain.start(self.settings.ports.admin)

    async def metrics(self) -> Response:
        """Return the data plane's, the agent's and (where annotated) the app's metrics as one."""
        parts = await asyncio.gather(
            self._scrape(self.settings.ports.admin, "/stats/prometheus", host="127.0.0.1"),
            self._app_metrics(),
        )
        istio = self.istio.render() if self.istio else b""
        whole = (parts[0], istio, self.own_metrics(), parts[1])
        body = b"".join(_line_ended(part) for part in whole)
        return Response(200, body, "text/plain; version=0.0.4; charset=utf-8")

    def own_metrics(self) -> bytes:
        """Return the agent's metrics (istio.md 4.4)."""
        current = self.identity.current
        expiry = current.not_after.timestamp() if current else 0.0
        rows = (
            ("istio_agent_cert_expiry_timestamp", "gauge", expiry),
            ("istio_agent_num_failed_outgoing_requests", "counter", self.identity.failures),
            ("istio_agent_xds_proxy_requests", "counter", self.counters.requests),
            ("istio_agent_xds_proxy_responses", "counter", self.counters.responses),
            (
                "istio_agent_istiod_connection_failures",
                "counter",
                self.counters.upstream_failures,
            ),
        )
        return "".join(
            f"# TYPE {name} {kind}\n{name} {value}\n" for name, kind, value in rows
        ).encode()

    async def _app_metrics(self) -> bytes:
        scrape = self.settings.scrape
        if not scrape or not scrape.get("port", "").isdigit():
            return b""
        port, path = int(scrape["port"]), scrape.get("path") or "/metrics"
        if port == self.settings.ports.status:
            return b""  # the annotation already names us
        return await self._scrape(port, path, host=self.settings.ip, source="127.0.0.6")

    async def _scrape(self, port: int, path: str, *, host: str, source: str | None = None) -> bytes:
        try:
            answer = await asked(port, "GET", path, host=host, source=source)
        except OSError as error:
            LOG.warning("no metrics from port %d: %s", port, error)
            return b""
        return answer.body if answer.status == 200 else b""


def _line_ended(text: bytes) -> bytes:
    return text if not text or text.endswith(b"\n") else text + b"\n"

"""One sidecar or gateway from start to end: sockets, certificate, data plane, health, drain."""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio

from meshlab.agent import drain, http
from meshlab.agent.data_plane import DataPlane, command, write_bootstrap
from meshlab.agent.forward import Forwarder
from meshlab.agent.health import Health
from meshlab.agent.identity import Identity
from meshlab.agent.sds import SecretService
from meshlab.agent.settings import Settings
from meshlab.agent.upstream import Upstream

if TYPE_CHECKING:
    from meshlab.agent.istio_metric import IstioMetrics

LOG = logging.getLogger("meshlab.agent")
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    # The data plane may ask every few seconds whether we live; gRPC's default calls that abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
]
ANY = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus dial the pod's address


async def run(settings: Settings) -> int:
    """Run until SIGTERM, SIGINT or /quitquitquit; return the exit code.

    The order is for speed: the sockets first, so that the data plane finds them when it boots, and
    the certificate meanwhile.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings.directory.mkdir(parents=True, exist_ok=True)
    child = DataPlane(command(settings, write_bootstrap(settings)))
    upstream = Upstream(settings)
    spiffe = (
        f"spiffe://{settings.trust_domain}/ns/{settings.namespace}/sa/{settings.service_account}"
    )
    identity = Identity(spiffe, upstream.sign)
    metrics = _metrics(settings)
    forwarder = Forwarder(upstream, metrics.take if metrics else None)
    health = Health(settings, identity, forwarder.counters, stop.set, metrics)
    sockets = await _serve_sockets(settings, forwarder, SecretService(identity))
    servers = [
        await http.serve(ANY, settings.ports.ready, health.ready_port),
        await http.serve(ANY, settings.ports.status, health.status_port),
    ]
    LOG.info("%s starts %s", settings.node_id, " ".join(child.argv[:3]))
    try:
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(identity.run(), name="identity")
            running = tasks.create_task(child.run(), name="data plane")
            await stop.wait()
            renewing.cancel()
            await _leave(settings, health, child)
        return max(0, running.result())
    finally:
        for server in servers:
            server.close()
        await sockets.stop(grace=None)
        await upstream.close()


def _metrics(settings: Settings) -> "IstioMetrics | None":
    """Return Istio's metrics for a data plane that does not count them itself."""
    if Path(settings.data_plane).name == "meshlab-proxy":
        return None
    from meshlab.agent.istio_metric import IstioMetrics  # protobufs that others need not load

    return IstioMetrics(settings.metadata, settings.namespace, settings.cluster_id)


async def _leave(settings: Settings, health: Health, child: DataPlane) -> None:
    await health.drain()
    await drain.finish(settings.ports.admin, longest=settings.termination_drain)
    await child.stop()


async def _serve_sockets(settings: Settings, forwarder: Forwarder, secrets: SecretService) -> Any:
    """Open the XDS and the SDS socket, each with its own services only."""
    server = grpc.aio.server(options=_SERVER_OPTIONS)
    server.add_generic_rpc_handlers((*forwarder.handlers(), secrets.handler()))
    before = os.umask(0o177)  # whoever can open the SDS socket gets the private key
    try:
        for path in (settings.xds_socket, settings.workload_socket):
            _clear(path)
            server.add_insecure_port(f"unix:{path}")
        await server.start()
    finally:
        os.umask(before)
    return server


def _clear(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # left behind by a container that was killed

"""The API server put together: state, machinery, tokens, and uvicorn in front of it."""

import asyncio
import base64
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.apiserver.admission import Admission
from meshlab.cluster.embedded.apiserver.auth import Tokens
from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.event import forget_old_events
from meshlab.cluster.embedded.apiserver.first_objects import first_objects
from meshlab.cluster.embedded.apiserver.handler import Handler
from meshlab.cluster.embedded.apiserver.machinery import Machinery
from meshlab.cluster.embedded.apiserver.node_api import NodeApi
from meshlab.cluster.embedded.apiserver.pki import authority, server_context
from meshlab.cluster.embedded.apiserver.store import Store
from meshlab.cluster.embedded.apiserver.webhook_client import WebhookClient
from meshlab.cluster.embedded.client import Client
from meshlab.cluster.embedded.state import State
from meshlab.cluster.embedded.task import spawn

Json = dict[str, Any]

MOST_CONNECTIONS = 4096
LARGEST_FRAME = 1024 * 1024
IDLE_SECONDS = 120
GOODBYE_SECONDS = 1
"""How long requests may still run when the server ends."""


class ApiServer:
    """A Kubernetes API server over one state directory.

    Args:
        state_dir: where `state.db` is, mode 0700; made when missing.
        node: logs and exec; None: there are none (tests of the server alone).
        nodeport_free: says whether a port of this machine can become a nodePort.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        node: NodeApi | None,
        nodeport_free: Callable[[int], bool],
    ) -> None:
        self._state = State(state_dir / "state.db")
        store = Store(self._state)
        finder = WebhookClient(store)
        self._machinery = Machinery(store, Catalog(), Admission(store, finder.ask))
        self._machinery.kinds.nodeport_free = nodeport_free
        self._tokens = Tokens(self._state, store)
        self._ca = authority(self._state)
        self._handler = Handler(self._machinery, self._tokens, finder, node)
        self.client = Client(self._machinery, self._tokens, self._ca.decode())

    @property
    def ca_pem(self) -> str:
        return self._ca.decode()

    def use_node(self, node: NodeApi) -> None:
        """Serve logs and exec from a node that was made after the server (it needs the client)."""
        self._handler.use_node(node)

    async def prepare(self) -> None:
        """Make what every cluster has, where it is missing."""
        for resource, namespace, obj in first_objects():
            name = obj["metadata"]["name"]
            if self._machinery.store.get(resource, namespace, name) is None:
                await self.client.create(resource, obj, namespace)

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Serve on listening sockets until cancelled."""
        await self.prepare()
        server = self._server()
        janitor = spawn(forget_old_events(self.client), "old events")
        serving = spawn(server.serve(sockets), "API server")
        try:
            await asyncio.shield(serving)
        finally:
            janitor.cancel()
            server.should_exit = True
            self._handler.end_streams()
            await asyncio.gather(serving, janitor, return_exceptions=True)

    def close(self) -> None:
        """Let go of the state file."""
        self._state.close()

    def _server(self) -> Any:
        import uvicorn

        from meshlab.cluster.embedded.apiserver.connection import (
            BoundedProtocol,
            RefusableWebSocket,
        )

        config = uvicorn.Config(
            self._handler,
            http=BoundedProtocol,
            ws=RefusableWebSocket,
            ws_max_size=LARGEST_FRAME,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
        )
        config.load()
        config.ssl = server_context(self._state)

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # signals are the supervisor's

        return Server(config)

    def admin_kubeconfig(self, server_url: str) -> Json:
        """Return a kubeconfig (as YAML would have it) for the administrator."""
        name = "meshlab"
        cluster = {
            "server": server_url,
            "certificate-authority-data": base64.b64encode(self._ca).decode(),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": {"token": self._tokens.admin_token}}],
            "contexts": [
                {"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}
            ],
            "current-context": name,
        }

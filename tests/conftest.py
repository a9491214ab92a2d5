"""A cluster that needs no root: the real API server and controllers, and a node that pretends.

For the parts that stand on the Kubernetes API from outside (`meshlab.kube`, the Python API, the
command line). Real pods are in `tests/e2e`.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshlab.cluster.embedded.apiserver.app import ApiServer
from meshlab.cluster.embedded.apiserver.json_object import now
from meshlab.cluster.embedded.client import ApiError
from meshlab.cluster.embedded.controller import manager
from meshlab.kube import Kube

Object = dict[str, Any]


class EchoSession:
    """What a command that is echoed prints: its words on stdout, its input on stderr."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._input = bytearray()
        self._closed = asyncio.Event()

    async def write(self, data: bytes) -> None:
        self._input += data

    async def close_stdin(self) -> None:
        self._closed.set()

    async def resize(self, columns: int, rows: int) -> None: ...

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        if self._command[0] == "cat":
            await self._closed.wait()
        yield 1, " ".join(self._command).encode()
        yield 2, bytes(self._input)

    async def wait(self) -> int:
        return 3 if self._command[0] == "false" else 0

    async def terminate(self) -> None: ...


class PretendingNode:
    """Binds pods, calls them running and ready, echoes their commands."""

    async def run(self, client: Any) -> None:
        address = 1
        async for kind, pod in client.watch("pods"):
            metadata, spec = pod["metadata"], pod["spec"]
            where = metadata["name"], metadata["namespace"]
            try:
                if kind == "DELETED":
                    continue
                if metadata.get("deletionTimestamp"):
                    await client.delete("pods", *where, grace_period_seconds=0)
                elif not spec.get("nodeName"):
                    await client.patch("pods", where[0], {"spec": {"nodeName": "n"}}, where[1])
                elif not pod["status"].get("podIP"):
                    address += 1
                    status = self._status(spec, f"10.244.0.{address}")
                    await client.patch("pods", where[0], status, where[1], subresource="status")
            except ApiError as error:
                if error.status_code != 404:
                    raise

    @staticmethod
    def _status(spec: Object, address: str) -> Object:
        containers = [
            {"name": c["name"], "ready": True, "restartCount": 0, "image": c["image"],
             "imageID": "", "state": {"running": {"startedAt": now()}}}
            for c in spec["containers"]
        ]  # fmt: skip
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
        status = {"phase": "Running", "podIP": address, "conditions": [ready]}
        return {"status": {**status, "containerStatuses": containers}}

    async def logs(
        self, pod: Object, container: str, *, tail_lines: int | None = None, **_: Any
    ) -> AsyncIterator[bytes]:
        lines = [f"{container} {number}\n".encode() for number in range(3)]
        for line in lines[-tail_lines:] if tail_lines else lines:
            yield line

    async def exec(self, pod: Object, container: str, command: list[str], **_: Any) -> EchoSession:
        return EchoSession(command)


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the kubeconfig of a served cluster."""
    directory = tmp_path_factory.mktemp("cluster")
    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    stop: list[Any] = []

    async def serve() -> None:
        node: Any = PretendingNode()
        server = ApiServer(directory, node=node, nodeport_free=lambda _: True)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        (directory / "kubeconfig").write_text(yaml.safe_dump(server.admin_kubeconfig(url)))
        await server.prepare()
        parts = [
            asyncio.ensure_future(server.serve([listener])),
            asyncio.ensure_future(node.run(server.client)),
            *manager.start(server.client),
        ]
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        ready.set()
        await ended.wait()
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="cluster")
    thread.start()
    assert ready.wait(10)
    yield directory / "kubeconfig"
    stop[0]()
    thread.join(10)


@pytest.fixture
def kube(kubeconfig: Path) -> Iterator[Kube]:
    client = Kube(kubeconfig)
    yield client
    client.close()

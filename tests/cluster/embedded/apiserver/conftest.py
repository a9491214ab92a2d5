"""A served API server, kubectl on it, and an in-process client."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshlab.cluster.embedded.apiserver.app import ApiServer

HERE = Path(__file__).parent
Run = subprocess.CompletedProcess[str]


class Served:
    """A server in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        arguments = [sys.executable, str(HERE / "serve.py"), str(self.directory), str(self.port)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"
        self.config = json.loads(self.kubeconfig.read_text())
        url = self.config["clusters"][0]["cluster"]["server"]
        self.port = int(url.rpartition(":")[2])

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def token(self) -> str:
        return str(self.config["users"][0]["user"]["token"])

    @property
    def environment(self) -> dict[str, str]:
        """What kubectl runs with; its caches go to a home of their own."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.directory),
        }

    def kubectl(self, *arguments: str, stdin: str | None = None, **extra: str) -> Run:
        return subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**self.environment, **extra},
            timeout=60,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *objects: dict[str, Any], flags: tuple[str, ...] = ()) -> str:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self.ok("apply", "-f", "-", *flags, stdin=json.dumps(items))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not on the PATH")
    server = Served(tmp_path_factory.mktemp("apiserver"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def space(served: Served, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    name = request.node.name.replace("_", "-").split("[")[0][:50].strip("-").lower()
    done = served.kubectl("create", "namespace", name)
    assert done.returncode == 0 or "AlreadyExists" in done.stderr, done.stderr
    return name


@contextlib.contextmanager
def in_process(directory: Path) -> Iterator[ApiServer]:
    server = ApiServer(directory, node=None, nodeport_free=lambda port: port != 31999)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """A server that nobody serves: its client is enough."""
    with in_process(tmp_path) as made:
        yield made


@pytest.fixture
def run(server: ApiServer) -> Callable[[Callable[[Any], Coroutine[Any, Any, Any]]], Any]:
    """Run an async function of the client against a server with its first objects made."""

    def runner(body: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def whole() -> Any:
            await server.prepare()
            return await asyncio.wait_for(body(server.client), 20)

        return asyncio.run(whole())

    return runner

"""A server of its own process for the tests: `serve.py DIR` prints its port, then serves.

Its node is a small one: pods are subprocesses of this one, logs say what was asked.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop

from meshlab.cluster.embedded.apiserver.app import ApiServer
from meshlab.cluster.embedded.apiserver.status import bad_request


class Session:
    """A command of this machine."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._sizes: list[tuple[int, int]] = []

    async def write(self, data: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()

    async def resize(self, columns: int, rows: int) -> None:
        self._sizes.append((columns, rows))

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(16)

        async def pump(number: int, reader: asyncio.StreamReader) -> None:
            while data := await reader.read(65536):
                await queue.put((number, data))
            await queue.put((number, b""))

        assert self._process.stdout
        assert self._process.stderr
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(1, self._process.stdout))
            group.create_task(pump(2, self._process.stderr))
            running = 2
            while running:
                item = await queue.get()
                running -= not item[1]
                if item[1]:
                    yield item

    async def wait(self) -> int:
        return await self._process.wait()

    async def terminate(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class Node:
    async def logs(
        self, pod: dict[str, Any], container: str, *, follow: bool, **asked: Any
    ) -> AsyncIterator[bytes]:
        if asked["previous"]:
            raise bad_request(f'previous terminated container "{container}" not found')
        yield json.dumps([pod["metadata"]["name"], container, asked]).encode() + b"\n"
        if follow:
            for number in range(3):
                await asyncio.sleep(0.05)
                yield b"line %d\n" % number

    async def exec(
        self, pod: dict[str, Any], container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> Session:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe if stdin else asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
        )
        return Session(process)


async def main() -> None:
    directory = Path(sys.argv[1])
    listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    server = ApiServer(directory, node=Node(), nodeport_free=lambda port: port != 31999)
    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    await server.prepare()
    (directory / "kubeconfig").write_text(json.dumps(server.admin_kubeconfig(url)))
    print("ready", flush=True)
    await server.serve([listening])


uvloop.run(main())

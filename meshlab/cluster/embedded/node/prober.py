"""Asks a container whether it is well: HTTP, TCP or a command, as its probes say.

`grpc` probes are not done yet: they fail, and the Event of that says why.
"""

import asyncio
import os
import ssl
from typing import Any

from meshlab.cluster.embedded.node.container import Run
from meshlab.cluster.embedded.node.environment import ConfigMissing
from meshlab.cluster.embedded.node.exec import ExecError, run_command

Object = dict[str, Any]

HEAD_LIMIT = 64 * 1024
BODY_SHOWN = 256


class HandlerError(Exception):
    """A probe or hook failed; the text is what kubelet would show."""


def port_number(port: int | str, container: Object) -> int:
    """Return a port by its number, or by its name among the container's ports."""
    if isinstance(port, int):
        return port
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            number: int = entry["containerPort"]
            return number
    if port.isdigit():
        return int(port)
    raise ConfigMissing(f'couldn\'t find port "{port}" in the container')


async def handle(
    handler: Object, container: Object, run: Run, address: str, limit: float | None, agent: str
) -> None:
    """Do what a probe or life-cycle hook says, once.

    Args:
        handler: with `httpGet`, `tcpSocket` or `exec`.
        container: its entry in the pod's spec.
        run: the running container.
        address: the pod's.
        limit: seconds it may take; None: as long as it likes.
        agent: the User-Agent of an HTTP request.

    Raises:
        HandlerError: it failed.
    """
    try:
        async with asyncio.timeout(limit):
            if "exec" in handler:
                await run_exec(handler["exec"], run)
            elif "httpGet" in handler:
                await http_get(handler["httpGet"], container, address, agent)
            elif "tcpSocket" in handler:
                await tcp_socket(handler["tcpSocket"], container, address)
            elif "sleep" in handler:
                await asyncio.sleep(handler["sleep"]["seconds"])
            else:
                raise HandlerError(f"handler {sorted(handler)} is not supported")
    except TimeoutError:
        raise HandlerError(f"timed out after {limit:g}s") from None
    except ConfigMissing as error:
        raise HandlerError(str(error)) from error


async def run_exec(spec: Object, run: Run) -> None:
    try:
        code, printed = await run_command(run, list(spec.get("command") or []))
    except ExecError as error:
        raise HandlerError(str(error)) from error
    if code:
        raise HandlerError(printed.decode(errors="replace") or f"exit code {code}")


async def tcp_socket(spec: Object, container: Object, address: str) -> None:
    host, port = spec.get("host") or address, port_number(spec["port"], container)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise HandlerError(f"dial tcp {host}:{port}: {reason(error)}") from error
    writer.close()


async def http_get(spec: Object, container: Object, address: str, agent: str) -> None:
    """Ask by a connection of its own; 200 to 399 is well."""
    host, port = spec.get("host") or address, port_number(spec["port"], container)
    scheme = spec.get("scheme", "HTTP").lower()
    path = spec.get("path") or "/"
    headers = {"Host": f"{host}:{port}", "User-Agent": agent, "Accept": "*/*"}
    headers |= {entry["name"]: entry["value"] for entry in spec.get("httpHeaders") or []}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET /{path.removeprefix('/')} HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
    url = f"{scheme}://{host}:{port}/{path.removeprefix('/')}"
    try:
        status, body = await fetch(host, port, request.encode(), tls=scheme == "https")
    except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
        raise HandlerError(f'Get "{url}": {reason(error)}') from error
    if not 200 <= status < 400:
        text = body.decode(errors="replace").strip()
        raise HandlerError(f"HTTP probe failed with statuscode: {status} {text}".strip())


def reason(error: Exception) -> str:
    """Return the system's word for an error; event loops word it each in their own way."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)


async def fetch(host: str, port: int, request: bytes, *, tls: bool) -> tuple[int, bytes]:
    """Return the status and the beginning of the body."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # kubelet does not verify a probed server either
    reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=HEAD_LIMIT)
    try:
        writer.write(request)
        line = await reader.readuntil(b"\n")
        version, _, rest = line.partition(b" ")
        if not version.startswith(b"HTTP/"):
            raise ValueError(f"malformed HTTP response {line[:32]!r}")
        status = int(rest[:3])
        body = b""
        if status >= 400:
            await reader.readuntil(b"\r\n\r\n")
            body = await reader.read(BODY_SHOWN)
        return status, body
    finally:
        writer.close()

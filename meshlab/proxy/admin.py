"""The admin end point: what runs, how it is configured, what it counted (Envoy's admin interface).

Envoy: https://www.envoyproxy.io/docs/envoy/latest/operations/admin
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any as Anything
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from meshlab.errors import ConfigError
from meshlab.proxy.config.dump import config_dump, to_json
from meshlab.proxy.config.snapshot import Configuration
from meshlab.proxy.config.xds import CLUSTER_TYPE
from meshlab.proxy.core.listener import Listener
from meshlab.proxy.core.stat import StatRegistry
from meshlab.proxy.core.tls import Secret, TlsCertificate
from meshlab.proxy.net.cluster import ClusterState
from meshlab.proxy.net.task import spawn
from meshlab.proxy.telemetry.clusters import address_json, clusters_json, clusters_text
from meshlab.proxy.telemetry.log_level import LEVELS
from meshlab.proxy.telemetry.prometheus import (
    RENDERERS,
    Selection,
    render_json,
    reset_counters,
)

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=UTF-8"
JSON = "application/json"
MAX_HEAD = 64 * 1024
MAX_BODY = 1024 * 1024
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Server(Protocol):
    """What the admin end point can see and do of the running proxy."""

    configuration: Configuration
    stats: StatRegistry

    def clusters(self) -> Mapping[str, ClusterState]:
        """Return the clusters at work."""

    def listeners(self) -> Mapping[str, Listener]:
        """Return the listeners that are open."""

    def state(self) -> str:
        """Return LIVE, DRAINING, PRE_INITIALIZING or INITIALIZING, as Envoy's ServerInfo."""

    def refresh_gauges(self) -> None:
        """Bring the statistics up to date that nobody counts."""

    def quit(self) -> None:
        """End the process."""

    def drain(self, *, inbound_only: bool, graceful: bool) -> None:
        """Close the listeners."""

    def fail_health_check(self, failed: bool) -> None:
        """Ask clients to go elsewhere, or no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    """A key without a value has "": `?usedonly`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    body: str
    status: int = 200
    content_type: str = TEXT


OK = Response(body="OK\n")


def as_json(value: object, status: int = 200) -> Response:
    return Response(body=json.dumps(value, indent=1) + "\n", status=status, content_type=JSON)


@dataclass(slots=True)
class Admin:
    """Answers the admin end point's requests."""

    server: Server
    command_line: Mapping[str, Anything] = field(default_factory=dict)
    started: float = field(default_factory=monotonic)

    def answer(self, request: Request) -> Response:
        """Return the answer; what changes something must be a POST, as in Envoy."""
        handler = HANDLERS.get(request.path.rstrip("/") or "/")
        if handler is None:
            return Response(body=f"invalid path. {self.help(request).body}", status=404)
        mutates, function, _ = handler
        if mutates and request.method != "POST":
            return Response(body="Method Not Allowed", status=405)
        return function(self, request)

    def help(self, _: Request) -> Response:
        lines = [
            f"  {path}{' (POST)' if mutates else ''}: {about}\n"
            for path, (mutates, _, about) in sorted(HANDLERS.items())
        ]
        return Response(body="admin commands are:\n" + "".join(lines))

    def ready(self, _: Request) -> Response:
        state = self.server.state()
        return Response(body=f"{state}\n", status=200 if state == "LIVE" else 503)

    def server_info(self, _: Request) -> Response:
        uptime = f"{int(monotonic() - self.started)}s"
        return as_json(
            {
                "version": f"meshlab-proxy/{version('meshlab')}",
                "state": self.server.state(),
                "hot_restart_version": "disabled",
                "command_line_options": dict(self.command_line),
                "node": to_json(self.server.configuration.bootstrap.node),
                "uptime_current_epoch": uptime,
                "uptime_all_epochs": uptime,
            }
        )

    def config_dump(self, request: Request) -> Response:
        query = request.query
        if query.get("mask"):
            return Response(body="mask is not supported by this proxy\n", status=400)
        try:
            return as_json(
                config_dump(
                    self.server.configuration,
                    include_eds="include_eds" in query,
                    resource=query.get("resource", ""),
                    name_regex=query.get("name_regex", ""),
                )
            )
        except ConfigError as error:
            status = 404 if error.field == "resource" else 400
            return Response(body=f"{error}\n", status=status)

    def clusters(self, request: Request) -> Response:
        clusters = self.server.clusters()
        entries = self.server.configuration.entries[CLUSTER_TYPE]
        dynamic = frozenset(name for name, entry in entries.items() if not entry.static)
        if request.query.get("format") == "json":
            return as_json(clusters_json(clusters, dynamic))
        return Response(body=clusters_text(clusters, dynamic))

    def listeners(self, request: Request) -> Response:
        listeners = self.server.listeners()
        if request.query.get("format") == "json":
            return as_json({"listener_statuses": [*map(listener_status, listeners.values())]})
        return Response(
            body="".join(f"{item.name}::{item.address}\n" for item in listeners.values())
        )

    def stats(self, request: Request) -> Response:
        form = request.query.get("format", "text")
        self.server.refresh_gauges()
        try:
            selection = select(request.query)
        except ConfigError as error:
            return Response(body=f"{error}\n", status=400)
        if form == "json":
            return as_json(render_json(self.server.stats, selection))
        if form not in RENDERERS:
            return Response(body="usage: /stats?format=(text|json|prometheus)\n\n", status=400)
        content_type, render = RENDERERS[form]
        return Response(body=render(self.server.stats, selection), content_type=content_type)

    def stats_prometheus(self, request: Request) -> Response:
        query = {**request.query, "format": "prometheus"}
        return self.stats(Request(method=request.method, path=request.path, query=query))

    def certs(self, _: Request) -> Response:
        secrets = self.server.configuration.snapshot.secrets
        return as_json({"certificates": [certificate_status(secrets)]} if secrets else {})

    def quit(self, _: Request) -> Response:
        self.server.quit()
        return OK

    def drain_listeners(self, request: Request) -> Response:
        self.server.drain(
            inbound_only="inboundonly" in request.query, graceful="graceful" in request.query
        )
        return OK

    def fail_health_check(self, _: Request) -> Response:
        self.server.fail_health_check(failed=True)
        return OK

    def pass_health_check(self, _: Request) -> Response:
        self.server.fail_health_check(failed=False)
        return OK

    def reset_counters(self, _: Request) -> Response:
        reset_counters(self.server.stats)
        return OK

    def logging(self, request: Request) -> Response:
        """Set log levels: `?level=debug` for all, `?NAME=debug` or `?paths=NAME:debug` for some."""
        changes = dict(request.query)
        for pair in changes.pop("paths", "").split(","):
            if pair:
                name, _, level = pair.rpartition(":")
                changes[name] = level
        for name, level in changes.items():
            if level not in LEVELS:
                return Response(
                    body=f"unknown log level {level!r}; levels: {', '.join(LEVELS)}\n", status=400
                )
            logger = logging.getLogger() if name == "level" else logging.getLogger(name)
            logger.setLevel(LEVELS[level])
        names = sorted(name for name in logging.root.manager.loggerDict if "meshlab" in name)
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in names}
        lines = [
            f"  {name}: {logging.getLevelName(level).lower()}\n" for name, level in levels.items()
        ]
        return Response(body="active loggers:\n" + "".join(lines) + "\n")

    def memory(self, _: Request) -> Response:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return as_json({"allocated": str(pages * 4096)})

    def runtime(self, _: Request) -> Response:
        return as_json({"layers": [], "entries": {}})


HANDLERS: Mapping[str, tuple[bool, Callable[[Admin, Request], Response], str]] = {
    "/": (False, Admin.help, "Admin home page"),
    "/certs": (False, Admin.certs, "print certs on machine"),
    "/clusters": (False, Admin.clusters, "upstream cluster status (format=json)"),
    "/config_dump": (
        False,
        Admin.config_dump,
        "dump current configs (include_eds, resource=, name_regex=)",
    ),
    "/drain_listeners": (
        True,
        Admin.drain_listeners,
        "drain listeners (graceful, inboundonly)",
    ),
    "/healthcheck/fail": (True, Admin.fail_health_check, "cause the server to fail health checks"),
    "/healthcheck/ok": (True, Admin.pass_health_check, "cause the server to pass health checks"),
    "/help": (False, Admin.help, "print out list of admin commands"),
    "/listeners": (False, Admin.listeners, "print listener info (format=json)"),
    "/logging": (True, Admin.logging, "query/change logging levels"),
    "/memory": (False, Admin.memory, "print current allocation"),
    "/quitquitquit": (True, Admin.quit, "exit the server"),
    "/ready": (False, Admin.ready, "print server state, 200 if LIVE, otherwise 503"),
    "/reset_counters": (True, Admin.reset_counters, "reset all counters to zero"),
    "/runtime": (False, Admin.runtime, "print runtime values"),
    "/server_info": (False, Admin.server_info, "print server version/status information"),
    "/stats": (False, Admin.stats, "print server stats (filter=, usedonly, type=, format=)"),
    "/stats/prometheus": (
        False,
        Admin.stats_prometheus,
        "print server stats in prometheus format",
    ),
}
"""Path → (whether it changes something, method, help)."""


def select(query: Mapping[str, str]) -> Selection:
    """Return what /stats is to show; raises ConfigError for an expression that does not compile."""
    kinds = Selection().kinds
    wanted = query.get("type", "All")
    if wanted not in kinds and wanted != "All":
        raise ConfigError("is unknown", field="type", found=wanted, allowed=", ".join(kinds))
    try:
        pattern = re.compile(query["filter"]) if "filter" in query else None
    except re.error as error:
        raise ConfigError(f"Invalid re2 regex: {error}", field="filter") from None
    return Selection(
        pattern=pattern,
        used_only="usedonly" in query,
        kinds=kinds if wanted == "All" else frozenset((wanted,)),
    )


def listener_status(listener: Listener) -> dict[str, Anything]:
    status: dict[str, Anything] = {
        "name": listener.name,
        "local_address": address_json(listener.address),
    }
    if listener.additional_addresses:
        status["additional_local_addresses"] = [*map(address_json, listener.additional_addresses)]
    return status


def certificate_status(secrets: Mapping[str, Secret]) -> dict[str, Anything]:
    """Return the CAs and chains of all secrets, as `envoy.admin.v3.Certificate`."""
    authorities: list[dict[str, Anything]] = []
    chain: list[dict[str, Anything]] = []
    for secret in secrets.values():
        if isinstance(secret, TlsCertificate):
            chain += certificate_details(secret.certificate_chain)
        else:
            authorities += certificate_details(secret.trusted_ca)
    return {"ca_cert": authorities, "cert_chain": chain}


def certificate_details(pem: bytes) -> list[dict[str, Anything]]:
    from cryptography import x509

    found: list[dict[str, Anything]] = []
    for certificate in x509.load_pem_x509_certificates(pem) if pem else []:
        names: list[dict[str, str]] = []
        for extension in certificate.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                for name in extension.value:
                    kind = "uri" if isinstance(name, x509.UniformResourceIdentifier) else "dns"
                    names.append({kind: str(name.value)})
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        found.append(
            {
                "path": "<inline>",
                "serial_number": f"{certificate.serial_number:x}",
                "subject_alt_names": names,
                "days_until_expiration": str(max(left.days, 0)),
                "valid_from": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
                "expiration_time": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            }
        )
    return found


async def serve(admin: Admin, *, host: str = "", port: int = 0, path: str = "") -> asyncio.Server:
    """Open the end point on an address, or on a unix socket.

    Raises:
        ConfigError: the address cannot be had.
    """

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spawn(serve_connection(admin, reader, writer), "admin connection")

    try:
        if path:
            return await asyncio.start_unix_server(connected, path, limit=MAX_HEAD)
        return await asyncio.start_server(connected, host, port, limit=MAX_HEAD)
    except OSError as error:
        raise ConfigError(
            f"cannot be opened: {error.strerror or error}",
            field="admin.address",
            found=path or f"{host}:{port}",
        ) from None


async def serve_connection(
    admin: Admin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer the requests of one connection, one after another."""
    try:
        while await serve_request(admin, reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # the client is gone, or speaks no HTTP: nothing to tell it
    finally:
        writer.close()


async def serve_request(
    admin: Admin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Answer one request; tell whether another may follow."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    words = lines[0].split(" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:] if line)
    }
    length = headers.get("content-length", "0")
    if (
        len(words) != 3
        or not words[2].startswith("HTTP/1.")
        or not length.isdigit()
        or "transfer-encoding" in headers
    ):
        await send(writer, Response(body="Bad Request\n", status=400), keep=False)
        return False
    if int(length) > MAX_BODY:
        await send(writer, Response(body="Content Too Large\n", status=413), keep=False)
        return False
    await reader.readexactly(int(length))
    keep = words[2] == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    target = urlsplit(words[1])
    request = Request(
        method=words[0],
        path=unquote(target.path),
        # Envoy: a plus is a plus here, as in `filter=rq_\d+`
        query=dict(parse_qsl(target.query.replace("+", "%2B"), keep_blank_values=True)),
    )
    response = answer(admin, request)
    await send(writer, response, keep=keep, head_only=request.method == "HEAD")
    return keep


def answer(admin: Admin, request: Request) -> Response:
    try:
        return admin.answer(request)
    except Exception:
        log.exception("admin request %s failed", request.path)
        return Response(body="internal error; see the proxy's log\n", status=500)


async def send(
    writer: asyncio.StreamWriter, response: Response, *, keep: bool, head_only: bool = False
) -> None:
    body = response.body.encode()
    head = (
        f"HTTP/1.1 {response.status} {REASONS[response.status]}\r\n"
        f"content-type: {response.content_type}\r\n"
        "cache-control: no-cache, max-age=0\r\n"
        "x-content-type-options: nosniff\r\n"
        f"content-length: {len(body)}\r\n"
        f"{'' if keep else 'connection: close' + chr(13) + chr(10)}"
        "server: meshlab-proxy\r\n\r\n"
    )
    writer.write(head.encode() + (b"" if head_only else body))
    await writer.drain()

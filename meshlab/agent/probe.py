"""The app's own probes and lifecycle hooks, asked on behalf of the kubelet (istio.md 2.3).

Under STRICT mutual TLS the kubelet cannot reach the app's port; it asks the agent on 15020
instead, and the agent asks the app from 127.0.0.6, which the capture rules let through.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from meshlab.agent.http import Response, asked

SOURCE = "127.0.0.6"
DEFAULT_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AppProbe:
    """One entry of ISTIO_KUBE_APP_PROBERS."""

    kind: str
    """`httpGet` or `tcpSocket`."""
    port: int
    path: str = "/"
    scheme: str = "http"
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = DEFAULT_TIMEOUT


def app_probe(entry: Mapping[str, Any]) -> AppProbe | None:
    """Read an entry; None where it is of a kind that is not rewritten."""
    timeout = float(entry.get("timeoutSeconds") or DEFAULT_TIMEOUT)
    if action := entry.get("httpGet"):
        path = action.get("path") or "/"
        return AppProbe(
            kind="httpGet",
            port=int(action["port"]),
            path=path if path.startswith("/") else f"/{path}",
            scheme=(action.get("scheme") or "HTTP").lower(),
            headers=tuple((h["name"], h["value"]) for h in action.get("httpHeaders") or ()),
            timeout=timeout,
        )
    if action := entry.get("tcpSocket"):
        return AppProbe(kind="tcpSocket", port=int(action["port"]), timeout=timeout)
    return None


async def ask_app(probe: AppProbe, ip: str, *, source: str | None = SOURCE) -> Response:
    """Probe the app and answer as it did; 500 with the reason when it cannot be reached."""
    try:
        if probe.kind == "tcpSocket":
            return await _connect(probe, ip, source)
        if probe.scheme == "https":
            return await asyncio.to_thread(_https, probe, ip)
        answer = await asked(
            probe.port,
            "GET",
            probe.path,
            host=ip,
            source=source,
            headers=dict(probe.headers),
            timeout=probe.timeout,
        )
    except OSError as error:
        return Response(500, f"{ip}:{probe.port}: {error}\n".encode())
    # The kubelet takes 200 to 399 for well; it must not follow the app's redirects through us.
    return Response(200 if 200 <= answer.status < 400 else answer.status, answer.body)


async def _connect(probe: AppProbe, ip: str, source: str | None) -> Response:
    local = (source, 0) if source else None
    async with asyncio.timeout(probe.timeout):
        _, writer = await asyncio.open_connection(ip, probe.port, local_addr=local)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return Response(200)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _https(probe: AppProbe, ip: str) -> Response:
    # As the kubelet does: probes over https do not check the app's certificate.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = Request(f"https://{ip}:{probe.port}{probe.path}", headers=dict(probe.headers))
    opener = build_opener(HTTPSHandler(context=context), _NoRedirect)
    with opener.open(request, timeout=probe.timeout) as answer:
        return Response(answer.status, answer.read())

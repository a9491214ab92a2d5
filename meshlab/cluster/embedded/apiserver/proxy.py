"""`pods/proxy` and `services/proxy`: plain HTTP to a pod, streamed both ways."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at
from meshlab.cluster.embedded.apiserver.status import ApiError, bad_request
from meshlab.cluster.embedded.apiserver.webhook_client import WebhookClient

Json = dict[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
NOT_PASSED = HOP_BY_HOP | {b"authorization", b"host"}
"""Neither the hop's own headers nor, above all, the caller's token."""
CONNECT_SECONDS = 10.0


def split_name(name: str) -> tuple[str, str, str]:
    """Return scheme, name and port of `[https:]name[:port]`.

    Raises:
        ApiError: 400.
    """
    parts = name.split(":")
    if len(parts) == 1:
        return "http", parts[0], ""
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in {"", "http"}:
        return "http", parts[1], parts[2]
    raise bad_request(f"invalid proxy target {name!r}: only http is proxied, as name:port")


def pod_address(pod: Json, port: str) -> tuple[str, int]:
    """Return where a pod listens; without a port, its first declared one.

    Raises:
        ApiError: 400, 503.
    """
    name = pod["metadata"]["name"]
    address = at(pod, "status", "podIP")
    if not address:
        raise ApiError(503, "ServiceUnavailable", f"pod {name} has no address yet")
    declared = [p for c in pod["spec"]["containers"] for p in c.get("ports") or ()]
    if port.isdigit():
        return address, int(port)
    for known in declared:
        if not port or known.get("name") == port:
            return address, known["containerPort"]
    return (address, 80) if not port else _no_port(name, port)


def _no_port(name: str, port: str) -> tuple[str, int]:
    raise bad_request(f"pod {name} has no port named {port!r}")


def service_address(finder: WebhookClient, service: Json, port: str) -> tuple[str, int]:
    """Return where a ready endpoint of a service listens.

    Raises:
        ApiError: 503.
    """
    metadata, ports = service["metadata"], service["spec"].get("ports") or ()
    wanted: int | str = int(port) if port.isdigit() else port
    if not port and ports:
        wanted = ports[0]["port"]
    try:
        return finder.endpoint(metadata["namespace"], metadata["name"], wanted)
    except OSError as error:
        raise ApiError(503, "ServiceUnavailable", str(error)) from error


async def forward(
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    address: tuple[str, int],
    path: str,
) -> None:
    """Send the request on and its answer back, piece by piece.

    Raises:
        ApiError: 503; nobody answers there.
    """
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each request
    host, port = address
    url = f"http://{host}:{port}{path or '/'}"
    if scope["query_string"]:
        url += "?" + scope["query_string"].decode("latin-1")
    headers = [(k, v) for k, v in scope["headers"] if k not in NOT_PASSED]
    has_body = any(k in {b"content-length", b"transfer-encoding"} for k, _ in scope["headers"])
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
        request = client.build_request(
            scope["method"], url, headers=headers, content=_body(receive) if has_body else None
        )
        try:
            answer = await client.send(request, stream=True)
        except httpx.HTTPError as error:
            why = f"error trying to reach service: {str(error) or type(error).__name__}"
            raise ApiError(503, "ServiceUnavailable", why) from error
        kept = [(k.lower(), v) for k, v in answer.headers.raw if k.lower() not in HOP_BY_HOP]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
        try:
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await answer.aclose()
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return

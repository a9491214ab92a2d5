"""An HTTP request read as Kubernetes means it: which resource, which verb, which options.

Everything here is bounded: the size of a body, its nesting, the time to send it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.protobuf import MEDIA_TYPE, decode_protobuf
from meshlab.cluster.embedded.apiserver.resource import Resource, Version
from meshlab.cluster.embedded.apiserver.status import ApiError, bad_request, no_such_path

Json = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

LARGEST_BODY = 3 * 1024 * 1024
"""Kubernetes' own limit."""
DEEPEST = 200
"""Levels of nesting; the deepest schema anyone writes has some forty."""
BODY_SECONDS = 30.0
"""How long a client may take to send a body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names."""

    resource: Resource
    version: Version
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    """What follows `proxy/`, with its leading slash; "" where nothing does."""


def parse_path(catalog: Catalog, raw_path: str) -> Target:
    """Return the target of `/apis/apps/v1/namespaces/shop/deployments/web/scale`.

    Args:
        catalog: what is served.
        raw_path: the path, still percent-encoded.

    Raises:
        ApiError: 404; nothing is there.
    """
    parts = raw_path.strip("/").split("/")
    match parts:
        case ["api", "v1", *rest]:
            group, version = "", "v1"
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise no_such_path()
    namespace = ""
    # …/namespaces/shop/status is about the namespace itself
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in {"status", "finalize"}:
        namespace, rest = unquote(rest[1]), rest[2:]
    found = catalog.at(group, version, rest[0]) if rest else None
    if found is None or (namespace and not found[0].namespaced):
        raise no_such_path()
    name = unquote(rest[1]) if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    path = ""
    if subresource == "proxy":
        # the trailing slash counts, so this is cut from the path itself
        path = raw_path.split("/proxy", 1)[1]
    elif len(rest) > 3 or (name and found[0].namespaced and not namespace):
        raise no_such_path()
    return Target(
        resource=found[0],
        version=found[1],
        namespace=namespace,
        name=name,
        subresource=subresource,
        rest=path,
    )


VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


def verb_of(method: str, target: Target, query: Mapping[str, str]) -> str:
    """Return the verb that RBAC knows a request by.

    Raises:
        ApiError: 405.
    """
    if target.subresource == "exec":
        return "create"  # also for the GET that opens a WebSocket: running a program is no reading
    if method in {"GET", "HEAD"}:
        if target.name:
            return "get"
        return "watch" if flag(query, "watch") else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    found = VERBS.get(method)
    if found is None:
        raise ApiError(405, "MethodNotAllowed", f"method {method} is not known here")
    return found


def parse_query(raw: bytes) -> dict[str, str]:
    """Return the query's parameters; of several values the last."""
    found = parse_qs(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=200)
    return {key: values[-1] for key, values in found.items()}


def parse_query_lists(raw: bytes) -> dict[str, list[str]]:
    """Return the query's parameters with all their values (`command=ls&command=-l`)."""
    return parse_qs(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=1000)


def flag(query: Mapping[str, str], name: str) -> bool:
    """Return a boolean parameter as Go reads it."""
    return query.get(name, "").lower() in {"1", "t", "true"}


def whole_number(query: Mapping[str, str], name: str) -> int | None:
    """Return a number parameter; None when it is not there.

    Raises:
        ApiError: 400.
    """
    text = query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad_request(f"invalid {name} {text!r}: it is no whole number")
    return int(text)


def dry_run(query: Mapping[str, str], options: Mapping[str, Any] | None = None) -> bool:
    """Say whether nothing is to be kept.

    Raises:
        ApiError: 400 for any value but All.
    """
    asked = query.get("dryRun") or next(iter((options or {}).get("dryRun") or ()), "")
    if asked not in {"", "All"}:
        raise bad_request(f'Invalid value: "{asked}": dryRun: supported values: "All"')
    return bool(asked)


def field_validation(query: Mapping[str, str]) -> str:
    """Return Ignore, Warn or Strict.

    Raises:
        ApiError: 400.
    """
    asked = query.get("fieldValidation") or "Warn"
    if asked not in {"Ignore", "Warn", "Strict"}:
        raise bad_request(
            f'fieldValidation: Unsupported value: "{asked}": supported values: "Ignore", "Strict", '
            '"Warn"'
        )
    return asked


async def read_body(receive: Receive, declared: str | None) -> bytes:
    """Return a request's body.

    Raises:
        ApiError: 413 when it is too large, 408 when it comes too slowly.
        ConnectionError: the client left.
    """
    if declared and declared.isdigit() and int(declared) > LARGEST_BODY:
        raise _too_large()
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError("the client left")
                piece = message.get("body", b"")
                size += len(piece)
                if size > LARGEST_BODY:
                    raise _too_large()
                pieces.append(piece)
                if not message.get("more_body"):
                    return b"".join(pieces)
    except TimeoutError as error:
        message_text = f"the request's body did not come within {BODY_SECONDS:.0f} s"
        raise ApiError(408, "Timeout", message_text) from error


def _too_large() -> ApiError:
    message = f"Request entity too large: limit is {LARGEST_BODY}"
    return ApiError(413, "RequestEntityTooLarge", message)


def decode_json(body: bytes) -> Any:
    """Return what a body says.

    Raises:
        ApiError: 400 for what is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is no JSON: {error}") from error
    if _deeper_than(value, DEEPEST):
        raise bad_request(f"the body is nested more than {DEEPEST} levels deep")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [v for v in item.values() if isinstance(v, dict | list)]
            elif isinstance(item, list):
                below += [v for v in item if isinstance(v, dict | list)]
        if not below:
            return False
        level = below
    return True


def decode_object(body: bytes, content_type: str) -> Json:
    """Return the object in a body.

    Raises:
        ApiError: 415 for anything but JSON and Kubernetes' protobuf (no YAML), 400.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media == MEDIA_TYPE:
        return decode_protobuf(body)
    if media not in {"", "application/json"}:
        message = (
            "the body of the request was in an unknown format - accepted media types include: "
            f"application/json, {MEDIA_TYPE}"
        )
        raise ApiError(415, "UnsupportedMediaType", message)
    value = decode_json(body)
    if not isinstance(value, dict):
        raise bad_request("the body is no JSON object")
    return value

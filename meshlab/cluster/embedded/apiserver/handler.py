"""The server's face: an ASGI application that reads requests, asks who may, and answers.

Nobody gets further than `_caller` without a token we know, whatever the path.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from meshlab.cluster.embedded.apiserver import discovery, openapi, openapi_v2
from meshlab.cluster.embedded.apiserver import exec as exec_channel
from meshlab.cluster.embedded.apiserver.auth import (
    AUTHENTICATED,
    ISSUER,
    Tokens,
    service_account_groups,
)
from meshlab.cluster.embedded.apiserver.call import Call, Caller
from meshlab.cluster.embedded.apiserver.format import Format, negotiate, shown_list, shown_one
from meshlab.cluster.embedded.apiserver.json_object import at, encode, put_at
from meshlab.cluster.embedded.apiserver.lists import page
from meshlab.cluster.embedded.apiserver.log import container_of, read_log
from meshlab.cluster.embedded.apiserver.machinery import Machinery
from meshlab.cluster.embedded.apiserver.node_api import NodeApi
from meshlab.cluster.embedded.apiserver.patch import KINDS
from meshlab.cluster.embedded.apiserver.proxy import (
    forward,
    pod_address,
    service_address,
    split_name,
)
from meshlab.cluster.embedded.apiserver.rbac import Attributes, refusal
from meshlab.cluster.embedded.apiserver.request import (
    Target,
    decode_json,
    decode_object,
    dry_run,
    field_validation,
    flag,
    parse_path,
    parse_query,
    parse_query_lists,
    read_body,
    verb_of,
    whole_number,
)
from meshlab.cluster.embedded.apiserver.review import Reviews
from meshlab.cluster.embedded.apiserver.scale import scale_of, scaled
from meshlab.cluster.embedded.apiserver.status import (
    ApiError,
    bad_request,
    conflict,
    forbidden,
    method_not_allowed,
    no_such_path,
    not_found,
    success,
    unauthorized,
)
from meshlab.cluster.embedded.apiserver.watch import parse_watch, stream
from meshlab.cluster.embedded.apiserver.webhook_client import WebhookClient
from meshlab.cluster.embedded.task import spawn

Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)

APPLY_PATCH = "application/apply-patch+yaml"
NO_APPLY = (
    "server-side apply is not offered by this cluster: it does not keep who owns which field "
    "(metadata.managedFields). Use client-side apply: kubectl apply without --server-side"
)
NO_SPDY = (
    "this server speaks the WebSocket protocols v5.channel.k8s.io and v4.channel.k8s.io, not SPDY; "
    "use kubectl 1.31 or later, without KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false"
)
NOT_OFFERED = {
    "attach": "attach is not offered by this cluster; use kubectl exec or kubectl logs -f",
    "portforward": (
        "port-forward is not offered by this cluster; reach a pod through kubectl proxy "
        "(/api/v1/namespaces/NAMESPACE/pods/NAME:PORT/proxy/), a Service by type LoadBalancer"
    ),
}
GENERIC_PARTS = frozenset({"", "status", "finalize", "ephemeralcontainers"})


class Request:
    """One HTTP request and what was found out about it."""

    __slots__ = ("headers", "method", "path", "query", "receive", "scope", "send", "warnings")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope.get("method", "GET")
        self.path: str = scope["raw_path"].decode("latin-1").partition("?")[0]
        self.headers: dict[str, str] = {
            k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]
        }
        self.query = parse_query(scope["query_string"])
        self.warnings: list[str] = []

    async def body(self) -> bytes:
        return await read_body(self.receive, self.headers.get("content-length"))

    async def object(self) -> Json:
        return decode_object(await self.body(), self.headers.get("content-type", ""))

    @property
    def form(self) -> Format:
        """Return the form of objects the client takes."""
        return negotiate(self.headers.get("accept", ""), self.query.get("includeObject", ""))


class Handler:
    """The ASGI application."""

    def __init__(
        self,
        machinery: Machinery,
        tokens: Tokens,
        finder: WebhookClient,
        node: NodeApi | None,
    ) -> None:
        self._machinery = machinery
        self._store = machinery.store
        self._catalog = machinery.catalog
        self._tokens = tokens
        self._authorizer = machinery.authorizer
        self._reviews = Reviews(tokens, machinery.authorizer)
        self._finder = finder
        self._node = node
        self._streams: set[asyncio.Task[None]] = set()

    def use_node(self, node: NodeApi) -> None:
        self._node = node

    def end_streams(self) -> None:
        """End open watches and logs, whole; the server that waits for them stops at once."""
        for sender in self._streams:
            sender.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(Request(scope, receive, send))
        elif scope["type"] == "http":
            await self._http(Request(scope, receive, send))

    async def _http(self, request: Request) -> None:
        try:
            await self._answer(request)
        except ApiError as error:
            await self._send_json(request, error.body(), error.status_code)
        except ConnectionError:
            return
        except Exception:
            log.exception("%s %s", request.method, request.path)
            crash = ApiError(500, "InternalError", "Internal error occurred: see the server's log")
            await self._send_json(request, crash.body(), 500)

    async def _answer(self, request: Request) -> None:
        caller = self._caller(request)
        parts = request.path.strip("/").split("/")
        if (parts[0] == "api" and len(parts) > 2) or (parts[0] == "apis" and len(parts) > 3):
            await self._resource(request, caller)
            return
        self._allow(caller, Attributes(verb=request.method.lower(), path=request.path))
        await self._document(request, parts)

    # --- who ----------------------------------------------------------------------------------

    def _caller(self, request: Request) -> Caller:
        """Return who is asking.

        Raises:
            ApiError: 401.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        caller = None
        if scheme.lower() == "bearer" and token.strip():
            caller = self._tokens.caller(token.strip())
        if caller is None:
            raise unauthorized()
        return self._impersonated(request, caller)

    def _impersonated(self, request: Request, caller: Caller) -> Caller:
        """Return whom the caller wants to be taken for (`kubectl --as`), if they may."""
        name = request.headers.get("impersonate-user")
        groups = [
            v.decode("latin-1") for k, v in request.scope["headers"] if k == b"impersonate-group"
        ]
        if not name:
            if groups or "impersonate-uid" in request.headers:
                raise bad_request("requested groups without impersonating a user")
            return caller
        account = name.removeprefix("system:serviceaccount:").split(":")
        if name.startswith("system:serviceaccount:") and len(account) == 2:
            wanted = Attributes(
                verb="impersonate",
                resource="serviceaccounts",
                namespace=account[0],
                name=account[1],
            )
            given = service_account_groups(account[0])
        else:
            wanted = Attributes(verb="impersonate", resource="users", name=name)
            given = (AUTHENTICATED,)
        self._allow(caller, wanted)
        for group in groups:
            self._allow(caller, Attributes(verb="impersonate", resource="groups", name=group))
        if groups:
            given = tuple(dict.fromkeys([*groups, AUTHENTICATED]))
        return Caller(name=name, groups=given)

    def _allow(self, caller: Caller, wanted: Attributes) -> None:
        """Raise 403 unless the caller may."""
        if self._authorizer.allows(caller, wanted):
            return
        why = refusal(caller, wanted)
        if wanted.path:
            raise ApiError(403, "Forbidden", f"forbidden: {why}")
        raise forbidden(wanted.resource, wanted.group, wanted.name, why)

    def _allow_target(self, caller: Caller, verb: str, target: Target, request: Request) -> None:
        resource = target.resource
        namespace, name = target.namespace, target.name
        if resource.key == "namespaces":
            namespace = name
        if verb in {"list", "watch"} and not name:
            fields = request.query.get("fieldSelector", "")
            if fields.startswith("metadata.name=") and "," not in fields:
                name = fields.removeprefix("metadata.name=")
        if target.subresource == "proxy":
            _, name, _ = split_name(name)
        wanted = Attributes(
            verb=verb,
            group=resource.kept_in or resource.group,
            resource=resource.plural,
            subresource=target.subresource,
            name=name,
            namespace=namespace,
        )
        self._allow(caller, wanted)

    # --- what is not a resource ---------------------------------------------------------------

    async def _document(self, request: Request, parts: list[str]) -> None:
        if request.method not in {"GET", "HEAD"}:
            raise method_not_allowed()
        if parts[0] in {"healthz", "livez", "readyz"}:
            await self._send(request, b"ok", 200, b"text/plain; charset=utf-8")
            return
        document = self._found_document(request, parts)
        if document is None:
            raise no_such_path()
        if "swagger" in document and openapi_v2.ASKED_AS in request.headers.get("accept", ""):
            encoded = openapi_v2.encode_document(document)
            await self._send(request, encoded, 200, openapi_v2.MEDIA_TYPE.encode())
            return
        media = b"application/json"
        if document.get("kind") == "APIGroupDiscoveryList":
            version = document["apiVersion"].rpartition("/")[2]
            media = b"application/json;g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList" % (
                version.encode()
            )
        await self._send(request, encode(document), 200, media)

    def _found_document(self, request: Request, parts: list[str]) -> Json | None:
        aggregated = discovery.wants_aggregated(request.headers.get("accept", ""))
        catalog = self._catalog
        match parts:
            case [("api" | "apis") as root] if aggregated:
                return discovery.aggregated(catalog, core=root == "api", version=aggregated)
            case ["api"]:
                return discovery.api_versions(request.headers.get("host", ""))
            case ["apis"]:
                return discovery.api_group_list(catalog)
            case ["api", version]:
                return discovery.api_resource_list(catalog, "", version)
            case ["apis", group]:
                return discovery.api_group(catalog, group)
            case ["apis", group, version]:
                return discovery.api_resource_list(catalog, group, version)
            case ["openapi", "v2"]:
                return openapi.document_v2(catalog)
            case ["openapi", "v3"]:
                return openapi.index(catalog)
            case ["openapi", "v3", "api", version]:
                return openapi.document(catalog, "", version)
            case ["openapi", "v3", "apis", group, version]:
                return openapi.document(catalog, group, version)
            case ["version"]:
                return dict(discovery.VERSION)
            case ["openid", "v1", "jwks"]:
                return self._tokens.key_set()
            case [".well-known", "openid-configuration"]:
                return _openid_configuration()
            case _:
                return None

    # --- resources ----------------------------------------------------------------------------

    async def _resource(self, request: Request, caller: Caller) -> None:
        target = parse_path(self._catalog, request.path)
        verb = verb_of(request.method, target, request.query)
        self._allow_target(caller, verb, target, request)
        if target.version.warning:
            request.warnings.append(target.version.warning)
        if target.subresource == "proxy":
            await self._proxy(request, target)
            return
        call = Call(
            resource=target.resource,
            version=target.version,
            namespace=target.namespace,
            name=target.name,
            subresource=target.subresource,
            caller=caller,
            dry_run=dry_run(request.query),
            field_validation=field_validation(request.query),
            warnings=request.warnings,
        )
        if target.subresource in GENERIC_PARTS:
            self._check_part(target)
            await self._generic(request, call, target, verb)
        else:
            await self._part(request, call, verb)

    def _check_part(self, target: Target) -> None:
        resource, part = target.resource, target.subresource
        known = part in resource.subresources or (part == "status" and target.version.status)
        if part and not known:
            raise no_such_path()

    async def _generic(self, request: Request, call: Call, target: Target, verb: str) -> None:
        if verb not in target.resource.verbs:
            raise method_not_allowed()
        match verb:
            case "get":
                found = shown_one(
                    request.form, target.resource, target.version, self._machinery.get(call)
                )
                await self._send_json(request, found)
            case "list":
                await self._list(request, target)
            case "watch":
                await self._watch(request, target)
            case "create":
                await self._create(request, call)
            case "update":
                obj = await request.object()
                await self._send_json(request, await self._machinery.update(call, obj))
            case "patch":
                await self._send_json(request, await self._patch(request, call))
            case "delete":
                await self._delete(request, call)
            case _:
                await self._delete_collection(request, call)

    async def _list(self, request: Request, target: Target) -> None:
        form = request.form
        found = page(self._store, target.resource.key, target.namespace or None, request.query)
        shown = shown_list(form, target.resource, target.version, found.items, found.metadata)
        await self._send_json(request, shown)

    async def _watch(self, request: Request, target: Target) -> None:
        lines = stream(self._store, parse_watch(target, request.form, request.query))
        await self._stream(request, lines, b"application/json")

    async def _create(self, request: Request, call: Call) -> None:
        if call.name:
            raise method_not_allowed()
        obj = await request.object()
        if call.resource.verbs == ("create",):
            await self._send_json(request, self._reviews.answer(call, obj), 201)
            return
        if call.resource.namespaced and not call.namespace:
            raise bad_request("an empty namespace may not be set during creation")
        await self._send_json(request, await self._machinery.create(call, obj), 201)

    async def _patch(self, request: Request, call: Call) -> Json:
        media_type, patch = await self._read_patch(request)
        return await self._machinery.patch(call, media_type, patch)

    async def _read_patch(self, request: Request) -> tuple[str, Any]:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if media_type.startswith("application/apply-patch"):
            raise ApiError(415, "UnsupportedMediaType", NO_APPLY)
        if media_type not in KINDS.values():
            message = (
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(KINDS.values())
            )
            raise ApiError(415, "UnsupportedMediaType", message)
        return media_type, decode_json(await request.body())

    async def _delete(self, request: Request, call: Call) -> None:
        call, options = await self._delete_options(request, call)
        await self._send_json(request, await self._machinery.delete(call, options))

    async def _delete_options(self, request: Request, call: Call) -> tuple[Call, Json]:
        body = await request.body()
        options = decode_object(body, request.headers.get("content-type", "")) if body else {}
        grace = whole_number(request.query, "gracePeriodSeconds")
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if policy := request.query.get("propagationPolicy"):
            options["propagationPolicy"] = policy
        if flag(request.query, "orphanDependents") or options.get("orphanDependents"):
            options["propagationPolicy"] = "Orphan"
        grace = options.get("gracePeriodSeconds")
        if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
            raise bad_request("gracePeriodSeconds is no whole number")
        policies = {None, "Background", "Foreground", "Orphan"}
        if options.get("propagationPolicy") not in policies:
            raise bad_request("propagationPolicy is none of Background, Foreground, Orphan")
        return replace(call, dry_run=call.dry_run or dry_run({}, options)), options

    async def _delete_collection(self, request: Request, call: Call) -> None:
        if call.resource.namespaced and not call.namespace:
            raise method_not_allowed()
        call, options = await self._delete_options(request, call)
        selectors = {k: v for k, v in request.query.items() if k.endswith("Selector")}
        found = page(self._store, call.resource.key, call.namespace or None, selectors)
        for obj in found.items:
            try:
                await self._machinery.delete(replace(call, name=obj["metadata"]["name"]), options)
            except ApiError as error:
                if error.reason != "NotFound":
                    raise
        details = {"group": call.resource.group, "kind": call.resource.plural}
        await self._send_json(request, success({k: v for k, v in details.items() if v}))

    # --- subresources of their own ------------------------------------------------------------

    async def _part(self, request: Request, call: Call, verb: str) -> None:
        match call.resource.key, call.subresource, verb:
            case _, "scale", "get" | "update" | "patch" if call.version.scale:
                await self._scale(request, call, verb)
            case "pods", "log", "get":
                await self._log(request, call)
            case "pods", "exec", _:
                await self._refuse_spdy(request, call)
            case "pods", "binding", "create":
                await self._bind(request, call)
            case "pods", "eviction", "create":
                await self._evict(request, call)
            case "pods", "attach" | "portforward" as part, _:
                raise ApiError(501, "NotImplemented", NOT_OFFERED[part])
            case "serviceaccounts", "token", "create":
                await self._token(request, call)
            case _, part, _ if part in call.resource.subresources:
                raise method_not_allowed()
            case _:
                raise no_such_path()

    async def _scale(self, request: Request, call: Call, verb: str) -> None:
        paths = call.version.scale
        assert paths is not None  # noqa: S101 - checked by the caller's match
        if verb == "get":
            await self._send_json(request, scale_of(self._machinery.get(call), paths))
            return
        if verb == "update":
            wanted = await request.object()
            changed = await self._machinery.change(call, lambda obj: scaled(obj, wanted, paths))
        else:
            media_type, patch = await self._read_patch(request)
            from meshlab.cluster.embedded.apiserver.patch import apply_patch

            def patched(obj: Json) -> Json:
                scale = apply_patch(media_type, scale_of(obj, paths), patch, None)
                return scaled(obj, scale, paths)

            changed = await self._machinery.change(call, patched)
        await self._send_json(request, scale_of(changed, paths))

    async def _log(self, request: Request, call: Call) -> None:
        node = self._need_node()
        pod = self._machinery.get(replace(call, subresource=""))
        lines = read_log(node, pod, request.query)
        first = await anext(lines, b"")  # so that an error is still a Status, not half a log
        await self._stream(request, _after(first, lines), b"text/plain; charset=utf-8")

    def _need_node(self) -> NodeApi:
        if self._node is None:
            raise ApiError(503, "ServiceUnavailable", "this API server has no node")
        return self._node

    async def _refuse_spdy(self, request: Request, call: Call) -> None:
        pod = self._machinery.get(replace(call, subresource=""))
        asked = exec_channel.parse_exec(parse_query_lists(request.scope["query_string"]))
        container_of(pod, asked.container)
        raise bad_request(NO_SPDY)

    async def _bind(self, request: Request, call: Call) -> None:
        binding = await request.object()
        node = at(binding, "target", "name")
        if not node:
            raise bad_request("target.name, the node's name, is required")

        def bound(pod: Json) -> Json:
            present = at(pod, "spec", "nodeName")
            if present:
                why = f'pod {call.name} is already assigned to node "{present}"'
                raise conflict("pods/binding", "", call.name, why)
            put_at(pod, ("spec", "nodeName"), node)
            return pod

        await self._machinery.change(call, bound)
        await self._send_json(request, success({}), 201)

    async def _evict(self, request: Request, call: Call) -> None:
        eviction = await request.object()
        options = eviction.get("deleteOptions") or {}
        await self._machinery.delete(replace(call, subresource=""), options)
        await self._send_json(request, success({}), 201)

    async def _token(self, request: Request, call: Call) -> None:
        asked = await request.object()
        spec = asked.get("spec") or {}
        pod = self._bound_pod(call, spec.get("boundObjectRef"))
        seconds = spec.get("expirationSeconds", 3600)
        if not isinstance(seconds, int) or seconds < 600:
            raise bad_request(
                "spec.expirationSeconds: may not specify a duration less than 10 minutes"
            )
        token, ends = self._tokens.issue(
            call.namespace,
            call.name,
            audiences=spec.get("audiences") or (),
            expiration_seconds=seconds,
            pod=pod,
        )
        expiry = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": call.name, "namespace": call.namespace},
            "spec": {"audiences": [ISSUER], **spec, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": expiry},
        }
        await self._send_json(request, answer, 201)

    def _bound_pod(self, call: Call, reference: Json | None) -> Json | None:
        if not reference:
            return None
        if reference.get("kind") != "Pod":
            raise bad_request(f"cannot bind token for object of type {reference.get('kind')!r}")
        name = str(reference.get("name", ""))
        pod = self._store.get("pods", call.namespace, name)
        if pod is None:
            raise not_found("pods", "", name)
        if reference.get("uid") not in {None, "", pod["metadata"]["uid"]}:
            raise conflict("pods", "", name, "the UID in the bound object reference does not match")
        if at(pod, "spec", "serviceAccountName") != call.name:
            raise bad_request(
                f"cannot bind token to a pod of another service account than {call.name}"
            )
        return pod

    async def _proxy(self, request: Request, target: Target) -> None:
        _, name, port = split_name(target.name)
        found = self._store.get(target.resource.key, target.namespace, name)
        if found is None:
            raise not_found(target.resource.plural, target.resource.group, name)
        if target.resource.key == "pods":
            address = pod_address(found, port)
        else:
            address = service_address(self._finder, found, port)
        await forward(request.scope, request.receive, request.send, address, target.rest)

    # --- WebSocket ----------------------------------------------------------------------------

    async def _websocket(self, request: Request) -> None:
        try:
            await self._exec(request)
        except ApiError as error:
            await self._deny(request, error)

    async def _exec(self, request: Request) -> None:
        caller = self._caller(request)
        target = parse_path(self._catalog, request.path)
        if target.resource.key == "pods" and target.subresource in NOT_OFFERED:
            raise ApiError(501, "NotImplemented", NOT_OFFERED[target.subresource])
        if (target.resource.key, target.subresource) != ("pods", "exec"):
            raise no_such_path()
        self._allow_target(caller, "create", target, request)
        call = Call(
            resource=target.resource,
            version=target.version,
            namespace=target.namespace,
            name=target.name,
        )
        node, pod = self._need_node(), self._machinery.get(call)
        asked = exec_channel.parse_exec(parse_query_lists(request.scope["query_string"]))
        protocol = exec_channel.choose_protocol(request.scope.get("subprotocols") or ())
        container = container_of(pod, asked.container)
        message = await request.receive()
        if message["type"] != "websocket.connect":
            return
        session = await node.exec(pod, container, asked.command, stdin=asked.stdin, tty=asked.tty)
        await request.send({"type": "websocket.accept", "subprotocol": protocol})
        await exec_channel.serve_exec(session, asked, request.receive, request.send)

    async def _deny(self, request: Request, error: ApiError) -> None:
        await request.send(
            {
                "type": "websocket.http.response.start",
                "status": error.status_code,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        body = encode(error.body())
        await request.send({"type": "websocket.http.response.body", "body": body})

    # --- answering ----------------------------------------------------------------------------

    async def _send_json(self, request: Request, value: Json, status: int = 200) -> None:
        await self._send(request, encode(value), status, b"application/json")

    async def _send(self, request: Request, body: bytes, status: int, media: bytes) -> None:
        headers = [
            (b"content-type", media),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-cache, private"),
            *_warning_headers(request.warnings),
        ]
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b'Bearer realm="kubernetes"'))
        await request.send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if request.method == "HEAD" else body
        await request.send({"type": "http.response.body", "body": body})

    async def _stream(self, request: Request, pieces: AsyncIterator[bytes], media: bytes) -> None:
        """Send pieces as they come, until they end or the client leaves."""
        headers = [
            (b"content-type", media),
            (b"cache-control", b"no-cache, private"),
            *_warning_headers(request.warnings),
        ]
        await request.send({"type": "http.response.start", "status": 200, "headers": headers})
        await request.send({"type": "http.response.body", "body": b"", "more_body": True})
        sender = spawn(_send_pieces(request, pieces), f"stream of {request.path}")
        leaver = spawn(_until_gone(request.receive), f"client of {request.path}")
        self._streams.add(sender)
        try:
            await asyncio.wait({sender, leaver}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.discard(sender)
            for task in (sender, leaver):
                task.cancel()
            await asyncio.gather(sender, leaver, return_exceptions=True)
        if sender.cancelled():
            await request.send({"type": "http.response.body", "body": b""})


async def _send_pieces(request: Request, pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        await request.send({"type": "http.response.body", "body": piece, "more_body": True})
    await request.send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece


def _warning_headers(warnings: list[str]) -> list[tuple[bytes, bytes]]:
    found = []
    for text in dict.fromkeys(warnings):
        plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        found.append((b"warning", f'299 - "{plain}"'.encode("latin-1", "replace")))
    return found


def _openid_configuration() -> Json:
    return {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }

"""The Kubernetes API as the control plane calls it: asynchronous, raw JSON objects, no models.

Inside a pod it uses the service account, outside a kubeconfig.
"""

import base64
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from meshlab.errors import ClusterError, ConfigError

Json = dict[str, Any]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_REREAD = 60.0
"""Seconds after which a token file is read again: the kubelet replaces it."""


class ApiError(ClusterError):
    """The API server's refusal, as its `Status` object says it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(message or f"the API server answers {status} {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object as the API's paths name it."""

    group: str
    """"" for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def name(self) -> str:
        """Kubectl's full name: `endpointslices.discovery.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, name: str = "", namespace: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, an object or its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace)]
        parts += [part for part in (self.plural, quote(name), subresource) if part]
        return "/".join(parts)


def core(plural: str, kind: str, *, namespaced: bool = True) -> Resource:
    return Resource(group="", version="v1", plural=plural, kind=kind, namespaced=namespaced)


SECRETS = core("secrets", "Secret")
CONFIG_MAPS = core("configmaps", "ConfigMap")
NAMESPACES = core("namespaces", "Namespace", namespaced=False)
TOKEN_REVIEWS = Resource(
    group="authentication.k8s.io",
    version="v1",
    plural="tokenreviews",
    kind="TokenReview",
    namespaced=False,
)
LEASES = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the API server is and how to prove who we are."""

    server: str
    tls: ssl.SSLContext | bool = True
    token: str = ""
    token_file: Path | None = None


def in_cluster(environ: Mapping[str, str] = os.environ) -> Access:
    """Return the access that a pod's service account gives.

    Raises:
        ConfigError: not in a pod.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigError(
            "this is not a pod: KUBERNETES_SERVICE_HOST is not set",
            fix="Give --kubeconfig to run outside a cluster.",
        )
    address = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{address}:{port}",
        tls=ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt")),
        token_file=SERVICE_ACCOUNT / "token",
    )


def from_kubeconfig(path: Path, context: str = "") -> Access:
    """Return the access of a kubeconfig's context; "" is its current one.

    Raises:
        ConfigError: the file or the context is not there, or the user needs a login program.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the kubeconfig cannot be read: {error}", object=str(path)) from error
    chosen = _named(config, "contexts", context or config.get("current-context", ""), path)
    cluster = _named(config, "clusters", chosen["context"]["cluster"], path)["cluster"]
    user = _named(config, "users", chosen["context"]["user"], path)["user"]
    if "exec" in user or "auth-provider" in user:
        raise ConfigError(
            "the user needs a login program, which we do not run",
            object=str(path),
            fix="Use a context with a token or a client certificate.",
        )
    server = cluster["server"]
    token_file = Path(user["tokenFile"]) if user.get("tokenFile") else None
    tls: ssl.SSLContext | bool = _tls(cluster, user) if server.startswith("https:") else True
    return Access(server=server, tls=tls, token=user.get("token", ""), token_file=token_file)


def _named(config: Json, section: str, name: str, path: Path) -> Json:
    for entry in config.get(section) or ():
        if entry.get("name") == name:
            found: Json = entry
            return found
    raise ConfigError(f"has no {name!r}", object=str(path), field=section)


def _tls(cluster: Json, user: Json) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _material(user, "client-certificate"), _material(user, "client-key")
    if certificate and key:
        load_key_pair(context, certificate, key)
    return context


def _material(section: Json, name: str) -> bytes:
    if data := section.get(f"{name}-data"):
        return base64.b64decode(data)
    return Path(section[name]).read_bytes() if section.get(name) else b""


def load_key_pair(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Give a context a certificate and its key (PEM) without a file on disk.

    `ssl` takes file names only, so the bytes pass through an anonymous file in memory.
    """
    descriptor = os.memfd_create("key-pair", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(chain.rstrip(b"\n") + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class BearerAuth(httpx.Auth):
    """Sends the access's token, read again from its file now and then."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._token = access.token
        self._read_at = -TOKEN_REREAD

    def token(self) -> str:
        """Return the current token; "" when there is none."""
        file = self.access.token_file
        if file is not None and time.monotonic() - self._read_at > TOKEN_REREAD:
            self._token = file.read_text().strip()
            self._read_at = time.monotonic()
        return self._token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if token := self.token():
            request.headers["authorization"] = f"Bearer {token}"
        yield request


class Api:
    """Calls on raw objects. Every refusal is an `ApiError`, every failed call an `httpx` error."""

    def __init__(
        self, access: Access, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=access.server,
            verify=access.tls,
            auth=BearerAuth(access),
            timeout=httpx.Timeout(30, connect=5),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        return await self.call("GET", resource.path(name, namespace))

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """Return the object, or None where there is none."""
        try:
            return await self.get(resource, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        return await self.call("POST", resource.path(namespace=namespace), body=obj)

    async def update(self, resource: Resource, obj: Json, *, subresource: str = "") -> Json:
        meta = obj["metadata"]
        path = resource.path(meta["name"], meta.get("namespace", ""), subresource)
        return await self.call("PUT", path, body=obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        subresource: str = "",
        kind: str = "merge",
    ) -> Json:
        """Send a patch: `merge` (RFC 7386) or `json` (RFC 6902)."""
        types = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}
        path = resource.path(name, namespace, subresource)
        return await self.call("PATCH", path, body=patch, content_type=types[kind])

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        headers = {"content-type": content_type} if body is not None else {}
        response = await self._client.request(
            method, path, params=dict(params or {}), json=body, headers=headers
        )
        _check(response)
        answer: Json = response.json()
        return answer

    @contextlib.asynccontextmanager
    async def lines(
        self, path: str, params: Mapping[str, str], *, silence: float
    ) -> AsyncIterator[AsyncIterator[str]]:
        """Open a stream of lines; no line for `silence` seconds ends it with a time-out."""
        timeout = httpx.Timeout(10, read=silence)
        async with self._client.stream("GET", path, params=dict(params), timeout=timeout) as answer:
            if answer.status_code >= 400:
                await answer.aread()
                _check(answer)
            yield answer.aiter_lines()


def _check(response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    try:
        status = response.json()
        reason, message = status.get("reason", ""), status.get("message", "")
    except (ValueError, AttributeError):
        reason, message = response.reason_phrase, response.text[:200]
    raise ApiError(response.status_code, reason, message)

"""Kubernetes from the host, synchronously: what the Python API and the command line stand on.

Any kubeconfig will do. Objects are plain dictionaries, resources are named as kubectl names them
in full (`pods`, `deployments.apps`), errors carry the server's own words.
"""

import base64
import contextlib
import json
import os
import ssl
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import yaml

from meshlab.errors import ClusterError
from meshlab.observe.table import Table
from meshlab.three_way import LAST_APPLIED, merge_patch, strategic_patch

Object = dict[str, Any]

TIMEOUT = 30.0
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
EXEC_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
"""Channels of exec; the first byte of each message."""


class KubeError(ClusterError):
    """The API server refused.

    Attributes:
        status: HTTP status.
        reason: Kubernetes' word (`NotFound`, `Invalid`); "" where it gave none.
    """

    def __init__(self, what: str, *, status: int, reason: str = "", fix: str = "") -> None:
        self.status = status
        self.reason = reason
        super().__init__(what, fix=fix)


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource as discovery describes it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def name(self) -> str:
        """Return kubectl's full name."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace)]
        parts += [self.plural, *(quote(part) for part in (name, subresource) if part)]
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Result:
    """What a command in a container printed, and its exit status."""

    stdout: str
    stderr: str
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A cluster's address and how to be let in."""

    server: str
    ssl: ssl.SSLContext | None
    headers: Mapping[str, str] = field(default_factory=dict)


class Kube:
    """One cluster. Safe to use from several threads."""

    def __init__(self, kubeconfig: Path, context: str | None = None) -> None:
        self.kubeconfig = kubeconfig
        self._access = access(kubeconfig, context)
        self._kinds: dict[str, list[Kind]] = {}  # by apiVersion
        self._groups: dict[str, str] = {}  # group → preferred apiVersion
        self._http = httpx.Client(
            base_url=self._access.server,
            verify=self._access.ssl or True,
            headers=dict(self._access.headers),
            timeout=TIMEOUT,
            trust_env=False,  # a proxy of the environment does not lead to a local cluster
        )
        # A notebook closes nothing: its connections end with the last name for this object.
        self._closing = weakref.finalize(self, self._http.close)

    def close(self) -> None:
        self._closing()

    # Requests

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> httpx.Response:
        """Send a request and return the answer, whatever it is.

        Raises:
            ClusterError: the server cannot be reached.
        """
        headers = {"accept": accept}
        content = None
        if body is not None:
            headers["content-type"] = content_type
            content = json.dumps(body).encode()
        try:
            return self._http.request(
                method, path, content=content, headers=headers, timeout=timeout
            )
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> ClusterError:
        return ClusterError(
            f"the API server {self._access.server} cannot be reached: {error}",
            fix="See `meshlab status`; `meshlab up` brings a stopped cluster back.",
        )

    def _ask(self, method: str, path: str, **words: Any) -> Object:
        answer = self.raw(method, path, **words)
        if answer.is_error:
            raise refused(answer)
        found: Object = answer.json()
        return found

    def proxy_get(self, path: str, timeout: float = TIMEOUT) -> httpx.Response:
        """GET a path of the API server, as through its pod and service proxies."""
        return self.raw("GET", path, accept="*/*", timeout=timeout)

    # Discovery

    def kind_of(self, resource: str) -> Kind:
        """Return the resource of that full name (`deployments.apps`), or of that kind.

        Raises:
            KubeError: the server does not have it.
        """
        plural, _, group = resource.partition(".")
        for fresh in (False, True):
            version = self._preferred(group, fresh=fresh)
            for kind in self._listed(version, fresh=fresh) if version else ():
                if resource in (kind.name, kind.kind) or plural == kind.plural:
                    return kind
        message = f'the server doesn\'t have a resource type "{resource}"'
        raise KubeError(message, status=404, reason="NotFound")

    def kind_like(self, obj: Mapping[str, Any]) -> Kind:
        """Return the resource that an object with this apiVersion and kind belongs to.

        Raises:
            KubeError: the server does not have it.
        """
        for fresh in (False, True):
            for kind in self._listed(obj["apiVersion"], fresh=fresh):
                if kind.kind == obj["kind"]:
                    return kind
        raise KubeError(
            f'no matches for kind "{obj["kind"]}" in version "{obj["apiVersion"]}"',
            status=404,
            reason="NotFound",
            fix="Ensure that its CRDs are installed first (`meshlab install`).",
        )

    def plural(self, obj: Mapping[str, Any]) -> str:
        return self.kind_like(obj).plural

    def _preferred(self, group: str, *, fresh: bool) -> str:
        if not group:
            return "v1"
        if fresh or not self._groups:
            found = self._ask("GET", "/apis").get("groups") or ()
            self._groups = {g["name"]: g["preferredVersion"]["groupVersion"] for g in found}
        return self._groups.get(group, "")

    def _listed(self, api_version: str, *, fresh: bool) -> list[Kind]:
        if fresh or api_version not in self._kinds:
            root = "/apis" if "/" in api_version else "/api"
            answer = self.raw("GET", f"{root}/{api_version}")
            if answer.status_code == 404:
                return []
            if answer.is_error:
                raise refused(answer)
            group, _, version = api_version.rpartition("/")
            self._kinds[api_version] = [
                Kind(group, version, r["name"], r["kind"], bool(r["namespaced"]))
                for r in answer.json().get("resources") or ()
                if "/" not in r["name"]
            ]
        return self._kinds[api_version]

    # Objects

    def get(self, resource: str, name: str, namespace: str | None = None) -> Object | None:
        """Return an object; None where there is none."""
        try:
            kind = self.kind_of(resource)
        except KubeError:
            return None
        return self._get(kind.path(namespace, name))

    def get_like(self, obj: Mapping[str, Any], namespace: str | None = None) -> Object | None:
        """Return the object of the same kind, namespace and name; None where there is none."""
        try:
            kind = self.kind_like(obj)
        except KubeError:
            return None
        return self._get(kind.path(_namespace(obj, namespace), obj["metadata"]["name"]))

    def _get(self, path: str) -> Object | None:
        answer = self.raw("GET", path)
        if answer.status_code == 404:
            return None
        if answer.is_error:
            raise refused(answer)
        found: Object = answer.json()
        return found

    def list(
        self, resource: str, namespace: str | None = None, *, label_selector: str = ""
    ) -> list[Object]:
        """Return objects, of all namespaces where none is named; none where the kind is unknown."""
        try:
            kind = self.kind_of(resource)
        except KubeError:
            return []
        query = "?" + urlencode({"labelSelector": label_selector}) if label_selector else ""
        found = self._ask("GET", kind.path(namespace) + query)
        head = {"apiVersion": kind.api_version, "kind": kind.kind}
        return [{**head, **item} for item in found.get("items") or ()]

    def table(
        self, resource: str, namespace: str | None = None, *, label_selector: str = ""
    ) -> Table:
        """Return objects as the server itself would have kubectl print them."""
        kind = self.kind_of(resource)
        query = "?" + urlencode({"labelSelector": label_selector}) if label_selector else ""
        found = self._ask("GET", kind.path(namespace) + query, accept=AS_TABLE)
        columns = [n for n, c in enumerate(found["columnDefinitions"]) if not c.get("priority")]
        headers = [found["columnDefinitions"][n]["name"].upper() for n in columns]
        rows = [[row["cells"][n] for n in columns] for row in found.get("rows") or ()]
        where = f" -n {namespace}" if namespace else " -A" if kind.namespaced else ""
        selector = f" -l {label_selector}" if label_selector else ""
        return Table(headers, rows, note=f"$ kubectl get {kind.name}{where}{selector}")

    def apply(self, obj: Mapping[str, Any], namespace: str | None = None) -> tuple[Object, str]:
        """Create an object or bring it to what the manifest says, as `kubectl apply` does.

        Returns:
            The object, and `created`, `configured` or `unchanged`.
        """
        kind = self.kind_like(obj)
        where = _namespace(obj, namespace) if kind.namespaced else None
        metadata = dict(obj.get("metadata") or {})
        if where:
            metadata["namespace"] = where
        wanted = {**obj, "metadata": metadata}
        if not metadata.get("name"):
            return self._ask("POST", kind.path(where), body=wanted), "created"
        present = self._get(kind.path(where, metadata["name"]))
        noted = _noted(wanted)
        if present is None:
            return self._ask("POST", kind.path(where), body=noted), "created"
        notes = present["metadata"].get("annotations") or {}
        last = json.loads(notes.get(LAST_APPLIED) or "{}")
        after = self._merge(kind.path(where, metadata["name"]), last, noted)
        same = after["metadata"]["resourceVersion"] == present["metadata"]["resourceVersion"]
        return after, "unchanged" if same else "configured"

    def _merge(self, path: str, last: Object, wanted: Object) -> Object:
        """Patch an object to what is wanted; custom resources (415) have no merge keys."""
        answer = self.raw("PATCH", path, body=strategic_patch(last, wanted), content_type=STRATEGIC)
        if answer.status_code == 415:
            return self._ask("PATCH", path, body=merge_patch(last, wanted), content_type=MERGE)
        if answer.is_error:
            raise refused(answer)
        found: Object = answer.json()
        return found

    def patch(
        self,
        resource: str,
        name: str,
        patch: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str = "",
    ) -> Object:
        """Merge a patch (RFC 7396) into an object or its subresource."""
        path = self.kind_of(resource).path(namespace, name, subresource)
        return self._ask("PATCH", path, body=patch, content_type=MERGE)

    def delete(self, resource: str, name: str, namespace: str | None = None) -> bool:
        """Delete an object; False where there was none."""
        return self._delete(self.kind_of(resource).path(namespace, name))

    def delete_like(self, obj: Mapping[str, Any], namespace: str | None = None) -> bool:
        """Delete the object of the same kind, namespace and name; False where there was none."""
        kind = self.kind_like(obj)
        return self._delete(kind.path(_namespace(obj, namespace), obj["metadata"]["name"]))

    def _delete(self, path: str) -> bool:
        answer = self.raw("DELETE", path, body={"propagationPolicy": "Background"})
        if answer.status_code == 404:
            return False
        if answer.is_error:
            raise refused(answer)
        return True

    # Pods

    def logs(
        self,
        name: str,
        namespace: str,
        *,
        container: str | None = None,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
        previous: bool = False,
    ) -> Iterator[str]:
        """Yield the lines that a container wrote; with `follow` for as long as it runs."""
        query = {
            "container": container,
            "follow": "true" if follow else None,
            "tailLines": tail,
            "sinceSeconds": since,
            "previous": "true" if previous else None,
        }
        words = urlencode({key: value for key, value in query.items() if value is not None})
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log?{words}"
        timeout = httpx.Timeout(TIMEOUT, read=None if follow else TIMEOUT)
        try:
            with self._http.stream("GET", path, timeout=timeout) as answer:
                if answer.is_error:
                    answer.read()
                    raise refused(answer)
                yield from answer.iter_lines()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def exec(
        self,
        name: str,
        namespace: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
    ) -> Result:
        """Run a command in a container and wait for its end.

        Raises:
            KubeError: it could not be started.
        """
        from websockets.exceptions import ConnectionClosed, InvalidStatus
        from websockets.sync.client import connect

        query = [("stdout", "1"), ("stderr", "1"), *(("command", word) for word in argv)]
        query += [("container", container)] if container else []
        query += [("stdin", "1")] if stdin is not None else []
        server = urlsplit(self._access.server)
        scheme = "wss" if server.scheme == "https" else "ws"
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/exec?{urlencode(query)}"
        out = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}
        try:
            with connect(
                f"{scheme}://{server.netloc}{server.path}{path}",
                ssl=self._access.ssl,
                additional_headers=dict(self._access.headers),
                subprotocols=EXEC_PROTOCOLS,  # type: ignore[arg-type]  # strings, by a NewType
                max_size=None,
                compression=None,
                proxy=None,
            ) as socket:
                if stdin is not None:
                    socket.send(bytes([STDIN]) + stdin.encode())
                    if socket.subprotocol == EXEC_PROTOCOLS[0]:
                        socket.send(bytes([CLOSE, STDIN]))  # v4 cannot say that input has ended
                with contextlib.suppress(ConnectionClosed):
                    for message in socket:
                        data = message if isinstance(message, bytes) else message.encode()
                        if data and data[0] in out:
                            out[data[0]] += data[1:]
        except InvalidStatus as error:
            answer = error.response
            raise refused(
                httpx.Response(answer.status_code, content=bytes(answer.body or b""))
            ) from error
        except OSError as error:
            raise self._unreachable(error) from error
        stdout, stderr = (bytes(out[c]).decode(errors="replace") for c in (STDOUT, STDERR))
        return Result(stdout, stderr, exit_code(bytes(out[STATUS])))


def _namespace(obj: Mapping[str, Any], default: str | None) -> str:
    """Return an object's namespace; cluster-wide kinds ignore it."""
    return str((obj.get("metadata") or {}).get("namespace") or default or "default")


def _noted(wanted: Mapping[str, Any]) -> Object:
    """Return the manifest with itself as annotation, for the next apply (ours or kubectl's)."""
    metadata = dict(wanted["metadata"])
    notes = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
    bare = {**wanted, "metadata": {**metadata, "annotations": notes}}
    text = json.dumps(bare, separators=(",", ":"), sort_keys=True) + "\n"
    return {**wanted, "metadata": {**metadata, "annotations": {**notes, LAST_APPLIED: text}}}


def refused(answer: httpx.Response) -> KubeError:
    """Return the error for an answer, in the server's words (`metav1.Status`)."""
    try:
        status = answer.json()
        message, reason = str(status["message"]), str(status.get("reason") or "")
    except (ValueError, KeyError, TypeError):
        message, reason = answer.text.strip()[:500] or f"HTTP {answer.status_code}", ""
    return KubeError(
        f"Error from server ({reason}): {message}" if reason else f"Error from server: {message}",
        status=answer.status_code,
        reason=reason,
    )


def exit_code(status: bytes) -> int:
    """Return the exit code of exec's last message, a `metav1.Status`.

    Raises:
        KubeError: the command did not run.
    """
    found = json.loads(status or b'{"status": "Failure", "message": "the connection broke"}')
    if found.get("status") == "Success":
        return 0
    causes = (found.get("details") or {}).get("causes") or ()
    codes = [c["message"] for c in causes if c.get("reason") == "ExitCode"]
    if codes:
        return int(codes[0])
    raise KubeError(str(found.get("message")), status=int(found.get("code") or 500))


def access(kubeconfig: Path, context: str | None = None) -> Access:
    """Return how to reach a kubeconfig's cluster.

    Raises:
        ClusterError: the file or the context is not there.
    """
    try:
        config = yaml.safe_load(kubeconfig.read_text()) or {}
    except OSError as error:
        raise ClusterError(
            f"cannot be read: {error.strerror}", object=f"kubeconfig {kubeconfig}"
        ) from error
    name = context or config.get("current-context") or ""
    contexts = _by_name(config, "contexts", "context")
    if name not in contexts:
        raise ClusterError(
            f"has no context {name!r}",
            object=f"kubeconfig {kubeconfig}",
            allowed=", ".join(contexts) or "none",
        )
    chosen = contexts[name]
    cluster = _by_name(config, "clusters", "cluster").get(chosen["cluster"], {})
    user = _by_name(config, "users", "user").get(chosen.get("user", ""), {})
    if "exec" in user or "auth-provider" in user:
        user = {**user, "token": _plugin_token(kubeconfig, name)}
    headers = {}
    if user.get("tokenFile"):
        user = {**user, "token": _beside(kubeconfig, user["tokenFile"]).read_text().strip()}
    if user.get("token"):
        headers["authorization"] = f"Bearer {user['token']}"
    elif user.get("username"):
        pair = base64.b64encode(f"{user['username']}:{user['password']}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    server = str(cluster.get("server", "")).rstrip("/")
    secure = server.startswith("https")
    return Access(
        server=server,
        ssl=_ssl_context(kubeconfig, cluster, user) if secure else None,
        headers=headers,
    )


def _by_name(config: Mapping[str, Any], section: str, key: str) -> dict[str, Any]:
    return {entry["name"]: entry.get(key) or {} for entry in config.get(section) or ()}


def _beside(kubeconfig: Path, path: str) -> Path:
    """Return a file that a kubeconfig names; relative ones lie beside it."""
    return kubeconfig.parent / path


def _ssl_context(
    kubeconfig: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]
) -> ssl.SSLContext:
    authority = _data(kubeconfig, cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _data(kubeconfig, user, "client-certificate")
    key = _data(kubeconfig, user, "client-key")
    if certificate and key:
        # The ssl module loads them from files only; nobody else can open this one.
        with tempfile.NamedTemporaryFile() as pair:
            os.fchmod(pair.fileno(), 0o600)
            pair.write(certificate + b"\n" + key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _data(kubeconfig: Path, part: Mapping[str, Any], name: str) -> bytes:
    if part.get(f"{name}-data"):
        return base64.b64decode(part[f"{name}-data"])
    return _beside(kubeconfig, part[name]).read_bytes() if part.get(name) else b""


def _plugin_token(kubeconfig: Path, context: str) -> str:
    """Return the token that a kubeconfig's plugin gives, by the official client."""
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config

    configuration = Configuration()
    load_kube_config(
        config_file=str(kubeconfig), context=context, client_configuration=configuration
    )
    bearer = str(configuration.api_key.get("authorization", ""))
    return bearer.removeprefix("Bearer ")

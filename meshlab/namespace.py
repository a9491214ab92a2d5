"""A namespace and its pods in a notebook: apply, scale, logs, routes, exec."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from meshlab import manifest, workload
from meshlab.change import Changes
from meshlab.errors import ClusterError
from meshlab.observe.config_dump import VIEWS, choose, table
from meshlab.observe.table import Table
from meshlab.route import Route
from meshlab.wait import until

if TYPE_CHECKING:
    from meshlab.lab.load import Load
    from meshlab.mesh import Mesh

Object = dict[str, Any]

VIRTUAL_SERVICES = "virtualservices.networking.istio.io"


class Text(str):
    """Output of a command; shows itself as it is, with the line that does the same below."""

    command: str

    def __new__(cls, text: str, command: str) -> "Text":
        made = super().__new__(cls, text)
        made.command = command
        return made

    def __repr__(self) -> str:
        return f"{self.rstrip()}\n$ {self.command}"


class Pod:
    """A pod as it was when it was asked for; its verbs act on the one that runs."""

    def __init__(self, mesh: "Mesh", obj: Object) -> None:
        self._mesh = mesh
        self.object = obj

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def ip(self) -> str:
        return str((self.object.get("status") or {}).get("podIP", ""))

    @property
    def labels(self) -> Mapping[str, str]:
        return self.object["metadata"].get("labels") or {}

    @property
    def injected(self) -> bool:
        """Whether a sidecar runs beside the app."""
        return workload.has_sidecar(self.object)

    def exec(self, *command: str, container: str | None = None, stdin: str | None = None) -> Text:
        """Run a command in the pod (in its first own container) and return what it prints.

        Raises:
            ClusterError: it ended with another status than 0.
        """
        container = container or workload.app_container(self.object)
        result = self._mesh.kube.exec(
            self.name, self.namespace, list(command), container=container, stdin=stdin
        )
        line = f"kubectl -n {self.namespace} exec {self.name} -c {container} -- " + shlex.join(
            command
        )
        if result.code != 0:
            raise ClusterError(
                f"`{shlex.join(command)}` ended with status {result.code}",
                object=f"Pod {self.namespace}/{self.name}",
                found=(result.stderr or result.stdout).strip()[-500:],
                fix=f"Try: {line}",
            )
        return Text(result.stdout, line)

    def logs(self, container: str | None = None, *, tail: int | None = None) -> Text:
        """Return what a container wrote (`istio-proxy`: the access log)."""
        container = container or workload.app_container(self.object)
        lines = self._mesh.kube.logs(self.name, self.namespace, container=container, tail=tail)
        line = f"kubectl -n {self.namespace} logs {self.name} -c {container}"
        return Text("\n".join(lines), line + (f" --tail={tail}" if tail is not None else ""))

    def load(self, url: str, **flags: Any) -> "Load":
        """Send load from inside this pod, which has fortio, through its sidecar."""
        from meshlab.lab.load import Load  # the notebook library is not needed for anything else

        return Load.inside(
            url,
            kubeconfig=self._mesh.kubeconfig,
            namespace=self.namespace,
            pod=self.name,
            container=workload.app_container(self.object),
            **flags,
        )

    def proxy_admin(self, path: str, method: str = "GET") -> str:
        """Return a page of the sidecar's admin interface (`stats`, `config_dump`).

        Raises:
            ClusterError: the pod has no sidecar.
        """
        if not self.injected:
            raise ClusterError(
                "has no sidecar",
                object=f"Pod {self.namespace}/{self.name}",
                fix=f"Inject it: kubectl label namespace {self.namespace} istio-injection=enabled, "
                "then kubectl rollout restart its Deployment.",
            )
        return self.exec("pilot-agent", "request", method, path, container=workload.SIDECAR)

    def proxy_config(self, what: str = "all", **columns: str) -> Table | list[Table]:
        """Return what the sidecar is configured to do, in istioctl's tables.

        Args:
            what: listeners, routes, clusters, endpoints, secret, or all of them.
            columns: texts that columns must hold (`fqdn="blue"`, `port="80"`).
        """
        if what == "all":
            return [self._view(name, {}) for name in VIEWS]
        return self._view(what, columns)

    def _view(self, what: str, columns: Mapping[str, str]) -> Table:
        view = VIEWS[what]
        rows = view.rows(json.loads(self.proxy_admin(view.page)))
        line = f"$ meshlab proxy-config {what} {self.name}.{self.namespace}"
        return table(view, choose(view, rows, **columns), note=line)

    def __repr__(self) -> str:
        line = f"$ kubectl -n {self.namespace} get pod {self.name} -o wide"
        return workload.pods_table([self.object], datetime.now(UTC), line).text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        line = f"$ kubectl -n {self.namespace} get pod {self.name} -o wide"
        shown = workload.pods_table([self.object], datetime.now(UTC), line)
        return shown._repr_mimebundle_()


class Pods(Sequence[Pod]):
    """Pods in a list that shows itself as `kubectl get pods` does."""

    def __init__(self, pods: Sequence[Pod], command: str) -> None:
        self._pods = pods
        self.command = command

    def __getitem__(self, position: Any) -> Any:
        return self._pods[position]

    def __len__(self) -> int:
        return len(self._pods)

    def __iter__(self) -> Iterator[Pod]:
        return iter(self._pods)

    def table(self) -> Table:
        objects = [pod.object for pod in self._pods]
        return workload.pods_table(objects, datetime.now(UTC), note=f"$ {self.command}")

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return self.table()._repr_mimebundle_()


class Namespace:
    """A namespace of the mesh's cluster."""

    def __init__(self, mesh: "Mesh", name: str, commands: Sequence[str] = ()) -> None:
        self._mesh = mesh
        self.name = name
        self.commands = commands
        """The kubectl lines that made it what it was asked to be."""

    def apply(self, source: manifest.Source) -> Changes:
        """Apply manifests; objects without a namespace go into this one."""
        return self._mesh.apply(source, namespace=self.name)

    def delete(self, source: manifest.Source) -> Changes:
        """Delete what manifests name."""
        return self._mesh.delete(source, namespace=self.name)

    def pods(self, **labels: str) -> Pods:
        """Return the pods with these labels, oldest first."""
        selector = _selector(labels)
        found = self._mesh.kube.list("pods", self.name, label_selector=selector)
        found.sort(key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]))
        line = f"kubectl -n {self.name} get pods" + (f" -l {selector}" if selector else "")
        return Pods([Pod(self._mesh, obj) for obj in found], line)

    def pod(self, *, timeout: float = 30.0, **labels: str) -> Pod:
        """Return a ready pod with these labels; waits for one.

        Raises:
            ClusterError: none within `timeout` seconds.
        """
        ready: list[Pod] = []

        def missing() -> str:
            pods = self.pods(**labels)
            ready[:] = [pod for pod in pods if workload.is_ready(pod.object)]
            states = ", ".join(f"{p.name} {workload.state(p.object)}" for p in pods)
            return "" if ready else (states or f"no pod with labels {_selector(labels)}")

        what = f"a ready pod with labels {_selector(labels)} in namespace {self.name}"
        until(missing, what=what, timeout=timeout, fix=f"See: kubectl -n {self.name} get pods")
        return ready[0]

    def wait(self, *deployments: str, timeout: float = 60.0) -> Pods:
        """Wait until these Deployments (without names: all) are rolled out; return the pods.

        Raises:
            ClusterError: one is not; it says what is missing.
        """

        def missing() -> str:
            found = self._mesh.kube.list("deployments.apps", self.name)
            names = {d["metadata"]["name"] for d in found}
            lacking = [f"deployment {name}: not there" for name in deployments if name not in names]
            chosen = [d for d in found if not deployments or d["metadata"]["name"] in deployments]
            return "; ".join(filter(None, [*lacking, *map(workload.missing_of, chosen)]))

        until(
            missing,
            what=f"Deployments of namespace {self.name} rolled out",
            timeout=timeout,
            fix=f"See: kubectl -n {self.name} get pods; kubectl -n {self.name} get events",
        )
        which = [f"deployment/{name}" for name in deployments] or ["deployment --all"]
        command = "; ".join(
            f"kubectl -n {self.name} wait {name} --for=condition=Available" for name in which
        )
        return Pods(list(self.pods()), command)

    def scale(self, deployment: str, replicas: int, *, timeout: float = 60.0) -> Pods:
        """Scale a Deployment and wait until it has that many ready pods; return the pods."""
        self._mesh.kube.patch(
            "deployments.apps",
            deployment,
            {"spec": {"replicas": replicas}},
            self.name,
            subresource="scale",
        )
        pods = self.wait(deployment, timeout=timeout)
        line = f"kubectl -n {self.name} scale deployment {deployment} --replicas={replicas}"
        return Pods(list(pods), line)

    def logs(self, container: str | None = None, *, tail: int = 20, **labels: str) -> Text:
        """Return the last lines of every pod with these labels, each with its pod's name."""
        pods = self.pods(**labels)
        lines = [
            f"[{pod.name}] {line}"
            for pod in pods
            for line in pod.logs(container, tail=tail).splitlines()
        ]
        where = f" -c {container}" if container else ""
        selector = f" -l {_selector(labels)}" if labels else ""
        command = f"kubectl -n {self.name} logs{selector}{where} --prefix --tail={tail}"
        return Text("\n".join(lines), command)

    def get(self, resource: str, **labels: str) -> Table:
        """Return objects as `kubectl get` prints them (`deployments.apps`, `services`)."""
        return self._mesh.kube.table(resource, self.name, label_selector=_selector(labels))

    def route(self, host: str) -> Route:
        """Start a route: from the VirtualService of that name (or for that host), if there is one.

        Then only what the next steps name changes. Else it begins a new VirtualService for `host`.
        """
        present = self._mesh.kube.list(VIRTUAL_SERVICES, self.name)
        named = [vs for vs in present if vs["metadata"]["name"] == host]
        hosting = [vs for vs in present if host in vs["spec"].get("hosts", ())]
        existing = next(iter([*named, *hosting]), None)
        name = existing["metadata"]["name"] if existing else host.partition(".")[0]
        return Route(
            host=host,
            name=name,
            namespace=self.name,
            existing=existing,
            applier=lambda route: self._mesh.apply(route, namespace=self.name),
        )

    def table(self) -> Table:
        """Return its pods, and the lines that do the same below."""
        pods = self.pods()
        lines = "\n".join(f"$ {line}" for line in (*self.commands, pods.command))
        return replace(pods.table(), title=f"namespace/{self.name}", note=lines)

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return self.table()._repr_mimebundle_()


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())

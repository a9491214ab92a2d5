"""The mesh from a notebook or a program: `import meshlab as ml; mesh = ml.up()`.

Everything goes through the Kubernetes API, so it is the same on every backend; each result names
the kubectl (or curl) line that does the same.
"""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from meshlab import manifest, workload
from meshlab.api.field import ConfigErrors
from meshlab.change import Acknowledged, Change, Changes, diff, reference
from meshlab.cluster.phase import Progress, Step
from meshlab.control.validate import validate
from meshlab.errors import ClusterError, MeshlabError
from meshlab.kube import Kube
from meshlab.namespace import Namespace, Pod
from meshlab.observe.access_log import AccessLog
from meshlab.observe.certificate import own_certificates
from meshlab.observe.graph import Workload, edges
from meshlab.observe.metrics import Sample, parse
from meshlab.observe.mutual_tls import MutualTls, Proxy
from meshlab.observe.table import Table
from meshlab.route import Route
from meshlab.summary import Summary
from meshlab.wait import say

if TYPE_CHECKING:
    from meshlab.cluster.backend import Backend
    from meshlab.lab.load import Load

Object = dict[str, Any]

DEFAULT_NAME = "meshlab"
ROOT_NAMESPACE = "istio-system"
CONTROL_PLANE = f"/api/v1/namespaces/{ROOT_NAMESPACE}/services/istiod:15014/proxy"
SYNC_PAGE = f"{CONTROL_PLANE}/debug/syncz"
TOLD_TO_PROXIES = ("networking.istio.io", "security.istio.io")
"""API groups whose objects become configuration of the data plane."""
ACK_TIMEOUT = 10.0
INJECTION = "istio-injection"
_POD = ("", "pod", "pods", "po")
_DEPLOYMENT = ("deploy", "deployment", "deployments", "deployments.apps")


class Mesh:
    """A cluster with (or yet without) a mesh on it."""

    def __init__(self, kube: Kube, name: str, kubeconfig: Path) -> None:
        self.kube = kube
        self.name = name
        self.kubeconfig = kubeconfig
        self.applied: list[tuple[float, Object]] = []
        """When (Unix time) each object came into force, and what it was; deleted ones have no
        `spec`. Charts draw what was asked for beside what was measured."""

    # Namespaces and objects

    def namespace(self, name: str, inject: bool | None = None) -> Namespace:
        """Return a namespace, made where it is missing.

        Args:
            name: the namespace.
            inject: whether new pods get a sidecar (label `istio-injection`); None: as it is.
        """
        present = self.kube.get("namespaces", name)
        commands = [] if present else [f"kubectl create namespace {name}"]
        if inject is not None:
            label = f"{INJECTION}={_switch(inject)}"
            commands.append(f"kubectl label namespace {name} {label} --overwrite")
        if present is None:
            made: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            if inject is not None:
                made["metadata"]["labels"] = {INJECTION: _switch(inject)}
            self.kube.apply(made)
        elif inject is not None:
            labels = {"metadata": {"labels": {INJECTION: _switch(inject)}}}
            self.kube.patch("namespaces", name, labels)
        return Namespace(self, name, commands)

    def apply(self, source: manifest.Source, *, namespace: str | None = None) -> Changes:
        """Apply manifests and wait until every proxy concerned has acknowledged them.

        Args:
            source: a path, YAML text, objects or a route.
            namespace: for objects that name none; None: `default`.

        Raises:
            ConfigError: not manifests, or refused by the cluster, with the field and the fix.
        """
        objects = manifest.read(source)
        changes = [self._apply(obj, namespace) for obj in objects]
        text = source.yaml if isinstance(source, Route) else ""
        return Changes(changes=changes, command=_command("apply", source, namespace), manifest=text)

    def _apply(self, obj: Object, namespace: str | None) -> Change:
        # The cluster's webhook would say the same; from here the errors keep their parts.
        if problems := validate(obj):
            raise ConfigErrors(problems)
        before = self._present(obj, namespace)
        after, verb = self.kube.apply(obj, namespace=namespace)
        shown = diff(before, after) if before is not None and verb != "unchanged" else []
        told = self._acknowledged(after) if verb != "unchanged" else None
        self.applied.append((time.time(), after))
        return Change(reference=reference(after), verb=verb, diff=shown, acknowledged=told)

    def _present(self, obj: Object, namespace: str | None) -> Object | None:
        metadata = obj["metadata"]
        if not metadata.get("name"):
            return None
        return self.kube.get_like(obj, namespace=namespace)

    def delete(self, source: manifest.Source, *, namespace: str | None = None) -> Changes:
        """Delete what manifests name, last first; what is not there already is no error."""
        changes = []
        for obj in reversed(manifest.read(source)):
            before = self._present(obj, namespace)
            if before is None:
                changes.append(Change(reference=reference(obj), verb="not found"))
                continue
            self.kube.delete_like(before)
            told = self._acknowledged(before, deleted=True)
            gone = {key: before[key] for key in ("apiVersion", "kind", "metadata")}
            self.applied.append((time.time(), gone))
            changes.append(Change(reference=reference(obj), verb="deleted", acknowledged=told))
        return Changes(changes=changes, command=_command("delete", source, namespace))

    def _acknowledged(self, obj: Object, *, deleted: bool = False) -> Acknowledged | None:
        """Ask the control plane when the proxies had this version of an object."""
        group = obj["apiVersion"].rpartition("/")[0]
        if group not in TOLD_TO_PROXIES or not self.has_control_plane():
            return None
        metadata = obj["metadata"]
        start = time.monotonic()
        revision = "deleted" if deleted else metadata["resourceVersion"]
        answer = self.debug(
            f"debug/wait?resource={self.kube.plural(obj)}.{group}"
            f"&namespace={metadata.get('namespace', '')}&name={metadata['name']}"
            f"&resourceVersion={revision}&timeout={ACK_TIMEOUT:g}"
        )
        return Acknowledged(
            synced=bool(answer["synced"]),
            seconds=time.monotonic() - start,
            proxies=[p["id"] for p in answer.get("proxies") or ()],
            pending={
                p["id"]: f"refused it: {p['error']}" if p.get("error") else str(p["reason"])
                for p in answer.get("pending") or ()
            },
        )

    # The mesh

    def has_control_plane(self) -> bool:
        return self.kube.get("services", "istiod", ROOT_NAMESPACE) is not None

    def debug(self, page: str) -> Any:
        """Return a debug page of the control plane (`debug/syncz`), decoded.

        Raises:
            ClusterError: no control plane, or it does not answer.
        """
        answer = self.kube.proxy_get(f"{CONTROL_PLANE}/{page}", timeout=ACK_TIMEOUT + 5)
        if answer.status_code != 200:
            raise ClusterError(
                f"the control plane answers {answer.status_code}",
                object=f"Service {ROOT_NAMESPACE}/istiod",
                found=answer.text.strip()[:300],
                fix=f"See: kubectl -n {ROOT_NAMESPACE} get pods; `meshlab install` installs it.",
            )
        return answer.json()

    def wait(self, timeout: float = 60.0) -> Self:
        """Wait until control plane and ingress gateway are ready."""
        Namespace(self, ROOT_NAMESPACE).wait("istiod", "istio-ingressgateway", timeout=timeout)
        return self

    @property
    def ingress(self) -> str:
        """Return the base URL of the ingress gateway, as reached from this machine.

        Raises:
            ClusterError: there is no gateway, or it has no address yet.
        """
        service = self.kube.get("services", "istio-ingressgateway", ROOT_NAMESPACE)
        if service is None:
            raise ClusterError(
                "the mesh has no ingress gateway",
                object=f"Service {ROOT_NAMESPACE}/istio-ingressgateway",
                fix=f"Run `meshlab install --name {self.name}`.",
            )
        address = _load_balancer(service)
        if not address:
            raise ClusterError(
                "the ingress gateway has no address yet",
                object=f"Service {ROOT_NAMESPACE}/istio-ingressgateway",
                fix=f"See: kubectl -n {ROOT_NAMESPACE} get service istio-ingressgateway",
            )
        port = next(p for p in service["spec"]["ports"] if p["port"] == 80)
        # On a machine of its own the balancer listens on the port; on loopback it cannot, since
        # that port is the machine's, and the Service's node port is there instead.
        number = port["nodePort"] if address.startswith("127.") else port["port"]
        return f"http://{address}" if number == 80 else f"http://{address}:{number}"

    def pods(self) -> list[Pod]:
        """Return all pods that run a mesh proxy, sidecars and gateways."""
        return [Pod(self, p) for p in self.kube.list("pods") if workload.has_sidecar(p)]

    def pod(self, name: str) -> Pod:
        """Return a pod by `NAME.NAMESPACE` (istioctl's spelling) or `NAME` in `default`.

        `deploy/NAME.NAMESPACE` is a pod of that Deployment, a ready one if there is one.

        Raises:
            ClusterError: there is none.
        """
        kind, _, rest = name.rpartition("/")
        short, _, space = rest.partition(".")
        space = space or "default"
        if kind in _DEPLOYMENT:
            return self._pod_of_deployment(short, space)
        if kind not in _POD:
            raise ClusterError(
                "not a kind that has pods",
                object=name,
                found=kind,
                allowed="pod/NAME.NAMESPACE, deploy/NAME.NAMESPACE",
            )
        found = self.kube.get("pods", short, space)
        if found is None:
            raise ClusterError(
                "no such pod", object=f"Pod {space}/{short}", fix="See: kubectl get pods -A"
            )
        return Pod(self, found)

    def _pod_of_deployment(self, name: str, namespace: str) -> Pod:
        deployment = self.kube.get("deployments.apps", name, namespace)
        if deployment is None:
            raise ClusterError(
                "no such Deployment",
                object=f"Deployment {namespace}/{name}",
                fix="See: kubectl get deployments -A",
            )
        labels = deployment["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = self.kube.list("pods", namespace, label_selector=selector)
        if not pods:
            raise ClusterError(
                "has no pod",
                object=f"Deployment {namespace}/{name}",
                fix=f"See: kubectl -n {namespace} describe deployment {name}",
            )
        return Pod(self, max(pods, key=workload.is_ready))

    def proxies(self) -> Table:
        """Return what each proxy was sent and has acknowledged, as `istioctl proxy-status`."""
        from meshlab.observe.proxy_status import table

        shown = table(self.debug("debug/syncz"), time.time())
        note = "\n".join(filter(None, [shown.note, f"$ kubectl get --raw {SYNC_PAGE}"]))
        return replace(shown, note=note)

    def proxy_config(self, pod: str, what: str = "all", **columns: str) -> Table | list[Table]:
        """Return one proxy's configuration in istioctl's tables."""
        return self.pod(pod).proxy_config(what, **columns)

    def metrics(self, pod: Pod) -> list[Sample]:
        """Return a scrape of a pod's sidecar, as Prometheus would take it.

        Raises:
            ClusterError: it does not answer.
        """
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:15020/proxy/stats/prometheus"
        answer = self.kube.proxy_get(path)
        if answer.status_code != 200:
            raise ClusterError(
                f"the sidecar's metrics answer {answer.status_code}",
                object=f"Pod {pod.namespace}/{pod.name}",
                found=answer.text.strip()[:200],
            )
        return parse(answer.text)

    def access_log(self, after: int = 0) -> AccessLog:
        """Return a reader of the access log that the control plane collects from all proxies."""
        return AccessLog(self.debug, after)

    def mtls(self) -> MutualTls:
        """Return identities, certificate lifetimes and edges with padlocks.

        All from what the proxies report: certificates from their admin page `/certs`, edges from
        what the destinations' proxies counted.
        """
        pods = self.pods()
        with ThreadPoolExecutor(max_workers=8) as threads:
            answers = list(threads.map(self._ask_proxy, pods))
        example = pods[0] if pods else None
        commands = [
            f"kubectl -n {example.namespace} exec {example.name} -c {workload.SIDECAR} -- "
            "pilot-agent request GET certs",
            f"kubectl get --raw /api/v1/namespaces/{example.namespace}/pods/"
            f"{example.name}:15020/proxy/stats/prometheus",
        ] if example else []  # fmt: skip
        return MutualTls(
            proxies=[proxy for proxy, _ in answers],
            edges=edges(sample for _, samples in answers for sample in samples),
            commands=commands,
        )

    def _ask_proxy(self, pod: Pod) -> tuple[Proxy, list[Sample]]:
        known = Workload(_workload_name(pod), pod.namespace)
        try:
            certificates = own_certificates(json.loads(pod.proxy_admin("certs")))
            samples = self.metrics(pod)
        except MeshlabError as error:
            problem = f"does not answer: {error.what}"
            return (
                Proxy(pod=pod.name, namespace=pod.namespace, workload=known, problem=problem),
                [],
            )
        proxy = Proxy(
            pod=pod.name, namespace=pod.namespace, workload=known, certificates=certificates
        )
        return proxy, samples

    def load(self, url: str, **flags: Any) -> "Load":
        """Send load from outside: dials the ingress gateway and keeps the URL's Host.

        Flags as fortio's (`qps=50`, `requests=300`, `connections=4`); see `meshlab.lab.load`.
        """
        from meshlab.lab.load import Load  # the notebook library is not needed for anything else

        return Load.outside(url, ingress=self.ingress, **flags)

    def __repr__(self) -> str:
        return f"cluster {self.name}\n{self._table().text()}"

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        return self._table()._repr_mimebundle_()

    def _table(self) -> Table:
        rows = [
            [n["metadata"]["name"], (n["metadata"].get("labels") or {}).get(INJECTION, "-")]
            for n in self.kube.list("namespaces")
        ]
        note = f"$ kubectl get namespaces -L {INJECTION}"
        return Table(["NAMESPACE", "INJECTION"], rows, note=note)


def _switch(on: bool) -> str:
    return "enabled" if on else "disabled"


def _load_balancer(service: Object) -> str:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}]
    return str(ingress[0].get("ip") or ingress[0].get("hostname") or "")


def _workload_name(pod: Pod) -> str:
    """Return the name of what made the pod, as the proxies report it: the Deployment's."""
    owner = next(iter(pod.object["metadata"].get("ownerReferences") or ()), None)
    if owner is None:
        return pod.name
    name = str(owner["name"])
    digest = pod.labels.get("pod-template-hash", "")
    return name.removesuffix(f"-{digest}") if owner["kind"] == "ReplicaSet" and digest else name


def _command(verb: str, source: manifest.Source, namespace: str | None) -> str:
    """Return the kubectl line; text and objects come from standard input."""
    where = f" -n {namespace}" if namespace else ""
    is_path = isinstance(source, str) and "\n" not in source and not source.startswith("{")
    file = str(source) if is_path or hasattr(source, "read_text") else "-"
    return f"kubectl{where} {verb} -f {file}"


def _backend(name: str) -> "Backend":
    """Return a backend by name.

    Raises:
        ClusterError: there is no such backend.
    """
    if name != "embedded":
        raise ClusterError("no such backend", found=repr(name), allowed="embedded")
    from meshlab.cluster.embedded.backend import Embedded

    return Embedded()


def show_step(step: Step) -> None:
    """Tell of a step of a longer work: when it begins, and how long it took if that was long."""
    if not step.done:
        say(f"{step.name} …")
    elif step.seconds >= 1:
        say(f"{step.name}: {step.seconds:.1f} s")


def up(
    backend: str = "embedded",
    name: str = DEFAULT_NAME,
    *,
    mesh: bool = True,
    settings: Mapping[str, str] | None = None,
    progress: Progress = show_step,
) -> Mesh:
    """Make a cluster (or bring it up again), with the mesh on it; returns when both are ready.

    Args:
        backend: what makes the cluster.
        name: several live side by side by name.
        mesh: whether to install the mesh.
        settings: of the mesh's installation (`{"dataplane": "envoy"}`).
        progress: told of each step.
    """
    _backend(backend).up(name, progress)
    found = attach(name)
    if mesh:
        from meshlab import install

        install.install(found.kube, install.settings(**(settings or {})), progress)
    return found


def attach(name: str = DEFAULT_NAME) -> Mesh:
    """Return a cluster that is up.

    Raises:
        ClusterError: there is none of that name.
    """
    return connect(name)


def connect(name: str, kubeconfig: str | None = None, context: str | None = None) -> Mesh:
    """Return the cluster of that name, or the one that a kubeconfig leads to."""
    path = Path(kubeconfig) if kubeconfig else kubeconfig_of(name)
    return Mesh(Kube(path, context), name, path)


def kubeconfig_of(name: str = DEFAULT_NAME) -> Path:
    """Return the path of a cluster's kubeconfig.

    Raises:
        ClusterError: there is no such cluster.
    """
    return _backend("embedded").kubeconfig(name)


def stop(name: str = DEFAULT_NAME, *, progress: Progress = show_step) -> None:
    """Stop a cluster and keep its state."""
    _backend("embedded").stop(name, progress)


def down(name: str = DEFAULT_NAME, *, progress: Progress = show_step) -> None:
    """Remove a cluster and everything of it; harmless where there is none."""
    _backend("embedded").down(name, progress)


def clusters() -> list[str]:
    """Return the names of the clusters there are, running or stopped."""
    return _backend("embedded").names()


def status(name: str = DEFAULT_NAME) -> Summary:
    """Return how a cluster is, and what runs in it."""
    found = _backend("embedded").status(name)
    problems = "; ".join(found.problems)
    if found.state != "running":
        return Summary(name=name, state=found.state, problems=problems)
    mesh = attach(name)
    pods = mesh.kube.list("pods")
    ready = sum(workload.is_ready(pod) for pod in pods)
    proxies = sum(workload.has_sidecar(pod) for pod in pods)
    installed = mesh.has_control_plane()
    return Summary(
        name=name,
        state=found.state,
        server=found.server,
        pods=f"{ready}/{len(pods)}",
        mesh=f"{proxies} proxies" if installed else "-",
        ingress=mesh.ingress if installed else "-",
        problems=problems,
    )

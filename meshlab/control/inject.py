"""Whether a pod gets a sidecar, and the pod with it: pure (istio.md 2.1 to 2.3).

The webhook and `kube-inject` call the same functions. The containers and volumes stand in
`inject_template.yaml`; here is what depends on the pod.
"""

import copy
import functools
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from meshlab.control.probe_rewrite import rewrite_probes
from meshlab.control.registry.workload import owner_name
from meshlab.errors import ConfigError

Json = dict[str, Any]

INJECT = "sidecar.istio.io/inject"
STATUS = "sidecar.istio.io/status"
NATIVE = "sidecar.istio.io/nativeSidecar"
PROXY_CONFIG = "proxy.istio.io/config"
TRAFFIC = "traffic.sidecar.istio.io/"
PROXY = "istio-proxy"
INIT = "istio-init"
IGNORED_NAMESPACES = frozenset(
    {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectSettings:
    """The mesh's side of injection; a pod's annotations come on top."""

    image: str = "meshlab/proxy:latest"
    data_plane: str = "meshlab-proxy"
    discovery_address: str = "istiod.istio-system.svc:15012"
    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    root_namespace: str = "istio-system"
    native: bool = True
    """Whether every node knows native sidecars (init containers that stay)."""
    log_level: str = "warning"
    status_port: int = 15020


@dataclass(frozen=True, slots=True)
class Decision:
    inject: bool
    why: str


def decide(
    pod: Json,
    namespace: str,
    namespace_labels: Mapping[str, str] | None,
    settings: InjectSettings,
) -> Decision:
    """Decide in Istio's order; `namespace_labels` None: asked by hand (`kube-inject`)."""
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    if namespace_labels is not None and not _selected(namespace_labels, labels):
        return Decision(False, "namespace and pod labels do not ask for it")
    if spec.get("hostNetwork"):
        return Decision(False, "the pod shares the host's network: capture would hit the host")
    if namespace in IGNORED_NAMESPACES or namespace == settings.root_namespace:
        return Decision(False, f"namespace {namespace} is left alone")
    if STATUS in annotations:
        return Decision(False, "the pod has a sidecar already")
    match labels.get(INJECT, annotations.get(INJECT)):
        case "true":
            return Decision(True, f"{INJECT} is true")
        case "false":
            return Decision(False, f"{INJECT} is false")
        case _:
            # Absent, or a value that is neither: the mesh's policy, which is to inject.
            return Decision(True, "the mesh's policy")


def _selected(namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> bool:
    """Say what the webhook's selectors say; `istio-injection` outranks `istio.io/rev`."""
    asked = pod_labels.get(INJECT)
    match namespace_labels.get("istio-injection"):
        case "enabled":
            return asked != "false"
        case None if "istio.io/rev" not in namespace_labels:
            return asked == "true" and "istio.io/rev" not in pod_labels
        case _:
            return False


def inject(
    pod: Json,
    namespace: str,
    settings: InjectSettings,
    *,
    type_owner: tuple[str, str, str] | None = None,
) -> Json:
    """Return the pod with its sidecar; the argument is left as it is.

    `type_owner` is (API version, kind, name) of the workload whose template this is; without it
    the pod's own owner references say.

    Raises:
        ConfigError: an annotation asks for what is not supported.
    """
    made = copy.deepcopy(pod)
    meta = made.setdefault("metadata", {})
    spec = made.setdefault("spec", {})
    annotations = meta.setdefault("annotations", {}) or {}
    meta["annotations"] = annotations
    owner = type_owner or owner_of(meta)
    app_containers = [c for c in spec.get("containers") or () if c["name"] != PROXY]
    template = _filled(_values(made, app_containers, namespace, owner, settings))
    status_port = _status_port(annotations, settings)
    proxy, init = template["proxy"], template["init"]
    init["args"] += capture_flags(annotations, status_port)
    _resources(proxy, annotations)
    init["resources"] = copy.deepcopy(proxy["resources"])
    _readiness(proxy, annotations)
    _proxy_metadata(proxy, annotations)
    if annotations.get("sidecar.istio.io/rewriteAppHTTPProbers") != "false":
        originals = rewrite_probes(app_containers, status_port)
        if originals:
            _set_env(proxy, "ISTIO_KUBE_APP_PROBERS", json.dumps(originals, sort_keys=True))
    _merge_metrics(proxy, annotations, status_port)
    theirs = [c for c in spec.get("containers") or () if c["name"] == PROXY]
    if theirs:
        proxy = overlay(proxy, {k: v for k, v in theirs[0].items() if v != "auto"})
    native = settings.native
    if NATIVE in annotations:
        native = annotations[NATIVE] == "true"
    _place(spec, app_containers, init, proxy, native=native)
    spec["volumes"] = [*(spec.get("volumes") or ()), *template["volumes"]]
    _label(meta, owner[2])
    _annotate(annotations, spec, app_containers, template["volumes"], native=native)
    return made


def _place(
    spec: Json, app_containers: list[Json], init: Json, proxy: Json, *, native: bool
) -> None:
    """Put capture and proxy where they start first: the user's containers find the mesh ready."""
    users = list(spec.get("initContainers") or ())
    if native:
        proxy["restartPolicy"] = "Always"
        proxy["lifecycle"] = {
            "preStop": {
                "exec": {
                    "command": ["pilot-agent", "request", "--debug-port=15020", "POST", "drain"]
                }
            },
            **(proxy.get("lifecycle") or {}),
        }
        spec["initContainers"] = [init, proxy, *users]
        spec["containers"] = app_containers
        return
    # holdApplicationUntilProxyStarts: containers start in order, each after the last one's hook.
    proxy["lifecycle"] = {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}
    proxy["lifecycle"]["preStop"] = {
        "exec": {"command": ["pilot-agent", "request", "--debug-port=15020", "POST", "drain"]}
    }
    spec["initContainers"] = [*users, init]
    spec["containers"] = [proxy, *app_containers]


def capture_flags(annotations: Mapping[str, str], status_port: int) -> list[str]:
    """Return istio-iptables' flags from a pod's annotations (istio.md 2.2).

    Raises:
        ConfigError: an interception mode that is not supported, no port, no range of addresses.
    """
    for name in _PORT_LISTS:
        _check_list(annotations, name, _is_port, "ports 1 to 65535, separated by commas")
    for name in _RANGE_LISTS:
        _check_list(annotations, name, _is_range, "ranges such as 10.0.0.0/8, separated by commas")
    mode = annotations.get("sidecar.istio.io/interceptionMode", "REDIRECT")
    if mode != "REDIRECT":
        raise ConfigError(
            "is not supported",
            field="metadata.annotations[sidecar.istio.io/interceptionMode]",
            found=mode,
            allowed="REDIRECT",
        )
    left_alone = ["15090", "15021", str(status_port)]
    if more := annotations.get(f"{TRAFFIC}excludeInboundPorts"):
        left_alone.append(more)
    flags = [
        *("-p", "15001", "-z", "15006", "-u", "1337", "-m", mode),
        *("-i", annotations.get(f"{TRAFFIC}includeOutboundIPRanges", "*")),
        *("-x", annotations.get(f"{TRAFFIC}excludeOutboundIPRanges", "")),
        *("-b", annotations.get(f"{TRAFFIC}includeInboundPorts", "*")),
        *("-d", ",".join(left_alone)),
    ]
    for flag, name in (
        ("-q", "includeOutboundPorts"),
        ("-o", "excludeOutboundPorts"),
        ("-c", "excludeInterfaces"),
    ):
        if value := annotations.get(f"{TRAFFIC}{name}"):
            flags += [flag, value]
    return flags


_PORT_LISTS = (
    "includeInboundPorts",
    "excludeInboundPorts",
    "includeOutboundPorts",
    "excludeOutboundPorts",
)
_RANGE_LISTS = ("includeOutboundIPRanges", "excludeOutboundIPRanges")


def _check_list(
    annotations: Mapping[str, str], name: str, allows: Callable[[str], bool], allowed: str
) -> None:
    """Refuse at admission what istio-init would fail at, in every restart of the pod."""
    text = annotations.get(f"{TRAFFIC}{name}", "")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if name.startswith("include") and parts == ["*"]:
        return
    if wrong := [part for part in parts if not allows(part)]:
        raise ConfigError(
            "cannot be captured by",
            field=f"metadata.annotations[{TRAFFIC}{name}]",
            found=wrong[0],
            allowed=f"* or {allowed}" if name.startswith("include") else allowed,
        )


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


def _is_range(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def owner_of(meta: Json) -> tuple[str, str, str]:
    """Return (API version, kind, name) of the workload a pod belongs to."""
    name = owner_name(meta)
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            if owner["kind"] == "ReplicaSet" and name != owner["name"]:
                return "apps/v1", "Deployment", name
            return owner["apiVersion"], owner["kind"], name
    return "v1", "Pod", name


@functools.cache
def _template() -> Json:
    text = Path(__file__).with_name("inject_template.yaml").read_text()
    template: Json = yaml.safe_load(text)
    return template


_PLACE = re.compile(r"\$\{([A-Z_]+)\}")


def _filled(values: Mapping[str, str]) -> Json:
    """Return the template with every ${NAME} replaced."""

    def fill(part: Any) -> Any:
        if isinstance(part, str):
            return _PLACE.sub(lambda match: values[match[1]], part)
        if isinstance(part, dict):
            return {key: fill(value) for key, value in part.items()}
        if isinstance(part, list):
            return [fill(value) for value in part]
        return part

    filled: Json = fill(_template())
    return filled


def _values(
    pod: Json,
    app_containers: Iterable[Json],
    namespace: str,
    owner: tuple[str, str, str],
    settings: InjectSettings,
) -> dict[str, str]:
    annotations = pod["metadata"]["annotations"]
    version, kind, name = owner
    ports = [
        {k: port[k] for k in ("name", "containerPort", "protocol") if k in port}
        for container in app_containers
        for port in container.get("ports") or ()
    ]
    config = _proxy_config(annotations)
    address = (
        annotations.get("sidecar.istio.io/discoveryAddress")
        or config.get("discoveryAddress")
        or settings.discovery_address
    )
    path = f"api{'' if version == 'v1' else 's'}/{version}/namespaces/{namespace}"
    return {
        "IMAGE": annotations.get("sidecar.istio.io/proxyImage") or settings.image,
        "CLUSTER_DOMAIN": settings.cluster_domain,
        "LOG_LEVEL": annotations.get("sidecar.istio.io/logLevel") or settings.log_level,
        "DISCOVERY_ADDRESS": address,
        "DATA_PLANE": settings.data_plane,
        "PROXY_CONFIG": json.dumps({**config, "discoveryAddress": address}, sort_keys=True),
        "TRUST_DOMAIN": settings.trust_domain,
        "POD_PORTS": json.dumps(ports),
        "APP_CONTAINERS": ",".join(container["name"] for container in app_containers),
        "CLUSTER_ID": settings.cluster_id,
        "WORKLOAD_NAME": name,
        "OWNER": f"kubernetes://{path}/{kind.lower()}s/{name}",
    }


def _proxy_config(annotations: Mapping[str, str]) -> Json:
    text = annotations.get(PROXY_CONFIG, "")
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(
            f"is not YAML: {error}", field=f"metadata.annotations[{PROXY_CONFIG}]"
        ) from error
    if not isinstance(config, dict):
        raise ConfigError("is not an object", field=f"metadata.annotations[{PROXY_CONFIG}]")
    return config


def _status_port(annotations: Mapping[str, str], settings: InjectSettings) -> int:
    text = annotations.get("status.sidecar.istio.io/port", "")
    return int(text) if text.isdigit() and int(text) else settings.status_port


def _resources(proxy: Json, annotations: Mapping[str, str]) -> None:
    for annotation, section, name in (
        ("proxyCPU", "requests", "cpu"),
        ("proxyMemory", "requests", "memory"),
        ("proxyCPULimit", "limits", "cpu"),
        ("proxyMemoryLimit", "limits", "memory"),
    ):
        if value := annotations.get(f"sidecar.istio.io/{annotation}"):
            proxy["resources"][section][name] = value


def _readiness(proxy: Json, annotations: Mapping[str, str]) -> None:
    for name in ("initialDelaySeconds", "periodSeconds", "failureThreshold"):
        value = annotations.get(f"readiness.status.sidecar.istio.io/{name}", "")
        if value.isdigit():
            proxy["readinessProbe"][name] = int(value)


def _proxy_metadata(proxy: Json, annotations: Mapping[str, str]) -> None:
    """Turn `proxyMetadata` of the pod's ProxyConfig into environment, as Istio does."""
    for name, value in (_proxy_config(annotations).get("proxyMetadata") or {}).items():
        _set_env(proxy, name, str(value))


def _set_env(container: Json, name: str, value: str) -> None:
    container["env"] = [e for e in container["env"] if e["name"] != name]
    container["env"].append({"name": name, "value": value})


def _merge_metrics(proxy: Json, annotations: dict[str, str], status_port: int) -> None:
    """Point the pod's Prometheus annotations at the agent, which merges (istio.md 2.3)."""
    if annotations.get("prometheus.istio.io/merge-metrics") == "false":
        return
    if annotations.get("prometheus.io/scrape") == "false":
        return
    if annotations.get("prometheus.io/scrape") == "true":
        original = {
            "scrape": "true",
            "path": annotations.get("prometheus.io/path", ""),
            "port": annotations.get("prometheus.io/port", "80"),
        }
        _set_env(proxy, "ISTIO_PROMETHEUS_ANNOTATIONS", json.dumps(original))
    annotations["prometheus.io/scrape"] = "true"
    annotations["prometheus.io/port"] = str(status_port)
    annotations["prometheus.io/path"] = "/stats/prometheus"


def _label(meta: Json, workload: str) -> None:
    labels = dict(meta.get("labels") or {})
    name = labels.get("app.kubernetes.io/name") or labels.get("app") or workload
    revision = labels.get("app.kubernetes.io/version") or labels.get("version") or "latest"
    for key, value in (
        ("security.istio.io/tlsMode", "istio"),
        ("service.istio.io/canonical-name", name[:63]),
        ("service.istio.io/canonical-revision", revision),
    ):
        labels.setdefault(key, value)
    meta["labels"] = labels


def _annotate(
    annotations: dict[str, str],
    spec: Json,
    app_containers: list[Json],
    volumes: list[Json],
    *,
    native: bool,
) -> None:
    status = {
        "initContainers": [INIT, PROXY] if native else [INIT],
        "containers": [] if native else [PROXY],
        "volumes": [volume["name"] for volume in volumes],
        "imagePullSecrets": None,
        "revision": "default",
    }
    annotations[STATUS] = json.dumps(status)
    annotations["istio.io/rev"] = "default"
    if app_containers:
        for name in ("default-container", "default-logs-container"):
            annotations.setdefault(f"kubectl.kubernetes.io/{name}", app_containers[0]["name"])


_LIST_KEYS = ("name", "mountPath", "containerPort")


def overlay(ours: Any, theirs: Any) -> Any:
    """Lay the user's fields over ours: objects by field, lists of objects by their key."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        merged = {k: overlay(v, theirs[k]) if k in theirs else v for k, v in ours.items()}
        return {**merged, **{k: v for k, v in theirs.items() if k not in ours}}
    if isinstance(ours, list) and isinstance(theirs, list):
        for key in reversed(_LIST_KEYS):
            if all(isinstance(e, dict) and key in e for e in (*ours, *theirs)):
                by_key = {entry[key]: entry for entry in theirs}
                kept = [overlay(e, by_key.pop(e[key], e)) for e in ours]
                return [*kept, *by_key.values()]
    return theirs


def json_patch(before: Any, after: Any, path: str = "") -> list[Json]:
    """Return the RFC 6902 operations from one document to another; lists change whole."""
    if before == after:
        return []
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [{"op": "replace", "path": path, "value": after}]
    operations: list[Json] = []
    for key in sorted({*before, *after}):
        place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in after:
            operations.append({"op": "remove", "path": place})
        elif key not in before:
            operations.append({"op": "add", "path": place, "value": after[key]})
        else:
            operations += json_patch(before[key], after[key], place)
    return operations


_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}


def inject_manifest(document: Json, namespace: str, settings: InjectSettings) -> Json:
    """Return a document as `kube-inject` does: pod templates with sidecar, all else as it is.

    `namespace` is where a document goes that names none.
    """
    if document.get("kind") == "List":
        items = [inject_manifest(i, namespace, settings) for i in document.get("items") or ()]
        return {**document, "items": items}
    if document.get("kind") in _TEMPLATES:
        return _inject_template(document, namespace, settings)
    return document


def gateway_pod(
    labels: Mapping[str, str], namespace: str, name: str, settings: InjectSettings
) -> tuple[Json, list[Json]]:
    """Return the proxy container of a gateway's Deployment, and its volumes.

    A gateway is the sidecar without an app: nothing is captured, it listens on its own ports.
    """
    pod = {"metadata": {"labels": dict(labels), "annotations": {}}, "spec": {}}
    owner = ("apps/v1", "Deployment", name)
    template = _filled(_values(pod, [], namespace, owner, settings))
    proxy: Json = template["proxy"]
    proxy["args"] = ["router" if word == "sidecar" else word for word in proxy["args"]]
    unused = ("ISTIO_META_INTERCEPTION_MODE", "ISTIO_META_APP_CONTAINERS", "ISTIO_META_POD_PORTS")
    proxy["env"] = [entry for entry in proxy["env"] if entry["name"] not in unused]
    proxy["readinessProbe"]["periodSeconds"] = 2
    return proxy, template["volumes"]


def _inject_template(document: Json, namespace: str, settings: InjectSettings) -> Json:
    made = copy.deepcopy(document)
    meta = made.get("metadata") or {}
    namespace = meta.get("namespace") or namespace
    way = _TEMPLATES[made["kind"]]
    holder: Json = made
    for name in way[:-1]:
        holder = holder.get(name) or {}
    template = holder.get(way[-1]) if way else made
    if not template or not decide(template, namespace, None, settings).inject:
        return made
    owner = (made["apiVersion"], made["kind"], meta.get("name", "")) if way else None
    injected = inject(template, namespace, settings, type_owner=owner)
    if not way:
        return injected
    holder[way[-1]] = injected
    return made

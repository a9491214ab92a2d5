"""What an installation of the mesh consists of on a cluster, and putting it there and away again.

Plain manifests under Istio's names. Everything carries our label, so that an uninstall removes
what was installed and nothing else; a foreign istiod, its webhooks and its CRDs are left alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from meshlab.api import registry, schema
from meshlab.cluster.phase import Phase, Progress, run
from meshlab.control.inject import IGNORED_NAMESPACES, InjectSettings, gateway_pod
from meshlab.errors import ClusterError, ConfigError
from meshlab.kube import Kube
from meshlab.wait import until

Json = dict[str, Any]

NAMESPACE = "istio-system"
ISTIOD = "istiod"
GATEWAY = "istio-ingressgateway"
INJECTOR = "istio-sidecar-injector"
VALIDATOR = f"istio-validator-{NAMESPACE}"
ROOT_CONFIG_MAP = "istio-ca-root-cert"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = "meshlab"
READY_TIMEOUT = 120.0
GONE_TIMEOUT = 60.0
DATA_PLANES = ("meshlab-proxy", "envoy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may be chosen at installation (`--set name=value`)."""

    dataplane: str = "meshlab-proxy"
    """Default data plane of sidecars and gateway: `meshlab-proxy` or `envoy`."""
    access_log: str = "/dev/stdout"
    """`accessLogFile` of the mesh; "" for none."""
    trust_domain: str = "cluster.local"
    tag: str = "latest"
    """Tag of the images `meshlab/proxy` and `meshlab/control`."""
    replicas: int = 1
    """Of the control plane."""

    @property
    def injection(self) -> InjectSettings:
        """Return what injection needs to know, as the control plane will be told."""
        return InjectSettings(
            image=f"meshlab/proxy:{self.tag}",
            data_plane=self.dataplane,
            trust_domain=self.trust_domain,
            root_namespace=NAMESPACE,
        )


def settings(**given: str) -> Settings:
    """Return settings from `--set` pairs.

    Raises:
        ConfigError: no such setting, or a value it cannot have.
    """
    names = [field.name for field in dataclasses.fields(Settings)]
    for name in given:
        if name not in names:
            raise ConfigError("is no setting", object="--set", found=name, allowed=", ".join(names))
    wished: dict[str, Any] = dict(given)
    if "replicas" in given:
        if not given["replicas"].isdigit():
            raise ConfigError("is not a number", object="--set", field="replicas")
        wished["replicas"] = int(given["replicas"])
    made = Settings(**wished)
    if made.dataplane not in DATA_PLANES:
        raise ConfigError(
            "is no data plane",
            object="--set",
            field="dataplane",
            found=made.dataplane,
            allowed=", ".join(DATA_PLANES),
        )
    return made


# What is installed


def manifests(settings: Settings) -> list[Json]:
    """Return all objects, in the order in which they are applied."""
    return [
        *crds(),
        _namespace(),
        *accounts(),
        mesh_config(settings),
        *services(),
        *webhooks(),
        *deployments(settings),
    ]


def crds() -> list[Json]:
    return [_labelled(crd) for crd in schema.crds()]


def _namespace() -> Json:
    return _object("v1", "Namespace", NAMESPACE, namespace="")


def accounts() -> list[Json]:
    """Return service accounts and their rights: each the least that its process asks for."""
    read = ["get", "list", "watch"]
    cluster_rules = [
        _rule("", ["namespaces", "nodes", "pods", "services"], read),
        _rule("discovery.k8s.io", ["endpointslices"], read),
        _rule("", ["configmaps"], [*read, "create", "patch"]),
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
        _rule(
            "admissionregistration.k8s.io",
            ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            [*read, "update"],
        ),
        *(
            _rule(group, ["*"], [*read, "update", "patch"])
            for group in sorted({kind.group for kind in registry.KINDS})
        ),
    ]
    own_rules = [
        _rule("", ["secrets"], ["get", "create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "create", "update"]),
    ]
    rbac = "rbac.authorization.k8s.io/v1"
    wide = f"istiod-clusterrole-{NAMESPACE}"
    subject = {"kind": "ServiceAccount", "name": ISTIOD, "namespace": NAMESPACE}
    return [
        _object("v1", "ServiceAccount", ISTIOD),
        _object("v1", "ServiceAccount", f"{GATEWAY}-service-account"),
        _object(rbac, "ClusterRole", wide, namespace="", rules=cluster_rules),
        _object(
            rbac,
            "ClusterRoleBinding",
            wide,
            namespace="",
            roleRef=_role_ref("ClusterRole", wide),
            subjects=[subject],
        ),
        _object(rbac, "Role", ISTIOD, rules=own_rules),
        _object(
            rbac,
            "RoleBinding",
            ISTIOD,
            roleRef=_role_ref("Role", ISTIOD),
            subjects=[subject],
        ),
    ]


def mesh_config(settings: Settings) -> Json:
    """Return ConfigMap `istio`: MeshConfig."""
    config = {
        "accessLogFile": settings.access_log,
        "enableAutoMtls": True,
        "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
        "rootNamespace": NAMESPACE,
        "trustDomain": settings.trust_domain,
    }
    return _object("v1", "ConfigMap", "istio", data={"mesh": yaml.safe_dump(config)})


def services() -> list[Json]:
    istiod_ports = [
        {"name": "https-dns", "port": 15012},
        {"name": "https-webhook", "port": 443, "targetPort": 15017},
        {"name": "http-monitoring", "port": 15014},
    ]
    gateway_ports = [
        {"name": "status-port", "port": 15021},
        {"name": "http2", "port": 80},
    ]
    return [
        _object(
            "v1",
            "Service",
            ISTIOD,
            labels=_istiod_labels(),
            spec={"selector": {"app": ISTIOD, "istio": "pilot"}, "ports": istiod_ports},
        ),
        _object(
            "v1",
            "Service",
            GATEWAY,
            labels=_gateway_labels(),
            spec={
                "type": "LoadBalancer",
                "selector": _gateway_labels(),
                "ports": gateway_ports,
            },
        ),
    ]


def webhooks() -> list[Json]:
    """Return injection and validation; the control plane adds its root to both by itself."""
    group = "admissionregistration.k8s.io/v1"
    left_alone = {
        "key": "kubernetes.io/metadata.name",
        "operator": "NotIn",
        "values": sorted({*IGNORED_NAMESPACES, NAMESPACE}),
    }
    inject = "sidecar.istio.io/inject"
    by_namespace = _injector(
        "namespace",
        [_is("istio-injection", "In", "enabled"), left_alone],
        [_is(inject, "NotIn", "false")],
    )
    by_pod = _injector(
        "object",
        [_is("istio-injection", "DoesNotExist"), _is("istio.io/rev", "DoesNotExist"), left_alone],
        [_is(inject, "In", "true"), _is("istio.io/rev", "DoesNotExist")],
    )
    groups = sorted({kind.group for kind in registry.KINDS})
    validation = {
        **_webhook("rev.validation.istio.io", "/validate"),
        # Until the control plane answers, it must not stand in the way; it makes this Fail.
        "failurePolicy": "Ignore",
        "rules": [
            {
                "apiGroups": groups,
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["*"],
                "scope": "*",
            }
        ],
    }
    return [
        _object(
            group,
            "MutatingWebhookConfiguration",
            INJECTOR,
            namespace="",
            webhooks=[by_namespace, by_pod],
        ),
        _object(
            group,
            "ValidatingWebhookConfiguration",
            VALIDATOR,
            namespace="",
            webhooks=[validation],
        ),
    ]


def deployments(settings: Settings) -> list[Json]:
    return [_istiod(settings), _gateway(settings)]


def _istiod(settings: Settings) -> Json:
    env = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "PROXY_IMAGE", "value": f"meshlab/proxy:{settings.tag}"},
        {"name": "MESHLAB_DATAPLANE", "value": settings.dataplane},
        {"name": "TRUST_DOMAIN", "value": settings.trust_domain},
    ]
    container = {
        "name": "discovery",
        "image": f"meshlab/control:{settings.tag}",
        "imagePullPolicy": "IfNotPresent",
        "env": env,
        "ports": [
            {"name": "https-dns", "containerPort": 15012},
            {"name": "https-webhook", "containerPort": 15017},
            {"name": "http-monitoring", "containerPort": 15014},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": 15014},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}},
        "securityContext": _unprivileged(),
    }
    spec = {"serviceAccountName": ISTIOD, "containers": [container]}
    labels = {"app": ISTIOD, "istio": "pilot"}
    return _deployment(ISTIOD, labels, spec, replicas=settings.replicas)


def _gateway(settings: Settings) -> Json:
    labels = _gateway_labels()
    proxy, volumes = gateway_pod(labels, NAMESPACE, GATEWAY, settings.injection)
    proxy["ports"] = [
        {"name": "status-port", "containerPort": 15021, "protocol": "TCP"},
        {"name": "http2", "containerPort": 80, "protocol": "TCP"},
        *proxy["ports"],
    ]
    spec = {
        "serviceAccountName": f"{GATEWAY}-service-account",
        "securityContext": {
            "runAsUser": 1337,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
            "fsGroup": 1337,
            # Port 80 without a capability: the pod's own network namespace, nobody else's.
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "containers": [proxy],
        "volumes": volumes,
    }
    canonical = {
        "service.istio.io/canonical-name": GATEWAY,
        "service.istio.io/canonical-revision": "latest",
        "sidecar.istio.io/inject": "false",
    }
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "15020",
        "prometheus.io/path": "/stats/prometheus",
    }
    made = _deployment(GATEWAY, labels, spec, extra_labels=canonical)
    made["spec"]["template"]["metadata"]["annotations"] = annotations
    return made


def _deployment(
    name: str,
    labels: Mapping[str, str],
    spec: Json,
    *,
    replicas: int = 1,
    extra_labels: Mapping[str, str] | None = None,
) -> Json:
    return _object(
        "apps/v1",
        "Deployment",
        name,
        labels=labels,
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": dict(labels)},
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {**labels, **(extra_labels or {})}},
                "spec": spec,
            },
        },
    )


def _istiod_labels() -> dict[str, str]:
    return {"app": ISTIOD, "istio": "pilot"}


def _gateway_labels() -> dict[str, str]:
    return {"app": GATEWAY, "istio": "ingressgateway"}


def _unprivileged() -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1337,
        "runAsGroup": 1337,
    }


def _injector(word: str, namespaces: list[Json], pods: list[Json]) -> Json:
    return {
        **_webhook(f"{word}.sidecar-injector.istio.io", "/inject"),
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "*",
            }
        ],
        "namespaceSelector": {"matchExpressions": namespaces},
        "objectSelector": {"matchExpressions": pods},
    }


def _webhook(name: str, path: str) -> Json:
    service = {"name": ISTIOD, "namespace": NAMESPACE, "path": path, "port": 443}
    return {
        "name": name,
        "clientConfig": {"service": service},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 10,
    }


def _is(key: str, operator: str, *values: str) -> Json:
    expression: Json = {"key": key, "operator": operator}
    return {**expression, "values": list(values)} if values else expression


def _rule(group: str, resources: list[str], verbs: list[str]) -> Json:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _role_ref(kind: str, name: str) -> Json:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def _object(
    api_version: str,
    kind: str,
    name: str,
    *,
    namespace: str = NAMESPACE,
    labels: Mapping[str, str] | None = None,
    **parts: Any,
) -> Json:
    meta: Json = {"name": name, "labels": {**(labels or {}), MANAGED_BY: OURS}}
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **parts}


def _labelled(obj: Json) -> Json:
    meta = obj["metadata"]
    labels = {**(meta.get("labels") or {}), MANAGED_BY: OURS}
    return {**obj, "metadata": {**meta, "labels": labels}}


# Putting it there and away


def install(kube: Kube, settings: Settings, progress: Progress) -> None:
    """Install or update the mesh; returns when control plane and gateway are ready.

    Raises:
        ClusterError: a foreign mesh is there, or a phase failed; what it made is removed again.
    """
    made: list[Json] = []
    check_foreign(kube)

    def apply(objects: list[Json]) -> Callable[[], None]:
        def do() -> None:
            for obj in objects:
                _apply(kube, obj, made)

        return do

    def missing(name: str) -> str:
        return _missing(kube.get("deployments.apps", name, NAMESPACE))

    def ready() -> None:
        for name in (ISTIOD, GATEWAY):
            until(
                functools.partial(missing, name),
                what=f"Deployment {NAMESPACE}/{name} rolled out",
                timeout=READY_TIMEOUT,
                fix=f"See: kubectl -n {NAMESPACE} get pods; kubectl -n {NAMESPACE} get events",
            )

    def undo() -> None:
        while made:
            kube.delete_like(made.pop())

    run(
        [
            Phase(name="custom resources", do=apply(crds()), undo=undo),
            Phase(
                name="accounts and mesh configuration",
                do=apply([_namespace(), *accounts(), mesh_config(settings), *services()]),
            ),
            Phase(
                name="control plane and ingress gateway",
                do=apply([*deployments(settings), *webhooks()]),
            ),
            Phase(name="mesh ready", do=ready),
        ],
        progress,
    )


def uninstall(kube: Kube, progress: Progress) -> None:
    """Remove what `install` installed, and what the control plane made since.

    Raises:
        ClusterError: something cannot be removed.
    """

    def remove(objects: list[Json]) -> Callable[[], None]:
        def do() -> None:
            for obj in reversed(objects):
                live = _live(kube, obj)
                if live is not None and _is_ours(live):
                    kube.delete_like(live)

        return do

    def roots() -> None:
        for obj in kube.list("configmaps", label_selector="istio.io/config=true"):
            if obj["metadata"]["name"] == ROOT_CONFIG_MAP:
                kube.delete_like(obj)

    def gone() -> None:
        live = kube.get("namespaces", NAMESPACE)
        if live is not None and _is_ours(live):
            until(
                lambda: "its contents" if kube.get("namespaces", NAMESPACE) else "",
                what=f"namespace {NAMESPACE} gone",
                timeout=GONE_TIMEOUT,
                fix=f"See: kubectl -n {NAMESPACE} get all",
            )

    wished = Settings()
    run(
        [
            Phase(name="webhooks", do=remove(webhooks())),
            Phase(
                name="control plane and ingress gateway",
                do=remove([mesh_config(wished), *services(), *deployments(wished)]),
            ),
            Phase(name="trust roots", do=roots),
            Phase(name="custom resources", do=remove(crds())),
            Phase(name="accounts", do=remove([_namespace(), *accounts()])),
            Phase(name="namespace gone", do=gone),
        ],
        progress,
    )


def check_foreign(kube: Kube) -> None:
    """Refuse where somebody else's mesh is.

    Raises:
        ClusterError: an istiod or its webhooks that we did not install.
    """
    for resource, name, namespace in (
        ("deployments.apps", ISTIOD, NAMESPACE),
        ("mutatingwebhookconfigurations.admissionregistration.k8s.io", INJECTOR, None),
        ("validatingwebhookconfigurations.admissionregistration.k8s.io", VALIDATOR, None),
    ):
        live = kube.get(resource, name, namespace)
        if live is not None and not _is_ours(live):
            raise ClusterError(
                "is not ours: this cluster has a mesh already",
                object=f"{resource} {name}",
                fix="Use another cluster, or remove that mesh first (istioctl uninstall --purge).",
            )


def _apply(kube: Kube, obj: Json, made: list[Json]) -> None:
    """Apply one object; one that is there without our label is left as it is."""
    live = _live(kube, obj)
    if live is not None and not _is_ours(live):
        return
    done, verb = kube.apply(obj)
    if verb == "created":
        made.append(done)


def _live(kube: Kube, obj: Json) -> Json | None:
    try:
        return kube.get_like(obj)
    except ConfigError:
        return None  # the cluster does not know the kind: so there is none


def _is_ours(obj: Json) -> bool:
    return (obj["metadata"].get("labels") or {}).get(MANAGED_BY) == OURS


def _missing(deployment: Json | None) -> str:
    """Say what a Deployment lacks to be rolled out; "" when it is."""
    if deployment is None:
        return "not there"
    meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    wanted = spec.get("replicas", 1)
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        return "the cluster has not seen it yet"
    for word in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        if status.get(word, 0) < wanted:
            return f"{status.get(word, 0)} of {wanted} {word}"
    return ""

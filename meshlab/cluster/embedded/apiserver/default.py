"""What built-in kinds mean when they do not say: Kubernetes' defaults, filled in place."""

import base64
from collections.abc import Callable
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import copy

Json = dict[str, Any]

MODE = 0o644
RBAC_GROUP = "rbac.authorization.k8s.io"


def fill(obj: Json, defaults: Json) -> None:
    """Set what is missing."""
    for key, value in defaults.items():
        if key not in obj:
            obj[key] = copy(value)


def default_pod(pod: Json) -> None:
    spec = pod.setdefault("spec", {})
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in containers(spec):
        resources = container["resources"]
        if "limits" in resources:
            fill(resources.setdefault("requests", {}), resources["limits"])
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account


def containers(spec: Json) -> list[Json]:
    """Return all containers of a pod, in the order they start."""
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def default_pod_spec(spec: Json) -> None:
    fill(
        spec,
        {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
    )
    for container in containers(spec):
        _default_container(container)
    for volume in spec.get("volumes") or ():
        _default_volume(volume)


def _default_container(container: Json) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    fresh = "@" not in image and tag in {"", "latest"}
    fill(
        container,
        {
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always" if fresh else "IfNotPresent",
            "resources": {},
        },
    )
    for kind in ("limits", "requests"):
        _plain_quantities(container["resources"].get(kind))
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for env in container.get("env") or ():
        if "fieldRef" in env.get("valueFrom", {}):
            env["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _default_probe(container[name])
    for hook in container.get("lifecycle", {}).values():
        if isinstance(hook, dict):
            _default_http_get(hook)


def _plain_quantities(resources: Json | None) -> None:
    """Write quantities given as numbers the way they are read back: 0.5 → 500m, 2 → "2"."""
    for name, value in (resources or {}).items():
        if isinstance(value, float) and not value.is_integer():
            resources[name] = f"{round(value * 1000)}m"  # type: ignore[index]  # not None here
        elif isinstance(value, int | float):
            resources[name] = str(int(value))  # type: ignore[index]  # not None here


def _default_probe(probe: Json) -> None:
    fill(
        probe,
        {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    )
    _default_http_get(probe)
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def _default_http_get(handler: Json) -> None:
    if "httpGet" in handler:
        fill(handler["httpGet"], {"path": "/", "scheme": "HTTP"})


def _default_volume(volume: Json) -> None:
    if volume.keys() <= {"name"}:
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        if kind in volume:
            volume[kind].setdefault("defaultMode", MODE)
    for source in volume.get("projected", {}).get("sources") or ():
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        _default_items(source.get("downwardAPI"))
    _default_items(volume.get("downwardAPI"))
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")


def _default_items(source: Json | None) -> None:
    for item in (source or {}).get("items") or ():
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")


def _default_template(template: Json) -> None:
    if isinstance(template.get("spec"), dict):
        default_pod_spec(template["spec"])


def default_deployment(deployment: Json) -> None:
    spec = deployment.setdefault("spec", {})
    fill(
        spec,
        {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate"},
        },
    )
    strategy = spec["strategy"]
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), {"maxUnavailable": "25%", "maxSurge": "25%"})
    _default_template(spec.get("template", {}))


def default_replica_set(replica_set: Json) -> None:
    spec = replica_set.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    template = spec.setdefault("template", {})
    _default_template(template)
    labels = template.get("metadata", {}).get("labels")
    if labels and "labels" not in replica_set["metadata"]:
        replica_set["metadata"]["labels"] = dict(labels)


def default_service(service: Json) -> None:
    spec = service.setdefault("spec", {})
    fill(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    for port in spec.get("ports") or ():
        fill(port, {"protocol": "TCP", "targetPort": port.get("port", 0)})
    if spec["type"] == "ExternalName":
        return
    fill(
        spec,
        {
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
    )
    if spec["type"] in {"NodePort", "LoadBalancer"}:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", 10800)


def default_secret(secret: Json) -> None:
    """Set the type, and keep `stringData` as what it is short for."""
    secret.setdefault("type", "Opaque")
    plain = secret.pop("stringData", None)
    if plain:
        data = secret.setdefault("data", {})
        for key, text in plain.items():
            data[key] = base64.b64encode(text.encode()).decode()


def default_namespace(namespace: Json) -> None:
    name = namespace["metadata"].get("name")
    labels = namespace["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = name
    namespace.setdefault("spec", {})


def default_binding(binding: Json) -> None:
    binding.get("roleRef", {}).setdefault("apiGroup", RBAC_GROUP)
    for subject in binding.get("subjects") or ():
        if subject.get("kind") in {"User", "Group"}:
            subject.setdefault("apiGroup", RBAC_GROUP)


def default_endpoint_slice(endpoint_slice: Json) -> None:
    endpoint_slice.setdefault("endpoints", [])
    for port in endpoint_slice.setdefault("ports", []):
        fill(port, {"name": "", "protocol": "TCP"})


def _default_webhook(webhook: Json) -> None:
    fill(
        webhook,
        {
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "timeoutSeconds": 10,
        },
    )
    for rule in webhook.get("rules") or ():
        rule.setdefault("scope", "*")
    service = webhook.get("clientConfig", {}).get("service")
    if service:
        service.setdefault("port", 443)


def default_mutating_webhooks(configuration: Json) -> None:
    for webhook in configuration.get("webhooks") or ():
        _default_webhook(webhook)
        webhook.setdefault("reinvocationPolicy", "Never")


def default_validating_webhooks(configuration: Json) -> None:
    for webhook in configuration.get("webhooks") or ():
        _default_webhook(webhook)


def default_crd(crd: Json) -> None:
    spec = crd.setdefault("spec", {})
    spec.setdefault("conversion", {"strategy": "None"})
    names = spec.setdefault("names", {})
    kind = str(names.get("kind", ""))
    fill(names, {"singular": kind.lower(), "listKind": f"{kind}List"})


DEFAULTS: dict[str, Callable[[Json], None]] = {
    "pods": default_pod,
    "services": default_service,
    "secrets": default_secret,
    "namespaces": default_namespace,
    "deployments.apps": default_deployment,
    "replicasets.apps": default_replica_set,
    "endpointslices.discovery.k8s.io": default_endpoint_slice,
    f"rolebindings.{RBAC_GROUP}": default_binding,
    f"clusterrolebindings.{RBAC_GROUP}": default_binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": default_mutating_webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": default_validating_webhooks,
    "customresourcedefinitions.apiextensions.k8s.io": default_crd,
}

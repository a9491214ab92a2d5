"""What built-in kinds may say: the rules users meet, in Kubernetes' words.

Each function takes the object with its defaults in place and yields all that is wrong with it.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from meshlab.cluster.embedded.apiserver import selector as selectors
from meshlab.cluster.embedded.apiserver.json_object import at
from meshlab.cluster.embedded.apiserver.metadata import (
    LABEL,
    LABEL_RULE,
    SUBDOMAIN,
    SUBDOMAIN_RULE,
    check_labels,
)
from meshlab.cluster.embedded.apiserver.status import FieldError

Json = dict[str, Any]
Errors = Iterator[FieldError]

PORT_RULE = "must be between 1 and 65535, inclusive"
IMMUTABLE = "field is immutable"
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
CONFIG_KEY = re.compile(r"(?!\.\.?$)[-._a-zA-Z0-9]{1,253}")
CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',"
    "  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkKMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
QUANTITY_RULE = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


def required(obj: Json, field: str, path: str) -> Errors:
    if obj.get(field) in (None, ""):
        yield FieldError(f"{path}.{field}", "Required value")


def one_of(value: Any, allowed: Iterable[str], path: str) -> Errors:
    words = sorted(allowed)
    if value not in words:
        shown = ", ".join(f'"{word}"' for word in words)
        yield FieldError(path, "Unsupported value", f"supported values: {shown}", value)


def port_number(value: Any, path: str) -> Errors:
    if not isinstance(value, int) or not 0 < value < 65536:
        yield FieldError(path, "Invalid value", PORT_RULE, value)


def _port_or_name(value: Any, path: str) -> Errors:
    if isinstance(value, str):
        if not PORT_NAME.fullmatch(value):
            detail = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
            yield FieldError(path, "Invalid value", detail, value)
    else:
        yield from port_number(value, path)


def unchanged(new: Json, old: Json, *fields: str) -> Errors:
    for field in fields:
        value = at(new, *field.split("."))
        if value != at(old, *field.split(".")):
            yield FieldError(field, "Invalid value", IMMUTABLE, value)


# --- pods -------------------------------------------------------------------------------------


def pod(obj: Json, old: Json | None) -> Errors:
    yield from pod_spec(obj.get("spec") or {}, "spec")
    if old is not None:
        yield from _pod_unchanged(obj["spec"], old["spec"])


POD_UPDATE_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions"
    " to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it "
    "was previously negative)"
)


def _pod_unchanged(new: Json, old: Json) -> Errors:
    """A pod is what it was made as, apart from a few fields (and its node, bound once)."""

    def lasting(spec: Json) -> Json:
        free = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"}
        kept = {key: value for key, value in spec.items() if key not in free}
        for key in ("containers", "initContainers"):
            kept[key] = [{**c, "image": ""} for c in spec.get(key) or ()]
        if not old.get("nodeName"):
            kept.pop("nodeName", None)
        return kept

    if lasting(new) != lasting(old):
        yield FieldError("spec", "Forbidden", POD_UPDATE_RULE)


def pod_spec(spec: Json, path: str) -> Errors:
    if not spec.get("containers"):
        yield FieldError(f"{path}.containers", "Required value")
    volumes = {v.get("name") for v in spec.get("volumes") or ()}
    yield from _volumes(spec.get("volumes") or [], f"{path}.volumes")
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            place = f"{path}.{group}[{index}]"
            yield from _container(container, place, volumes)
            name = container.get("name", "")
            if name in seen:
                yield FieldError(f"{place}.name", "Duplicate value", "", name)
            seen.add(name)
            if group == "initContainers" and container.get("restartPolicy") not in {None, "Always"}:
                yield from one_of(container["restartPolicy"], ["Always"], f"{place}.restartPolicy")
    policies = ("Always", "OnFailure", "Never")
    yield from one_of(spec.get("restartPolicy"), policies, f"{path}.restartPolicy")
    yield from one_of(
        spec.get("dnsPolicy"),
        ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
        f"{path}.dnsPolicy",
    )
    grace = spec.get("terminationGracePeriodSeconds", 0)
    if grace < 0:
        detail = "must be greater than or equal to 0"
        yield FieldError(f"{path}.terminationGracePeriodSeconds", "Invalid value", detail, grace)


def _container(container: Json, path: str, volumes: set[Any]) -> Errors:
    name = container.get("name")
    if not name:
        yield FieldError(f"{path}.name", "Required value")
    elif not LABEL.fullmatch(name) or len(name) > 63:
        yield FieldError(f"{path}.name", "Invalid value", LABEL_RULE, name)
    yield from required(container, "image", path)
    yield from one_of(
        container.get("imagePullPolicy"),
        ("Always", "IfNotPresent", "Never"),
        f"{path}.imagePullPolicy",
    )
    for index, port in enumerate(container.get("ports") or ()):
        yield from _container_port(port, f"{path}.ports[{index}]")
    for index, env in enumerate(container.get("env") or ()):
        yield from required(env, "name", f"{path}.env[{index}]")
        if env.get("value") and env.get("valueFrom"):
            detail = "may not be specified when `value` is not empty"
            yield FieldError(f"{path}.env[{index}].valueFrom", "Invalid value", detail, "")
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        place = f"{path}.volumeMounts[{index}]"
        if mount.get("name") not in volumes:
            yield FieldError(f"{place}.name", "Not found", "", mount.get("name"))
        yield from required(mount, "mountPath", place)
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if kind in container:
            yield from _probe(container[kind], f"{path}.{kind}")
    yield from _resources(container.get("resources") or {}, f"{path}.resources")


def _container_port(port: Json, path: str) -> Errors:
    if not port.get("containerPort"):
        yield FieldError(f"{path}.containerPort", "Required value")
    else:
        yield from port_number(port["containerPort"], f"{path}.containerPort")
    name = port.get("name")
    if name and not PORT_NAME.fullmatch(name):
        detail = "must be no more than 15 characters, a-z, 0-9 and '-', with at least one letter"
        yield FieldError(f"{path}.name", "Invalid value", detail, name)
    yield from one_of(port.get("protocol"), ("SCTP", "TCP", "UDP"), f"{path}.protocol")


HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")


def _probe(probe: Json, path: str) -> Errors:
    handlers = [name for name in HANDLERS if name in probe]
    if not handlers:
        yield FieldError(path, "Required value", "must specify a handler type")
    for extra in handlers[1:]:
        detail = "may not specify more than 1 handler type"
        yield FieldError(f"{path}.{extra}", "Forbidden", detail)
    for kind in ("httpGet", "tcpSocket"):
        if kind in probe:
            yield from _port_or_name(probe[kind].get("port", 0), f"{path}.{kind}.port")
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold"):
        if probe.get(field, 0) < 0:
            detail = "must be greater than or equal to 0"
            yield FieldError(f"{path}.{field}", "Invalid value", detail, probe[field])


def _resources(resources: Json, path: str) -> Errors:
    for kind in ("limits", "requests"):
        for name, value in (resources.get(kind) or {}).items():
            if not isinstance(value, str) or not QUANTITY.fullmatch(value):
                yield FieldError(f"{path}.{kind}.{name}", "Invalid value", QUANTITY_RULE, value)
                continue
            limit = (resources.get("limits") or {}).get(name)
            if kind == "requests" and limit and quantity(value) > quantity(limit):
                detail = f"must be less than or equal to {name} limit of {limit}"
                yield FieldError(f"{path}.{kind}", "Invalid value", detail, value)


SUFFIXES = {
    **{s: 1000.0**i for i, s in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)},
    **{s: 1024.0**i for i, s in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}


def quantity(text: str) -> float:
    """Return the number that `500m` or `2Gi` stands for."""
    found = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?\d+)?)([a-zA-Z]*)", text)
    return float(found[1]) * SUFFIXES.get(found[2], 1.0) if found else 0.0


def _volumes(volumes: list[Json], path: str) -> Errors:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        place, name = f"{path}[{index}]", volume.get("name", "")
        if not name:
            yield FieldError(f"{place}.name", "Required value")
        elif not LABEL.fullmatch(name):
            yield FieldError(f"{place}.name", "Invalid value", LABEL_RULE, name)
        elif name in seen:
            yield FieldError(f"{place}.name", "Duplicate value", "", name)
        seen.add(name)
        sources = [key for key in volume if key != "name"]
        for extra in sources[1:]:
            yield FieldError(
                f"{place}.{extra}", "Forbidden", "may not specify more than 1 volume type"
            )


# --- workloads --------------------------------------------------------------------------------


def _workload(obj: Json, old: Json | None) -> Errors:
    spec = obj.get("spec") or {}
    if spec.get("replicas", 0) < 0:
        detail = "must be greater than or equal to 0"
        yield FieldError("spec.replicas", "Invalid value", detail, spec["replicas"])
    template = spec.get("template") or {}
    labels = at(template, "metadata", "labels", default={})
    wanted = spec.get("selector")
    if wanted is None:
        yield FieldError("spec.selector", "Required value")
    else:
        yield from label_selector(wanted, "spec.selector")
        if not wanted.get("matchLabels") and not wanted.get("matchExpressions"):
            detail = "empty selector is invalid for deployment"
            yield FieldError("spec.selector", "Invalid value", detail, {})
        elif not selectors.selects(wanted, labels):
            detail = "`selector` does not match template `labels`"
            yield FieldError("spec.template.metadata.labels", "Invalid value", detail, labels)
    yield from check_labels(labels, "spec.template.metadata.labels")
    pods = template.get("spec") or {}
    yield from pod_spec(pods, "spec.template.spec")
    if pods.get("restartPolicy", "Always") != "Always":
        yield from one_of(pods["restartPolicy"], ["Always"], "spec.template.spec.restartPolicy")
    if old is not None:
        yield from unchanged(obj, old, "spec.selector")


OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def label_selector(selector: Json, path: str) -> Errors:
    yield from check_labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        place = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator"), expression.get("values")
        if operator not in OPERATORS:
            detail = "not a valid selector operator"
            yield FieldError(f"{place}.operator", "Invalid value", detail, operator)
        elif operator in {"In", "NotIn"} and not values:
            detail = "must be specified when `operator` is 'In' or 'NotIn'"
            yield FieldError(f"{place}.values", "Required value", detail)
        elif operator in {"Exists", "DoesNotExist"} and values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield FieldError(f"{place}.values", "Forbidden", detail)


def deployment(obj: Json, old: Json | None) -> Errors:
    yield from _workload(obj, old)
    strategy = obj["spec"]["strategy"]
    kinds = ("Recreate", "RollingUpdate")
    yield from one_of(strategy["type"], kinds, "spec.strategy.type")
    path = "spec.strategy.rollingUpdate"
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate" and rolling:
        detail = "may not be specified when strategy `type` is 'Recreate'"
        yield FieldError(path, "Forbidden", detail)
    for field in ("maxSurge", "maxUnavailable"):
        value = (rolling or {}).get(field, 1)
        if isinstance(value, str) and not re.fullmatch(r"\d+%", value):
            detail = "a valid percent string must be a numeric string followed by an ending '%'"
            yield FieldError(f"{path}.{field}", "Invalid value", detail, value)
    if rolling and all(rolling.get(f) in {0, "0%"} for f in ("maxSurge", "maxUnavailable")):
        detail = "may not be 0 when `maxSurge` is 0"
        yield FieldError(f"{path}.maxUnavailable", "Invalid value", detail, 0)


# --- services ---------------------------------------------------------------------------------

SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def service(obj: Json, old: Json | None) -> Errors:
    spec = obj["spec"]
    yield from one_of(spec["type"], SERVICE_TYPES, "spec.type")
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and spec["type"] != "ExternalName" and not headless:
        yield FieldError("spec.ports", "Required value")
    if spec["type"] == "ExternalName":
        yield from required(spec, "externalName", "spec")
    names: set[str] = set()
    numbers: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        yield from _service_port(port, path, len(ports) > 1)
        name, number = port.get("name", ""), (port.get("port", 0), port["protocol"])
        if name and name in names:
            yield FieldError(f"{path}.name", "Duplicate value", "", name)
        if number in numbers:
            same = {"port": number[0], "protocol": number[1]}
            yield FieldError(path, "Duplicate value", "", same)
        names.add(name)
        numbers.add(number)
    yield from one_of(spec["sessionAffinity"], ("ClientIP", "None"), "spec.sessionAffinity")
    yield from check_labels(spec.get("selector") or {}, "spec.selector")
    if old is not None:
        yield from _cluster_ip_unchanged(spec, old["spec"])


def _service_port(port: Json, path: str, several: bool) -> Errors:
    if several and not port.get("name"):
        yield FieldError(f"{path}.name", "Required value")
    elif port.get("name") and (not LABEL.fullmatch(port["name"]) or len(port["name"]) > 63):
        yield FieldError(f"{path}.name", "Invalid value", LABEL_RULE, port["name"])
    yield from port_number(port.get("port", 0), f"{path}.port")
    yield from one_of(port["protocol"], ("SCTP", "TCP", "UDP"), f"{path}.protocol")
    yield from _port_or_name(port["targetPort"], f"{path}.targetPort")


def _cluster_ip_unchanged(spec: Json, old: Json) -> Errors:
    both = spec["type"] != "ExternalName" and old["type"] != "ExternalName"
    if both and old.get("clusterIP") and spec.get("clusterIP") != old["clusterIP"]:
        yield FieldError("spec.clusterIP", "Invalid value", IMMUTABLE, spec.get("clusterIP"))


# --- the rest ---------------------------------------------------------------------------------


def config_map(obj: Json, old: Json | None) -> Errors:
    for field in ("data", "binaryData"):
        for key in obj.get(field) or {}:
            if not CONFIG_KEY.fullmatch(key):
                yield FieldError(f"{field}[{key}]", "Invalid value", CONFIG_KEY_RULE, key)
    for key in (obj.get("data") or {}).keys() & (obj.get("binaryData") or {}).keys():
        detail = f"duplicate of key present in data: {key}"
        yield FieldError(f"binaryData[{key}]", "Invalid value", detail, key)
    yield from _base64(obj.get("binaryData") or {}, "binaryData")
    yield from _frozen(obj, old)


def secret(obj: Json, old: Json | None) -> Errors:
    for key in obj.get("data") or {}:
        if not CONFIG_KEY.fullmatch(key):
            yield FieldError(f"data[{key}]", "Invalid value", CONFIG_KEY_RULE, key)
    yield from _base64(obj.get("data") or {}, "data")
    if obj["type"] == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in (obj.get("data") or {}):
                yield FieldError(f"data[{key}]", "Required value")
    if old is not None:
        yield from unchanged(obj, old, "type")
    yield from _frozen(obj, old)


def _base64(data: Json, path: str) -> Errors:
    for key, value in data.items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            yield FieldError(f"{path}[{key}]", "Invalid value", "illegal base64 data", value)


def _frozen(obj: Json, old: Json | None) -> Errors:
    if old is None or not old.get("immutable"):
        return
    for field in ("data", "binaryData", "immutable"):
        if obj.get(field) != old.get(field):
            yield FieldError(field, "Forbidden", "field is immutable when `immutable` is set")


def _subject_namespace(subject: Json, path: str) -> Errors:
    if subject.get("kind") == "ServiceAccount":
        yield from required(subject, "namespace", path)


def role(obj: Json, _old: Json | None) -> Errors:
    for index, rule in enumerate(obj.get("rules") or ()):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            yield FieldError(
                f"{path}.verbs", "Required value", "verbs must contain at least one value"
            )
        if not rule.get("nonResourceURLs") and not rule.get("resources"):
            detail = "resource rules must supply at least one resource"
            yield FieldError(f"{path}.resources", "Required value", detail)
        elif not rule.get("nonResourceURLs") and "apiGroups" not in rule:
            detail = "resource rules must supply at least one api group"
            yield FieldError(f"{path}.apiGroups", "Required value", detail)


def binding(obj: Json, old: Json | None) -> Errors:
    reference = obj.get("roleRef") or {}
    kinds = ("ClusterRole",) if obj["kind"] == "ClusterRoleBinding" else ("ClusterRole", "Role")
    yield from one_of(reference.get("kind"), kinds, "roleRef.kind")
    yield from required(reference, "name", "roleRef")
    for index, subject in enumerate(obj.get("subjects") or ()):
        path = f"subjects[{index}]"
        yield from one_of(subject.get("kind"), ("Group", "ServiceAccount", "User"), f"{path}.kind")
        yield from required(subject, "name", path)
        yield from _subject_namespace(subject, path)
    if old is not None and reference != old.get("roleRef"):
        detail = "cannot change roleRef"
        yield FieldError("roleRef", "Invalid value", detail, reference)


WEBHOOK_NAME_RULE = "should be a domain with at least three segments separated by dots"


def webhooks(obj: Json, _old: Json | None) -> Errors:
    for index, webhook in enumerate(obj.get("webhooks") or ()):
        path = f"webhooks[{index}]"
        name = webhook.get("name", "")
        if name.count(".") < 2:
            yield FieldError(f"{path}.name", "Invalid value", WEBHOOK_NAME_RULE, name)
        target = webhook.get("clientConfig") or {}
        if bool(target.get("url")) == bool(target.get("service")):
            detail = "exactly one of url or service is required"
            yield FieldError(f"{path}.clientConfig", "Required value", detail)
        if target.get("url") and not target["url"].startswith("https://"):
            detail = "'https' is the only allowed URL scheme"
            yield FieldError(f"{path}.clientConfig.url", "Invalid value", detail, target["url"])
        effects = webhook.get("sideEffects")
        yield from one_of(effects, ("None", "NoneOnDryRun"), f"{path}.sideEffects")
        if "v1" not in (webhook.get("admissionReviewVersions") or ()):
            detail = "must include at least one of v1, v1beta1"
            yield FieldError(f"{path}.admissionReviewVersions", "Required value", detail)
        yield from one_of(webhook.get("failurePolicy"), ("Fail", "Ignore"), f"{path}.failurePolicy")
        if webhook.get("matchConditions"):
            detail = "conditions in CEL are not evaluated by this cluster"
            yield FieldError(f"{path}.matchConditions", "Forbidden", detail)
        seconds = webhook.get("timeoutSeconds", 10)
        if not 1 <= seconds <= 30:
            detail = "the timeout value must be between 1 and 30 seconds"
            yield FieldError(f"{path}.timeoutSeconds", "Invalid value", detail, seconds)
        for field in ("namespaceSelector", "objectSelector"):
            yield from label_selector(webhook.get(field) or {}, f"{path}.{field}")


def endpoint_slice(obj: Json, old: Json | None) -> Errors:
    yield from one_of(obj.get("addressType"), ("FQDN", "IPv4", "IPv6"), "addressType")
    for index, endpoint in enumerate(obj.get("endpoints") or ()):
        if not endpoint.get("addresses"):
            detail = "must contain at least 1 address"
            yield FieldError(f"endpoints[{index}].addresses", "Required value", detail)
    if old is not None:
        yield from unchanged(obj, old, "addressType")


def crd(obj: Json, old: Json | None) -> Errors:
    from meshlab.cluster.embedded.apiserver.crd import check

    yield from check(obj, old)


def service_account_name(name: str, path: str) -> Errors:
    if not SUBDOMAIN.fullmatch(name):
        yield FieldError(path, "Invalid value", SUBDOMAIN_RULE, name)


RBAC = "rbac.authorization.k8s.io"
RULES: dict[str, Callable[[Json, Json | None], Errors]] = {
    "pods": pod,
    "services": service,
    "configmaps": config_map,
    "secrets": secret,
    "deployments.apps": deployment,
    "replicasets.apps": _workload,
    f"roles.{RBAC}": role,
    f"clusterroles.{RBAC}": role,
    f"rolebindings.{RBAC}": binding,
    f"clusterrolebindings.{RBAC}": binding,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
    "endpointslices.discovery.k8s.io": endpoint_slice,
    "customresourcedefinitions.apiextensions.k8s.io": crd,
}

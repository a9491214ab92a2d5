"""What a new cluster starts with: namespaces, the API's own Service, the default roles."""

from collections.abc import Iterator
from typing import Any

from meshlab.cluster.embedded.apiserver.call import MASTERS

Json = dict[str, Any]

RBAC = "rbac.authorization.k8s.io"
BOOTSTRAPPING = {"kubernetes.io/bootstrapping": "rbac-defaults"}
READ = ["get", "list", "watch"]
WRITE = ["create", "delete", "deletecollection", "patch", "update"]
DISCOVERY = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*"]
API_ADDRESS, DNS_ADDRESS = "10.96.0.1", "10.96.0.10"

READABLE: dict[str, list[str]] = {
    "": [
        "configmaps",
        "events",
        "namespaces",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
    ],
    "apps": ["deployments", "deployments/scale", "deployments/status", "replicasets"],
    "discovery.k8s.io": ["endpointslices"],
}
WRITABLE: dict[str, list[str]] = {
    "": ["configmaps", "events", "pods", "secrets", "serviceaccounts", "services"],
    "apps": ["deployments", "deployments/scale", "replicasets", "replicasets/scale"],
}


def first_objects() -> Iterator[tuple[str, str, Json]]:
    """Yield (resource, namespace, object); each is made when it is missing."""
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        yield "namespaces", "", {"metadata": {"name": name}}
    yield from _services()
    yield from _cluster_roles()
    yield from _cluster_role_bindings()


def _services() -> Iterator[tuple[str, str, Json]]:
    api = {
        "metadata": {
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": API_ADDRESS,
            "ports": [{"name": "https", "port": 443, "targetPort": 443}],
        },
    }
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    dns = {
        "metadata": {
            "name": "kube-dns",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {"clusterIP": DNS_ADDRESS, "ports": ports},
    }
    yield "services", "default", api
    yield "services", "kube-system", dns
    # Served at the Services' own addresses: what goes by endpoints, as a sidecar does, finds them.
    yield _endpoints("kubernetes", "default", API_ADDRESS, [{"name": "https", "port": 443}])
    yield _endpoints("kube-dns", "kube-system", DNS_ADDRESS, ports)


def _endpoints(
    service: str, namespace: str, address: str, ports: list[Json]
) -> tuple[str, str, Json]:
    obj = {
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"protocol": "TCP", **port} for port in ports],
    }
    return "endpointslices.discovery.k8s.io", namespace, obj


def _rule(group: str, resources: list[str], verbs: list[str]) -> Json:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _cluster_roles() -> Iterator[tuple[str, str, Json]]:
    everything = [
        _rule("*", ["*"], ["*"]),
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    yield _role("cluster-admin", everything)
    yield _aggregate("admin")
    yield _aggregate("edit", "admin")
    yield _aggregate("view", "edit")
    view = [
        _rule(group, [*names, "services"] if not group else names, READ)
        for group, names in READABLE.items()
    ]
    yield _role("system:aggregate-to-view", view, "view", "edit", "admin")
    edit = [_rule(group, names, READ + WRITE) for group, names in WRITABLE.items()]
    edit += [
        _rule("", ["pods/exec", "pods/eviction", "serviceaccounts/token"], ["create"]),
        _rule("", ["pods/proxy", "services/proxy"], ["create", "get"]),
        _rule("", ["serviceaccounts"], ["impersonate"]),
        _rule("coordination.k8s.io", ["leases"], READ + WRITE),
    ]
    yield _role("system:aggregate-to-edit", edit, "edit", "admin")
    admin = [
        _rule(RBAC, ["roles", "rolebindings"], READ + WRITE),
        _rule("authorization.k8s.io", ["localsubjectaccessreviews"], ["create"]),
    ]
    yield _role("system:aggregate-to-admin", admin, "admin")
    own = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    yield _role(
        "system:basic-user",
        [
            _rule("authorization.k8s.io", own, ["create"]),
            _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
        ],
    )
    urls = [*DISCOVERY, "/readyz", "/version", "/version/"]
    yield _role("system:discovery", [{"nonResourceURLs": urls, "verbs": ["get"]}])
    delegated = [
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
        _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
    ]
    yield _role("system:auth-delegator", delegated)
    issuer = ["/.well-known/openid-configuration", "/openid/v1/jwks"]
    issuer_rule: Json = {"nonResourceURLs": issuer, "verbs": ["get"]}
    yield _role("system:service-account-issuer-discovery", [issuer_rule])


def _role(name: str, rules: list[Json], *aggregated_to: str) -> tuple[str, str, Json]:
    labels = dict(BOOTSTRAPPING)
    labels |= {f"{RBAC}/aggregate-to-{role}": "true" for role in aggregated_to}
    return (
        f"clusterroles.{RBAC}",
        "",
        {"metadata": {"name": name, "labels": labels}, "rules": rules},
    )


def _aggregate(name: str, *aggregated_to: str) -> tuple[str, str, Json]:
    _, _, role = _role(name, [], *aggregated_to)
    selector = {"matchLabels": {f"{RBAC}/aggregate-to-{name}": "true"}}
    role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
    return f"clusterroles.{RBAC}", "", role


def _cluster_role_bindings() -> Iterator[tuple[str, str, Json]]:
    for role, group in (
        ("cluster-admin", MASTERS),
        ("system:basic-user", "system:authenticated"),
        ("system:discovery", "system:authenticated"),
        ("system:service-account-issuer-discovery", "system:serviceaccounts"),
    ):
        yield (
            f"clusterrolebindings.{RBAC}",
            "",
            {
                "metadata": {"name": role, "labels": BOOTSTRAPPING},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
            },
        )

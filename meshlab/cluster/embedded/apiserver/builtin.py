"""The kinds every cluster has, as a table."""

from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at
from meshlab.cluster.embedded.apiserver.resource import ALL_VERBS, Resource, ScalePaths, Version

READ_WRITE_ONE = ("get", "patch", "update")
CREATE = ("create",)
PROXY = ("create", "delete", "get", "patch", "update")

REPLICAS = ScalePaths(
    replicas=".spec.replicas", status_replicas=".status.replicas", selector=".spec.selector"
)

EXTENSIONS_WARNING = (
    "extensions/v1beta1 Deployment was removed from Kubernetes in v1.16; "
    "this cluster stores it as apps/v1 Deployment"
)


def _kind(
    group: str,
    kind: str,
    plural: str,
    *short_names: str,
    version: str = "v1",
    namespaced: bool = True,
    status: bool = False,
    scale: ScalePaths | None = None,
    generation: bool = False,
    categories: tuple[str, ...] = (),
    verbs: tuple[str, ...] = ALL_VERBS,
    **subresources: tuple[str, ...],
) -> Resource:
    return Resource(
        group=group,
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        versions=(Version(name=version, status=status, scale=scale),),
        storage=version,
        namespaced=namespaced,
        short_names=short_names,
        categories=categories,
        verbs=verbs,
        subresources=subresources,
        generation=generation,
    )


def _review(group: str, kind: str, plural: str, *, namespaced: bool = False) -> Resource:
    """A question that is answered, never stored."""
    return _kind(group, kind, plural, namespaced=namespaced, verbs=CREATE)


ALL = ("all",)
RBAC = "rbac.authorization.k8s.io"
AUTHORIZATION = "authorization.k8s.io"
AUTHENTICATION = "authentication.k8s.io"
ADMISSION = "admissionregistration.k8s.io"

DEPLOYMENTS = Resource(
    group="apps",
    kind="Deployment",
    plural="deployments",
    singular="deployment",
    versions=(Version(name="v1", status=True, scale=REPLICAS),),
    storage="v1",
    short_names=("deploy",),
    categories=ALL,
    generation=True,
)

STORED: tuple[Resource, ...] = (
    _kind("", "ConfigMap", "configmaps", "cm"),
    _kind("", "Event", "events", "ev"),
    _kind("", "Namespace", "namespaces", "ns", namespaced=False, status=True, finalize=("update",)),
    _kind("", "Node", "nodes", "no", namespaced=False, status=True),
    _kind(
        "",
        "Pod",
        "pods",
        "po",
        status=True,
        categories=ALL,
        binding=CREATE,
        ephemeralcontainers=READ_WRITE_ONE,
        eviction=CREATE,
        exec=("create", "get"),
        log=("get",),
        proxy=PROXY,
    ),
    _kind("", "Secret", "secrets"),
    _kind("", "ServiceAccount", "serviceaccounts", "sa", token=CREATE),
    _kind("", "Service", "services", "svc", status=True, categories=ALL, proxy=PROXY),
    DEPLOYMENTS,
    _kind(
        "apps",
        "ReplicaSet",
        "replicasets",
        "rs",
        status=True,
        scale=REPLICAS,
        generation=True,
        categories=ALL,
    ),
    _kind("discovery.k8s.io", "EndpointSlice", "endpointslices", generation=True),
    _kind("coordination.k8s.io", "Lease", "leases"),
    _kind(RBAC, "ClusterRole", "clusterroles", namespaced=False),
    _kind(RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _kind(RBAC, "Role", "roles"),
    _kind(RBAC, "RoleBinding", "rolebindings"),
    _kind(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "crd",
        "crds",
        namespaced=False,
        status=True,
        generation=True,
        categories=("api-extensions",),
    ),
    _kind(
        ADMISSION,
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        namespaced=False,
        generation=True,
        categories=("api-extensions",),
    ),
    _kind(
        ADMISSION,
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        namespaced=False,
        generation=True,
        categories=("api-extensions",),
    ),
)

REVIEWS: tuple[Resource, ...] = (
    _review(AUTHENTICATION, "TokenReview", "tokenreviews"),
    _review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews"),
    _review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews"),
    _review(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    _review(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
    _review(
        AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", namespaced=True
    ),
)


def _select_own_template(deployment: dict[str, Any]) -> None:
    """Select the template's labels where no selector is given, as v1beta1 did."""
    spec = deployment.get("spec")
    labels = at(spec, "template", "metadata", "labels")
    if isinstance(spec, dict) and labels and not spec.get("selector"):
        spec["selector"] = {"matchLabels": labels}


OLD_DEPLOYMENTS = Resource(
    group="extensions",
    kind="Deployment",
    plural="deployments",
    singular="deployment",
    versions=(
        Version(
            name="v1beta1",
            status=True,
            scale=REPLICAS,
            warning=EXTENSIONS_WARNING,
            complete=_select_own_template,
        ),
    ),
    storage="v1",
    generation=True,
    kept_in="apps",
)
"""The talk's 2017 manifests: taken under this name, kept as `deployments.apps`."""

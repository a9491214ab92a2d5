"""Write `builtin_schema.json` from the official Python client's models and the table below.

    python -m meshlab.cluster.embedded.apiserver.generate_schema

The models know types, required fields and descriptions; how lists merge (`patchMergeKey` in
Kubernetes' Go sources) they do not, so that is the table. The server reads only the result:
importing the models would cost it a second and 60 MB.
"""

import json
import re
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ROOTS = {
    "ConfigMap": "V1ConfigMap",
    "Event": "CoreV1Event",
    "Namespace": "V1Namespace",
    "Node": "V1Node",
    "Pod": "V1Pod",
    "Secret": "V1Secret",
    "ServiceAccount": "V1ServiceAccount",
    "Service": "V1Service",
    "Binding": "V1Binding",
    "Deployment": "V1Deployment",
    "ReplicaSet": "V1ReplicaSet",
    "EndpointSlice": "V1EndpointSlice",
    "Lease": "V1Lease",
    "ClusterRole": "V1ClusterRole",
    "ClusterRoleBinding": "V1ClusterRoleBinding",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "CustomResourceDefinition": "V1CustomResourceDefinition",
    "MutatingWebhookConfiguration": "V1MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration": "V1ValidatingWebhookConfiguration",
    "TokenReview": "V1TokenReview",
    "SelfSubjectReview": "V1SelfSubjectReview",
    "SubjectAccessReview": "V1SubjectAccessReview",
    "SelfSubjectAccessReview": "V1SelfSubjectAccessReview",
    "SelfSubjectRulesReview": "V1SelfSubjectRulesReview",
    "LocalSubjectAccessReview": "V1LocalSubjectAccessReview",
    "TokenRequest": "AuthenticationV1TokenRequest",
    "Scale": "V1Scale",
    "Eviction": "V1Eviction",
}
"""Kind → the client's model."""

MERGE_KEYS = {
    "PodSpec.containers": "name",
    "PodSpec.initContainers": "name",
    "PodSpec.ephemeralContainers": "name",
    "PodSpec.volumes": "name",
    "PodSpec.imagePullSecrets": "name",
    "PodSpec.hostAliases": "ip",
    "PodSpec.topologySpreadConstraints": "topologyKey",
    "PodSpec.resourceClaims": "name",
    "PodSpec.schedulingGates": "name",
    "Container.env": "name",
    "Container.ports": "containerPort",
    "Container.volumeMounts": "mountPath",
    "Container.volumeDevices": "devicePath",
    "EphemeralContainer.env": "name",
    "EphemeralContainer.ports": "containerPort",
    "EphemeralContainer.volumeMounts": "mountPath",
    "EphemeralContainer.volumeDevices": "devicePath",
    "ServiceSpec.ports": "port",
    "ServiceAccount.secrets": "name",
    "ObjectMeta.ownerReferences": "uid",
    "ContainerStatus.allocatedResourcesStatus": "name",
    "ContainerStatus.volumeMounts": "mountPath",
    "PodStatus.conditions": "type",
    "PodStatus.resourceClaimStatuses": "name",
    "PodStatus.podIPs": "ip",
    "PodStatus.hostIPs": "ip",
    "NodeStatus.conditions": "type",
    "NodeStatus.addresses": "type",
    "NamespaceStatus.conditions": "type",
    "ServiceStatus.conditions": "type",
    "DeploymentStatus.conditions": "type",
    "ReplicaSetStatus.conditions": "type",
    "MutatingWebhookConfiguration.webhooks": "name",
    "ValidatingWebhookConfiguration.webhooks": "name",
    "MutatingWebhook.matchConditions": "name",
    "ValidatingWebhook.matchConditions": "name",
}
MERGED_VALUES = ("ObjectMeta.finalizers", "NodeSpec.podCIDRs")
"""Lists of plain values whose patches add to them."""
RETAIN_KEYS = (
    "PodSpec.volumes",
    "PodSpec.resourceClaims",
    "PodStatus.resourceClaimStatuses",
    "DeploymentSpec.strategy",
)
"""Where a patch names the keys that stay, since they exclude each other."""

ANY: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
INT_OR_STRING: Json = {"x-kubernetes-int-or-string": True, "format": "int-or-string"}
QUANTITY: Json = {"x-kubernetes-int-or-string": True, "format": "quantity"}
OPAQUE = {
    "V1JSONSchemaProps": ANY,
    "object": {"x-kubernetes-preserve-unknown-fields": True},
    "V1ManagedFieldsEntry": ANY,
}
PLAIN: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "bytes": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
}
QUANTITIES = ("ResourceRequirements.", "VolumeResourceRequirements.")
QUANTITY_FIELDS = (
    "NodeStatus.capacity",
    "NodeStatus.allocatable",
    "EmptyDirVolumeSource.sizeLimit",
    "ResourceFieldSelector.divisor",
    "PodSpec.overhead",
)


def type_name(model: str) -> str:
    """Return `DeploymentSpec` for the client's `V1DeploymentSpec`."""
    return re.sub(
        r"^(V1|CoreV1|DiscoveryV1|RbacV1|AuthenticationV1|AdmissionregistrationV1)", "", model
    )


class Generator:
    """Walks the models from the roots and writes down each type once."""

    def __init__(self, models: Any) -> None:
        self.models = models
        self.types: dict[str, Json] = {}
        self.descriptions: dict[str, Json] = {}

    def add(self, model: str) -> str:
        """Return the name of a model's type, described along with all that it mentions."""
        name = type_name(model)
        if name in self.types:
            return name
        cls = getattr(self.models, model)
        properties: Json = {}
        self.types[name] = {"type": "object", "properties": properties}
        about = self.descriptions[name] = {"": self.summary(cls)}
        required = []
        fields = {info.serialization_alias or key: info for key, info in cls.model_fields.items()}
        for attribute, kind in cls.openapi_types.items():
            field = cls.attribute_map[attribute]
            info = fields[field]
            properties[field] = self.schema(name, field, kind, str(info.annotation))
            about[field] = info.description or ""
            if info.is_required():
                required.append(field)
        if required:
            self.types[name]["required"] = required
        return name

    def schema(self, owner: str, field: str, kind: str, annotation: str) -> Json:
        place = f"{owner}.{field}"
        found = self.element(place, kind, annotation)
        if place in MERGE_KEYS:
            found |= {
                "x-kubernetes-patch-strategy": "merge",
                "x-kubernetes-patch-merge-key": MERGE_KEYS[place],
            }
        if place in MERGED_VALUES:
            found["x-kubernetes-patch-strategy"] = "merge"
        if place in RETAIN_KEYS:
            words = "merge,retainKeys" if place in MERGE_KEYS else "retainKeys"
            found["x-kubernetes-patch-strategy"] = words
        return found

    def element(self, place: str, kind: str, annotation: str) -> Json:
        if inner := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
            return {"type": "array", "items": self.element(place, inner[1], "")}
        if inner := re.fullmatch(r"[Dd]ict\[str, *(.*)\]", kind):
            return {"type": "object", "additionalProperties": self.element(place, inner[1], "")}
        is_quantity = place.startswith(QUANTITIES) or place in QUANTITY_FIELDS
        if is_quantity and kind in {"str", "object"}:
            return dict(QUANTITY)
        if kind == "object" and "int" in annotation and "str" in annotation:
            return dict(INT_OR_STRING)
        if kind in OPAQUE:
            return dict(OPAQUE[kind])
        if kind in PLAIN:
            return dict(PLAIN[kind])
        return {"$ref": self.add(kind)}

    @staticmethod
    def summary(cls: Any) -> str:
        text = (cls.__doc__ or "").split("Attributes:")[0]
        return " ".join(text.split())


def main() -> None:
    from kubernetes.client import models

    generator = Generator(models)
    roots = {kind: generator.add(model) for kind, model in ROOTS.items()}
    here = Path(__file__).parent
    schema = {"kinds": roots, "types": generator.types}
    for name, content in (
        ("builtin_schema.json", schema),
        ("builtin_description.json", generator.descriptions),
    ):
        text = json.dumps(content, indent=0, sort_keys=True, separators=(",", ":"))
        (here / name).write_text(text + "\n")


if __name__ == "__main__":
    main()

"""What is special about single kinds, as hooks of the common way (`machinery.py`)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from meshlab.cluster.embedded.apiserver.call import Call
from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.crd import (
    CLEANUP,
    CRDS,
    NO_CEL,
    declared,
    establish,
    has_rules,
)
from meshlab.cluster.embedded.apiserver.default import DEFAULTS, containers
from meshlab.cluster.embedded.apiserver.json_object import at, copy
from meshlab.cluster.embedded.apiserver.metadata import generated_name
from meshlab.cluster.embedded.apiserver.service import Allocator
from meshlab.cluster.embedded.apiserver.status import FieldError, forbidden, invalid
from meshlab.cluster.embedded.apiserver.store import Change, Store
from meshlab.cluster.embedded.apiserver.validation import RULES

Json = dict[str, Any]

TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
TOKEN_SECONDS = 3607
"""Kubernetes' own value, by which its default token volume is told from others."""
LASTING_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
EVICTED_AFTER = 300
"""Seconds a pod stays on a node that is not ready (the default tolerations)."""


class Kinds:
    """The hooks, by resource."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self.nodeport_free: Callable[[int], bool] = lambda _: True
        self._allocator = Allocator(store, lambda number: self.nodeport_free(number))
        for crd in store.list(CRDS):
            catalog.add(declared(crd))
        store.on_change(CRDS, self._crd_changed)

    def default(self, key: str, obj: Json) -> None:
        if fill := DEFAULTS.get(key):
            fill(obj)

    def validate(self, key: str, obj: Json, old: Json | None) -> list[FieldError]:
        rules = RULES.get(key)
        return list(rules(obj, old)) if rules else []

    def admit(self, key: str, obj: Json) -> None:
        """Complete a new object with what the cluster gives it, in place.

        Raises:
            ApiError: 403.
        """
        if key == "pods":
            self._admit_pod(obj)

    def _admit_pod(self, pod: Json) -> None:
        spec, metadata = pod["spec"], pod["metadata"]
        namespace, name = metadata["namespace"], spec["serviceAccountName"]
        account = self._store.get("serviceaccounts", namespace, name)
        if account is None and name != "default":
            why = (
                f"error looking up service account {namespace}/{name}: "
                f'serviceaccount "{name}" not found'
            )
            raise forbidden("pods", "", metadata["name"], why)
        mount = spec.get("automountServiceAccountToken")
        if mount is None:
            mount = (account or {}).get("automountServiceAccountToken", True)
        if mount:
            _mount_token(spec)
        _tolerate(spec)
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def prepare_create(self, key: str, obj: Json) -> None:
        """Set what a new object of this kind starts with."""
        if key == "namespaces":
            obj["spec"]["finalizers"] = ["kubernetes"]
            obj["status"] = {"phase": "Active"}
        elif key == "pods":
            obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}
        elif key == "services":
            obj["status"] = {"loadBalancer": {}}
        elif key in {"deployments.apps", "replicasets.apps"}:
            obj["status"] = {"replicas": 0} if key.startswith("replicasets") else {}
        elif key == CRDS:
            obj["metadata"].setdefault("finalizers", []).append(CLEANUP)

    def prepare_update(self, key: str, made: Json, before: Json) -> None:
        """Keep what an update of this kind may leave out."""
        if key == "services":
            kept = before["spec"].get("clusterIP")
            if made["spec"]["type"] != "ExternalName" and kept:
                made["spec"].setdefault("clusterIP", kept)
                made["spec"].setdefault("clusterIPs", before["spec"]["clusterIPs"])

    def warnings(self, key: str, obj: Json) -> list[str]:
        """Return what to tell those who write this, though it is taken."""
        if key == CRDS and has_rules(obj["spec"]):
            return [NO_CEL]
        return []

    def allocate(self, key: str, obj: Json, old: Json | None) -> None:
        """Give an object, valid and about to be kept, what the cluster hands out.

        Raises:
            ApiError: 422.
        """
        if key == "services":
            self._allocator.allocate(obj, old)
        elif key == CRDS:
            self._check_free(obj)
            establish(obj)

    def _check_free(self, crd: Json) -> None:
        """Keep definitions away from the resources that are built in."""
        name = crd["metadata"]["name"]
        present = self._catalog.get(name)
        if present is not None and not present.custom:
            detail = "this resource is built into the API server"
            error = FieldError("metadata.name", "Forbidden", detail)
            raise invalid("CustomResourceDefinition", "apiextensions.k8s.io", name, [error])

    def part(self, call: Call, made: Json, before: Json) -> Json:
        """Return `before` with the part changed that a subresource is for."""
        result: Json = copy(before)
        if call.subresource == "status":
            result["status"] = made.get("status") or {}
        elif call.subresource == "finalize":
            result["spec"]["finalizers"] = at(made, "spec", "finalizers", default=[])
        elif call.subresource == "binding":
            result = made
        elif call.subresource == "ephemeralcontainers":
            result["spec"]["ephemeralContainers"] = at(made, "spec", "ephemeralContainers")
        return result

    def check_delete(self, call: Call, current: Json) -> None:
        """Refuse to delete what the cluster cannot be without.

        Raises:
            ApiError: 403.
        """
        if call.resource.key == "namespaces" and call.name in LASTING_NAMESPACES:
            raise forbidden("namespaces", "", call.name, "this namespace may not be deleted")

    def grace(self, key: str, current: Json, asked: int | None) -> int:
        """Return the seconds an object gets between the wish and its end."""
        if key != "pods":
            return 0
        if not at(current, "spec", "nodeName"):
            return 0
        if at(current, "status", "phase") in {"Succeeded", "Failed"}:
            return 0
        if asked is None:
            asked = at(current, "spec", "terminationGracePeriodSeconds", default=30)
        return max(0, int(asked))

    def deletion_time(self, metadata: Json, grace: int) -> str:
        """Return the moment by which the object shall be gone."""
        moment = datetime.now(UTC) + timedelta(seconds=grace)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def begin_delete(self, key: str, obj: Json) -> None:
        if key == "namespaces":
            obj.setdefault("status", {})["phase"] = "Terminating"

    def after_delete(self, key: str, obj: Json) -> None:
        """Go on where a deletion waits for something the server itself does."""
        if key == CRDS:
            self._delete_instances(obj)

    def _delete_instances(self, crd: Json) -> None:
        """Delete all objects of a definition's kind; the last to go takes it along."""
        resource = declared(crd)
        for obj in list(self._store.list(resource.key)):
            if obj["metadata"].get("finalizers"):
                if "deletionTimestamp" not in obj["metadata"]:
                    marked = copy(obj)
                    marked["metadata"] |= {
                        "deletionTimestamp": self.deletion_time({}, 0),
                        "deletionGracePeriodSeconds": 0,
                    }
                    self._store.put(resource.key, marked)
            else:
                self._store.remove(resource.key, obj)
        self._store.on_change(resource.key, lambda _: self._let_go(crd))
        self._let_go(crd)

    def _let_go(self, crd: Json) -> None:
        """Take the server's finalizer off a deleted definition without objects."""
        present = self._store.get(CRDS, "", crd["metadata"]["name"])
        if present is None or present["metadata"].get("uid") != crd["metadata"]["uid"]:
            return
        if self._store.count(declared(present).key):
            return
        left = [f for f in present["metadata"].get("finalizers") or () if f != CLEANUP]
        freed = copy(present)
        freed["metadata"]["finalizers"] = left
        if left:
            self._store.put(CRDS, freed)
        else:
            self._store.remove(CRDS, freed)

    def _crd_changed(self, change: Change) -> None:
        """Serve what is declared, from the write on that declares it."""
        resource = declared(change.object)
        if change.type == "DELETED":
            self._catalog.remove(resource.key)
            self._store.forget(resource.key)
        else:
            self._catalog.add(resource)


def qos_class(spec: Json) -> str:
    """Return Guaranteed, Burstable or BestEffort, by Kubernetes' rule."""
    resources = [container.get("resources") or {} for container in containers(spec)]
    if not any(r.get("limits") or r.get("requests") for r in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= (r.get("limits") or {}).keys() and r.get("requests") == r["limits"]
        for r in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _mount_token(spec: Json) -> None:
    """Mount the service account's token into every container that has none there."""
    wanting = [
        container
        for container in containers(spec)
        if all(m.get("mountPath") != TOKEN_MOUNT for m in container.get("volumeMounts") or ())
    ]
    if not wanting:
        return
    prefix = "kube-api-access-"
    volumes = spec.setdefault("volumes", [])
    name = next((v["name"] for v in volumes if v["name"].startswith(prefix)), "")
    if not name:
        name = generated_name(prefix)
        volumes.append(_token_volume(name))
    for container in wanting:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_MOUNT}
        container.setdefault("volumeMounts", []).append(mount)


def _token_volume(name: str) -> Json:
    token = {"expirationSeconds": TOKEN_SECONDS, "path": "token"}
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": token},
        {"configMap": authority},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}


def _tolerate(spec: Json) -> None:
    tolerations = spec.setdefault("tolerations", [])
    for condition in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{condition}"
        if not any(t.get("key") == key for t in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": EVICTED_AFTER,
                }
            )

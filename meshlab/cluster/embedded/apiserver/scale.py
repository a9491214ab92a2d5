"""The `scale` subresource: one small object in front of whatever has replicas."""

from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at, dotted, put_at
from meshlab.cluster.embedded.apiserver.resource import ScalePaths
from meshlab.cluster.embedded.apiserver.selector import written
from meshlab.cluster.embedded.apiserver.status import FieldError, bad_request, invalid

Json = dict[str, Any]


def scale_of(obj: Json, paths: ScalePaths) -> Json:
    """Return the Scale that shows an object's replicas."""
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Json = {"replicas": at(obj, *dotted(paths.status_replicas), default=0)}
    selector = at(obj, *dotted(paths.selector)) if paths.selector else None
    if selector:
        status["selector"] = selector if isinstance(selector, str) else written(selector)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": at(obj, *dotted(paths.replicas), default=0)},
        "status": status,
    }


def scaled(obj: Json, scale: Json, paths: ScalePaths) -> Json:
    """Return an object with the replicas that a Scale asks for; `obj` is changed.

    Raises:
        ApiError: 400, 422.
    """
    replicas = at(scale, "spec", "replicas", default=0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("spec.replicas is no whole number")
    if replicas < 0:
        detail = "must be greater than or equal to 0"
        error = FieldError("spec.replicas", "Invalid value", detail, replicas)
        raise invalid("Scale", "autoscaling", obj["metadata"]["name"], [error])
    put_at(obj, dotted(paths.replicas), replicas)
    asked = at(scale, "metadata", "resourceVersion")
    if asked:
        obj["metadata"]["resourceVersion"] = asked
    return obj

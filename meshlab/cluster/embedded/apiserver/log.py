"""`pods/log`: which container is meant, and which part of its log."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at
from meshlab.cluster.embedded.apiserver.node_api import NodeApi
from meshlab.cluster.embedded.apiserver.request import flag, whole_number
from meshlab.cluster.embedded.apiserver.status import bad_request

Json = dict[str, Any]

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def names_of(pod: Json, field: str) -> list[str]:
    return [container["name"] for container in pod["spec"].get(field) or ()]


def container_of(pod: Json, asked: str) -> str:
    """Return the container a request means.

    Raises:
        ApiError: 400; there is none of that name, or several and none is named.
    """
    apps, inits = names_of(pod, "containers"), names_of(pod, "initContainers")
    name = pod["metadata"]["name"]
    if asked:
        if asked not in {*apps, *inits, *names_of(pod, "ephemeralContainers")}:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    default = at(pod, "metadata", "annotations", DEFAULT_CONTAINER)
    if default in apps:
        return str(default)
    if len(apps) == 1:
        return apps[0]
    choices = f"choose one of: [{' '.join(apps)}]"
    if inits:
        choices += f" or one of the init containers: [{' '.join(inits)}]"
    raise bad_request(f"a container name must be specified for pod {name}, {choices}")


def read_log(node: NodeApi, pod: Json, query: Mapping[str, str]) -> AsyncIterator[bytes]:
    """Return the part of a log that a query asks for.

    Raises:
        ApiError: 400.
    """
    container = container_of(pod, query.get("container", ""))
    if not at(pod, "spec", "nodeName"):
        name = pod["metadata"]["name"]
        raise bad_request(f"pod {name} does not have a host assigned")
    return node.logs(
        pod,
        container,
        follow=flag(query, "follow"),
        since_seconds=whole_number(query, "sinceSeconds"),
        since_time=query.get("sinceTime") or None,
        tail_lines=whole_number(query, "tailLines"),
        limit_bytes=whole_number(query, "limitBytes"),
        timestamps=flag(query, "timestamps"),
        previous=flag(query, "previous"),
    )

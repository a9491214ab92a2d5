"""The Table that `kubectl get` prints: each kind's columns, as Kubernetes' printers have them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at, parse_time
from meshlab.cluster.embedded.apiserver.resource import Column, Resource, Version
from meshlab.cluster.embedded.apiserver.selector import written

Json = dict[str, Any]
Cells = list[Any]

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


@dataclass(frozen=True, slots=True)
class Printer:
    """The columns of a built-in kind: name, with a * where only `-o wide` shows it; then cells."""

    columns: tuple[str, ...]
    cells: Callable[[Json], Cells]
    named: bool = True
    """Whether a column with the name comes first."""


def table(version: str, columns: Sequence[Json], rows: Sequence[Json], metadata: Json) -> Json:
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }


def column_definitions(resource: Resource, version: Version) -> list[Json]:
    """Return the Table's head."""
    columns = [_definition("Name", format_="name")]
    if resource.custom:
        return columns + [
            _definition(c.name, c.type, c.format, c.priority, c.description)
            for c in version.columns
        ]
    printer = PRINTERS.get(resource.key, DEFAULT)
    if not printer.named:
        columns.clear()
    columns += [
        _definition(name.rstrip("*"), priority=1 if name.endswith("*") else 0)
        for name in printer.columns
    ]
    return columns


def _definition(
    name: str,
    type_: str = "string",
    format_: str = "",
    priority: int = 0,
    description: str = "",
) -> Json:
    return {
        "name": name,
        "type": type_,
        "format": format_,
        "description": description,
        "priority": priority,
    }


def row(resource: Resource, version: Version, obj: Json) -> Cells:
    """Return an object's cells."""
    name = obj["metadata"]["name"]
    if resource.custom:
        return [name, *(custom_cell(column, obj) for column in version.columns)]
    printer = PRINTERS.get(resource.key, DEFAULT)
    cells = printer.cells(obj)
    return [name, *cells] if printer.named else cells


def custom_cell(column: Column, obj: Json) -> Any:
    """Return what a custom resource shows in one of its columns."""
    found = list(json_path(column.json_path, obj))
    if not found or found[0] is None:
        return "" if column.type == "string" else None
    if column.type == "date":
        return age(str(found[0]))
    if column.type == "string":
        return ",".join(map(_text, found)) if len(found) > 1 else _text(found[0])
    return found[0]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def json_path(path: str, value: Any) -> Iterable[Any]:
    r"""Yield what a printer column's path finds.

    The subset that CRDs use: `.a.b`, `[0]`, `[*]`, `['a.b']`, `\\.` and
    `[?(@.type=="Ready")]`.
    """
    found = [value]
    for step in path_steps(path):
        found = [below for item in found for below in _step(step, item)]
    return found


def path_steps(path: str) -> list[str | int | tuple[list[str | int], str]]:
    """Return a path's steps: keys, indexes (-1 … for [*] the key *), filters."""
    steps: list[Any] = []
    index = 0
    while index < len(path):
        if path[index] == ".":
            index += 1
        elif path[index] == "[":
            end = _closing(path, index)
            steps.append(_bracket(path[index + 1 : end]))
            index = end + 1
        else:
            key = ""
            while index < len(path) and path[index] not in ".[":
                if path[index] == "\\":
                    index += 1
                key += path[index : index + 1]
                index += 1
            steps.append(key)
    return steps


def _closing(path: str, start: int) -> int:
    quote = ""
    for index in range(start, len(path)):
        character = path[index]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "]":
            return index
    return len(path)


def _bracket(text: str) -> Any:
    if text.startswith("?("):
        left, _, right = text[2:].rstrip(")").partition("==")
        return path_steps(left.strip().removeprefix("@")), right.strip().strip("'\"")
    if text.lstrip("-").isdigit():
        return int(text)
    return text.strip("'\"")


def _step(step: Any, value: Any) -> Iterable[Any]:
    if isinstance(step, tuple):
        path, wanted = step
        for item in value if isinstance(value, list) else ():
            found = [item]
            for part in path:
                found = [below for one in found for below in _step(part, one)]
            if any(str(one) == wanted for one in found):
                yield item
    elif isinstance(step, int):
        if isinstance(value, list) and -len(value) <= step < len(value):
            yield value[step]
    elif step == "*":
        yield from value if isinstance(value, list) else value.values()
    elif isinstance(value, dict) and step in value:
        yield value[step]


# --- built-in kinds ---------------------------------------------------------------------------


def age(timestamp: str | None, now: datetime | None = None) -> str:
    """Return how long ago, as kubectl's `HumanDuration` writes it."""
    if not timestamp:
        return UNKNOWN
    try:
        then = parse_time(timestamp)
    except ValueError:
        return "<invalid>"
    return human_duration(((now or datetime.now(UTC)) - then).total_seconds())


def human_duration(seconds: float) -> str:
    """Return `5s`, `3m12s`, `4h7m`, `2d3h`, `3y10d`: two units while the first is small."""
    if seconds < -1:
        return "<invalid>"
    total = max(0, int(seconds))
    if total < 120:
        return f"{total}s"
    minutes = total // 60
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = total // 3600
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    if days < 365 * 8:
        return f"{years}y{days % 365}d" if days % 365 else f"{years}y"
    return f"{years}y"


def _age(obj: Json) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _joined(values: Iterable[Any]) -> str:
    return ",".join(map(str, values)) or NONE


def _images(spec: Json) -> tuple[str, str]:
    containers = spec.get("containers") or ()
    return ",".join(c["name"] for c in containers), ",".join(c["image"] for c in containers)


def pod_cells(pod: Json) -> Cells:
    spec, status = pod["spec"], pod.get("status") or {}
    ready, total, restarts, last = _pod_counts(spec, status)
    shown = f"{restarts} ({age(last)} ago)" if restarts and last else str(restarts)
    gates = spec.get("readinessGates") or ()
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    passed = sum(conditions.get(gate["conditionType"]) == "True" for gate in gates)
    ips = [ip["ip"] for ip in status.get("podIPs") or ()] or [status.get("podIP") or NONE]
    return [
        f"{ready}/{total}",
        pod_reason(pod),
        shown,
        _age(pod),
        ips[0],
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    ]


def _native_sidecar(container: Json) -> bool:
    return bool(container.get("restartPolicy") == "Always")


def _pod_counts(spec: Json, status: Json) -> tuple[int, int, int, str | None]:
    """Return ready, all, restarts and the last restart, native sidecars counted in."""
    sidecars = {c["name"] for c in spec.get("initContainers") or () if _native_sidecar(c)}
    shown = [s for s in status.get("initContainerStatuses") or () if s["name"] in sidecars] + list(
        status.get("containerStatuses") or ()
    )
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready = sum(bool(s.get("ready") and at(s, "state", "running") is not None) for s in shown)
    ended = [at(s, "lastState", "terminated", "finishedAt") for s in shown]
    last = max((moment for moment in ended if moment), default=None)
    restarts = sum(s.get("restartCount", 0) for s in shown)
    if not restarts:
        waiting = status.get("initContainerStatuses") or ()
        restarts = sum(s.get("restartCount", 0) for s in waiting)
    return ready, total, restarts, last


def pod_reason(pod: Json) -> str:
    """Return the STATUS column: the most telling of phase, waiting and ended containers."""
    spec, status = pod["spec"], pod.get("status") or {}
    reason = status.get("reason") or status.get("phase") or "Unknown"
    initializing = _init_reason(spec, status)
    if initializing:
        reason = initializing
    if not initializing or at(_condition(status, "Initialized"), "status") == "True":
        running = False
        for found in reversed(status.get("containerStatuses") or ()):
            state = found.get("state") or {}
            told = _waiting_reason(state) or _terminated_reason(state)
            if told:
                reason = told
            elif found.get("ready") and "running" in state:
                running = True
        if reason == "Completed" and running:
            reason = "Running" if _is_ready(status) else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _is_ready(status: Json) -> bool:
    return bool(at(_condition(status, "Ready"), "status") == "True")


def _condition(status: Json, kind: str) -> Json:
    found = (c for c in status.get("conditions") or () if c["type"] == kind)
    return next(found, {})


def _waiting_reason(state: Json) -> str:
    return at(state, "waiting", "reason", default="")  # type: ignore[no-any-return]  # JSON


def _terminated_reason(state: Json) -> str:
    ended = state.get("terminated")
    if not ended:
        return ""
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _init_reason(spec: Json, status: Json) -> str:
    """Return `Init:0/1`, `Init:CrashLoopBackOff`…; "" when all init containers are through."""
    declared = {c["name"]: c for c in spec.get("initContainers") or ()}
    for index, found in enumerate(status.get("initContainerStatuses") or ()):
        state = found.get("state") or {}
        ended = state.get("terminated")
        if ended and ended.get("exitCode") == 0:
            continue
        if _native_sidecar(declared.get(found["name"], {})) and found.get("started"):
            continue
        if ended:
            return f"Init:{_terminated_reason(state)}"
        waiting = _waiting_reason(state)
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{index}/{len(declared)}"
    return ""


def service_cells(service: Json) -> Cells:
    spec = service["spec"]
    return [
        spec["type"],
        spec.get("clusterIP") or NONE,
        _external_address(service),
        ",".join(map(_service_port, spec.get("ports") or ())) or NONE,
        _age(service),
        written({"matchLabels": spec.get("selector") or {}}) or NONE,
    ]


def _external_address(service: Json) -> str:
    spec = service["spec"]
    own = list(spec.get("externalIPs") or ())
    match spec["type"]:
        case "LoadBalancer":
            entries = at(service, "status", "loadBalancer", "ingress", default=[])
            given = [entry.get("ip") or entry.get("hostname") for entry in entries]
            return ",".join([*given, *own]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName"))
        case _:
            return ",".join(own) or NONE


def _service_port(port: Json) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port['protocol']}"


def deployment_cells(deployment: Json) -> Cells:
    spec, status = deployment["spec"], deployment.get("status") or {}
    names, images = _images(spec["template"]["spec"])
    return [
        f"{status.get('readyReplicas', 0)}/{spec['replicas']}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(deployment),
        names,
        images,
        written(spec["selector"]),
    ]


def replica_set_cells(replica_set: Json) -> Cells:
    spec, status = replica_set["spec"], replica_set.get("status") or {}
    names, images = _images(spec["template"]["spec"])
    return [
        spec["replicas"],
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(replica_set),
        names,
        images,
        written(spec["selector"]),
    ]


def node_cells(node: Json) -> Cells:
    status, labels = node.get("status") or {}, node["metadata"].get("labels") or {}
    ready = at(_condition(status, "Ready"), "status")
    words = ["Ready" if ready == "True" else "NotReady"] if ready else ["Unknown"]
    if at(node, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    roles = sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))
    addresses = {a["type"]: a["address"] for a in status.get("addresses") or ()}
    info = status.get("nodeInfo") or {}
    return [
        ",".join(words),
        ",".join(roles) or NONE,
        _age(node),
        info.get("kubeletVersion") or UNKNOWN,
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def event_cells(event: Json) -> Cells:
    about = event["involvedObject"]
    last = event.get("lastTimestamp") or event.get("eventTime")
    first = event.get("firstTimestamp") or event.get("eventTime")
    name = about.get("name", "")
    return [
        age(last),
        event.get("type", ""),
        event.get("reason", ""),
        f"{about.get('kind', '').lower()}/{name}",
        about.get("fieldPath", ""),
        at(event, "source", "component", default=event.get("reportingComponent", "")),
        event.get("message", "").strip(),
        age(first),
        event.get("count", 1),
        event["metadata"]["name"],
    ]


def endpoint_slice_cells(endpoint_slice: Json) -> Cells:
    ports = [port.get("port") for port in endpoint_slice.get("ports") or ()]
    endpoints = endpoint_slice.get("endpoints") or ()
    addresses = [address for e in endpoints for address in e["addresses"]]
    return [
        endpoint_slice["addressType"],
        _first_few(ports) if ports else UNSET,
        _first_few(addresses) if addresses else UNSET,
        _age(endpoint_slice),
    ]


def _first_few(values: Sequence[Any], most: int = 3) -> str:
    shown = ",".join(str(value) for value in values[:most])
    return f"{shown} + {len(values) - most} more..." if len(values) > most else shown


def binding_cells(binding: Json) -> Cells:
    subjects = binding.get("subjects") or ()
    reference = binding["roleRef"]
    return [
        f"{reference['kind']}/{reference['name']}",
        _age(binding),
        ", ".join(s["name"] for s in subjects if s["kind"] == "User"),
        ", ".join(s["name"] for s in subjects if s["kind"] == "Group"),
        ", ".join(
            f"{s.get('namespace')}/{s['name']}" for s in subjects if s["kind"] == "ServiceAccount"
        ),
    ]


DEFAULT = Printer(("Age",), lambda o: [_age(o)])
CREATED = Printer(("Created At",), lambda o: [o["metadata"].get("creationTimestamp")])
BINDING = Printer(("Role", "Age", "Users*", "Groups*", "ServiceAccounts*"), binding_cells)
WEBHOOKS = Printer(("Webhooks", "Age"), lambda o: [len(o.get("webhooks") or ()), _age(o)])
RBAC = "rbac.authorization.k8s.io"

PRINTERS: dict[str, Printer] = {
    "pods": Printer(
        (
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "IP*",
            "Node*",
            "Nominated Node*",
            "Readiness Gates*",
        ),
        pod_cells,
    ),
    "services": Printer(
        ("Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"), service_cells
    ),
    "deployments.apps": Printer(
        (
            "Ready",
            "Up-to-date",
            "Available",
            "Age",
            "Containers*",
            "Images*",
            "Selector*",
        ),
        deployment_cells,
    ),
    "replicasets.apps": Printer(
        ("Desired", "Current", "Ready", "Age", "Containers*", "Images*", "Selector*"),
        replica_set_cells,
    ),
    "nodes": Printer(
        (
            "Status",
            "Roles",
            "Age",
            "Version",
            "Internal-IP*",
            "External-IP*",
            "OS-Image*",
            "Kernel-Version*",
            "Container-Runtime*",
        ),
        node_cells,
    ),
    "namespaces": Printer(
        ("Status", "Age"), lambda o: [at(o, "status", "phase", default=""), _age(o)]
    ),
    "endpointslices.discovery.k8s.io": Printer(
        ("AddressType", "Ports", "Endpoints", "Age"), endpoint_slice_cells
    ),
    "configmaps": Printer(
        ("Data", "Age"),
        lambda o: [len(o.get("data") or ()) + len(o.get("binaryData") or ()), _age(o)],
    ),
    "secrets": Printer(
        ("Type", "Data", "Age"), lambda o: [o["type"], len(o.get("data") or ()), _age(o)]
    ),
    "serviceaccounts": Printer(
        ("Secrets", "Age"), lambda o: [len(o.get("secrets") or ()), _age(o)]
    ),
    "leases.coordination.k8s.io": Printer(
        ("Holder", "Age"), lambda o: [at(o, "spec", "holderIdentity", default=""), _age(o)]
    ),
    f"roles.{RBAC}": CREATED,
    f"clusterroles.{RBAC}": CREATED,
    f"rolebindings.{RBAC}": BINDING,
    f"clusterrolebindings.{RBAC}": BINDING,
    "customresourcedefinitions.apiextensions.k8s.io": CREATED,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": WEBHOOKS,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": WEBHOOKS,
    "events": Printer(
        (
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "Subobject*",
            "Source*",
            "Message",
            "First Seen*",
            "Count*",
            "Name*",
        ),
        event_cells,
        named=False,
    ),
}

from datetime import UTC, datetime
from typing import Any

import pytest

from meshlab.cluster.embedded.apiserver.resource import Column
from meshlab.cluster.embedded.apiserver.table import (
    age,
    custom_cell,
    human_duration,
    pod_cells,
    pod_reason,
    service_cells,
)

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (192, "3m12s"),
        (600, "10m"),
        (10799, "179m"),
        (3 * 3600, "3h"),
        (4 * 3600 + 420, "4h7m"),
        (8 * 3600 + 420, "8h"),
        (47 * 3600, "47h"),
        (51 * 3600, "2d3h"),
        (8 * 86400, "8d"),
        (700 * 86400, "700d"),
        (3 * 365 * 86400 + 10 * 86400, "3y10d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_age() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert age("2026-01-01T11:59:00Z", noon) == "60s"
    assert age(None, noon) == "<unknown>"


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
WAITING = {"waiting": {"reason": "PodInitializing"}}
CRASH = {"waiting": {"reason": "CrashLoopBackOff"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
FAILED = {"terminated": {"exitCode": 2}}
KILLED = {"terminated": {"exitCode": 137, "signal": 9}}


def pod(
    *containers: tuple[str, Json, bool],
    init: tuple[tuple[str, Json, bool, bool], ...] = (),
    phase: str = "Running",
    deleted: bool = False,
    ready: bool = True,
) -> Json:
    """Containers as (name, state, ready); init as (name, state, ready, native sidecar)."""
    conditions = [{"type": "Ready", "status": str(ready)}]
    found: Json = {
        "metadata": {"name": "p", "creationTimestamp": None},
        "spec": {
            "containers": [{"name": name} for name, *_ in containers],
            "initContainers": [
                {"name": n, **({"restartPolicy": "Always"} if native else {})}
                for n, _, _, native in init
            ],
        },
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [
                {"name": n, "state": s, "ready": r, "restartCount": 0} for n, s, r in containers
            ],
            "initContainerStatuses": [
                {"name": n, "state": s, "ready": r, "started": r, "restartCount": 0}
                for n, s, r, _ in init
            ],
        },
    }
    if deleted:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return found


@pytest.mark.parametrize(
    ("shown", "ready", "status"),
    [
        pytest.param(pod(("c", RUNNING, True)), "1/1", "Running", id="running"),
        pytest.param(pod(("c", RUNNING, False)), "0/1", "Running", id="not ready"),
        pytest.param(
            pod(("c", RUNNING, True), init=(("s", RUNNING, True, True),)),
            "2/2",
            "Running",
            id="native sidecar counts",
        ),
        pytest.param(
            pod(("c", WAITING, False), init=(("s", RUNNING, False, True),), phase="Pending"),
            "0/2",
            "Init:0/1",
            id="sidecar starting",
        ),
        pytest.param(
            pod(
                ("c", WAITING, False),
                init=(("a", DONE, True, False), ("b", RUNNING, False, False)),
                phase="Pending",
            ),
            "0/1",
            "Init:1/2",
            id="second init container",
        ),
        pytest.param(
            pod(("c", WAITING, False), init=(("a", CRASH, False, False),), phase="Pending"),
            "0/1",
            "Init:CrashLoopBackOff",
            id="init container crashes",
        ),
        pytest.param(
            pod(("c", WAITING, False), init=(("a", FAILED, False, False),), phase="Pending"),
            "0/1",
            "Init:ExitCode:2",
            id="init container failed",
        ),
        pytest.param(
            pod(("c", WAITING, False), phase="Pending"), "0/1", "PodInitializing", id="created"
        ),
        pytest.param(pod(("c", CRASH, False)), "0/1", "CrashLoopBackOff", id="crash loop"),
        pytest.param(pod(("c", KILLED, False)), "0/1", "Signal:9", id="killed"),
        pytest.param(
            pod(("c", DONE, False), phase="Succeeded"), "0/1", "Completed", id="completed"
        ),
        pytest.param(
            pod(("a", DONE, False), ("b", RUNNING, True), ready=False),
            "1/2",
            "NotReady",
            id="one of two is through",
        ),
        pytest.param(
            pod(("c", RUNNING, True), deleted=True), "1/1", "Terminating", id="terminating"
        ),
        pytest.param(
            {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}},
            "0/1",
            "Unknown",
            id="nothing known",
        ),
    ],
)
def test_pod(shown: Json, ready: str, status: str) -> None:
    assert (pod_cells(shown)[0], pod_reason(shown)) == (ready, status)


def test_service() -> None:
    service = {
        "metadata": {"name": "s", "creationTimestamp": None},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.7",
            "ports": [
                {"port": 80, "nodePort": 30080, "protocol": "TCP"},
                {"port": 53, "protocol": "UDP"},
            ],
            "selector": {"b": "2", "a": "1"},
        },
    }
    age_shown = "<unknown>"
    expected = ["LoadBalancer", "10.96.0.7", "<pending>", "80:30080/TCP,53/UDP", age_shown]
    assert service_cells(service) == [*expected, "a=1,b=2"]
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
    assert service_cells(service)[2] == "127.0.0.1"


OBJECT = {
    "spec": {"hosts": ["a", "b"], "n": 0, "map": {"x.y/z": "dotted"}},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Other", "status": "False"},
        ]
    },
}


@pytest.mark.parametrize(
    ("path", "kind", "cell"),
    [
        (".spec.hosts", "string", '["a","b"]'),
        (".spec.hosts[0]", "string", "a"),
        (".spec.hosts[*]", "string", "a,b"),
        (".spec.n", "integer", 0),
        (".spec.missing", "string", ""),
        (".spec.missing", "integer", None),
        (".spec.map['x.y/z']", "string", "dotted"),
        (r".spec.map.x\.y/z", "string", "dotted"),
        ('.status.conditions[?(@.type=="Ready")].status', "string", "True"),
        ('.status.conditions[?(@.type=="Nope")].status', "string", ""),
    ],
)
def test_custom_cell(path: str, kind: str, cell: Any) -> None:
    assert custom_cell(Column(name="C", json_path=path, type=kind), OBJECT) == cell

"""Which container starts or stops next."""

from typing import Any

import pytest

from meshlab.cluster.embedded.node.pod import (
    Container,
    Decision,
    Kind,
    Terminated,
    backoff,
    containers_of,
    decide,
    initialized,
    phase,
    unready,
)

NOW = 1000.0
OK = Terminated(code=0, reason="Completed")
BAD = Terminated(code=3, reason="Error")


def init(name: str = "init", **state: Any) -> Container:
    return Container(name=name, kind=Kind.INIT, always=False, never=False, **state)


def sidecar(name: str = "side", **state: Any) -> Container:
    return Container(name=name, kind=Kind.SIDECAR, always=True, never=False, **state)


def app(name: str = "app", *, always: bool = True, never: bool = False, **state: Any) -> Container:
    return Container(name=name, kind=Kind.APP, always=always, never=never, **state)


RUNS: dict[str, Any] = {"running_since": 1.0, "started": True, "ready": True}


@pytest.mark.parametrize(
    ("containers", "decision"),
    [
        pytest.param([app()], Decision(start=("app",)), id="a new pod starts its container"),
        pytest.param(
            [init(), app()], Decision(start=("init",)), id="an init container goes first, alone"
        ),
        pytest.param([init(**RUNS), app()], Decision(), id="a running init container is awaited"),
        pytest.param([init(ended=OK), app()], Decision(start=("app",)), id="after init, the app"),
        pytest.param(
            [init(ended=BAD, retry_at=NOW + 5), app()],
            Decision(wake_at=NOW + 5),
            id="a failed init container waits for its back-off",
        ),
        pytest.param(
            [sidecar(running_since=1.0), app()],
            Decision(),
            id="a sidecar that has not started holds up the app",
        ),
        pytest.param(
            [sidecar(**RUNS), init("second"), app()],
            Decision(start=("second",)),
            id="a started sidecar lets the next init container go",
        ),
        pytest.param(
            [sidecar(ended=BAD), app(**RUNS)],
            Decision(start=("side",)),
            id="a sidecar that died is started again beside the app",
        ),
        pytest.param(
            [app("one", running_since=1.0, hooked=False), app("two")],
            Decision(),
            id="postStart of the first container holds up the second",
        ),
        pytest.param(
            [app("one", **RUNS), app("two")],
            Decision(start=("two",)),
            id="containers start one after the other",
        ),
        pytest.param(
            [app("one", ended=BAD, retry_at=NOW + 9), app("two")],
            Decision(start=("two",), wake_at=NOW + 9),
            id="one container's back-off does not hold up another",
        ),
        pytest.param(
            [sidecar(**RUNS), app(ended=OK, always=False)],
            Decision(stop=("side",)),
            id="when the app is done for good, the sidecar is stopped",
        ),
        pytest.param(
            [sidecar(ended=OK), app(ended=OK, always=False)],
            Decision(over=True),
            id="and then the pod is over",
        ),
        pytest.param(
            [app(ended=BAD, always=False)],
            Decision(start=("app",)),
            id="OnFailure starts a failed one again",
        ),
        pytest.param(
            [app(ended=BAD, always=False, never=True)], Decision(over=True), id="Never does not"
        ),
    ],
)
def test_decide(containers: list[Container], decision: Decision) -> None:
    assert decide(containers, NOW) == decision


@pytest.mark.parametrize(
    ("containers", "decision"),
    [
        pytest.param(
            [sidecar("one", **RUNS), sidecar("two", **RUNS), app("a", **RUNS), app("b", **RUNS)],
            Decision(stop=("a", "b")),
            id="the containers proper first, together",
        ),
        pytest.param(
            [sidecar("one", **RUNS), sidecar("two", **RUNS), app(**RUNS, stopping=True)],
            Decision(),
            id="sidecars wait for them",
        ),
        pytest.param(
            [sidecar("one", **RUNS), sidecar("two", **RUNS), app(ended=OK)],
            Decision(stop=("two",)),
            id="then the last sidecar",
        ),
        pytest.param(
            [sidecar("one", **RUNS), sidecar("two", ended=OK), app(ended=OK)],
            Decision(stop=("one",)),
            id="then the first",
        ),
        pytest.param([app(ended=OK)], Decision(over=True), id="nothing runs, nothing is restarted"),
    ],
)
def test_a_deleted_pod_winds_down(containers: list[Container], decision: Decision) -> None:
    assert decide(containers, NOW, deleted=True) == decision


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        pytest.param([init(**RUNS), app()], "Pending", id="while init containers run"),
        pytest.param([app("a", **RUNS), app("b")], "Pending", id="until all were started"),
        pytest.param([app(**RUNS)], "Running", id="running"),
        pytest.param([app(ended=BAD)], "Running", id="between two runs"),
        pytest.param([app(ended=OK, always=False)], "Succeeded", id="done"),
        pytest.param([app(ended=BAD, always=False, never=True)], "Failed", id="failed for good"),
        pytest.param(
            [
                Container(name="i", kind=Kind.INIT, always=False, never=True, ended=BAD),
                app(always=False, never=True),
            ],
            "Failed",
            id="an init container failed for good",
        ),
    ],
)
def test_phase(containers: list[Container], expected: str) -> None:
    assert phase(containers) == expected


def test_failures_wait_longer_each_time() -> None:
    assert [backoff(n) for n in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]


def test_containers_of_a_pod_with_a_sidecar() -> None:
    pod = {
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "a"}],
        }
    }
    kinds = [(c.name, c.kind, c.always, c.never) for c in containers_of(pod)]
    assert kinds == [
        ("i", Kind.INIT, False, True),
        ("s", Kind.SIDECAR, True, False),
        ("a", Kind.APP, False, True),
    ]


def test_sidecars_count_in_ready_and_initialized() -> None:
    waiting = [sidecar(running_since=1.0), app()]
    assert (initialized(waiting), unready(waiting)) == (False, ["side", "app"])
    fine = [sidecar(**RUNS), app(**RUNS)]
    assert (initialized(fine), unready(fine)) == (True, [])

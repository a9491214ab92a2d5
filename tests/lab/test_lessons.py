"""The lessons on a real cluster: a checkpoint passes when solved, says why not when undone."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

import meshlab as ml
from meshlab.cluster.phase import silent
from meshlab.lab.lab import Lab
from meshlab.lab.lesson.base import MANIFESTS
from meshlab.lab.lesson.catalogue import LESSONS
from meshlab.lab.lesson.preflight import node

pytestmark = [pytest.mark.root, pytest.mark.cluster]

CLUSTER = "lessons"
START_SECONDS = 10.0
VIRTUAL_SERVICES = "virtualservices.networking.istio.io"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if os.geteuid():
        pytest.skip("the embedded cluster needs root")
    patch = pytest.MonkeyPatch()
    patch.setenv("MESHLAB_HOME", str(tmp_path_factory.mktemp("home")))
    patch.setenv("MESHLAB_STRICT", "0")
    try:
        ml.up(name=CLUSTER, progress=silent).kube.close()
        yield CLUSTER
    finally:
        ml.down(CLUSTER, progress=silent)
        patch.undo()


@pytest.fixture(scope="module", params=["00", "01", "02", "03", "04", "09"])
def lab(cluster: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lesson at its start, from the state that the one before left."""
    made = Lab(request.param, cluster=cluster)
    assert made.started is not None
    assert made.started.seconds < START_SECONDS
    yield made
    made.mesh.kube.close()


def scale(name: str, replicas: int) -> Callable[[Lab], None]:
    def undo(lab: Lab) -> None:
        lab.namespace.scale(name, replicas)

    return undo


def apply(name: str) -> Callable[[Lab], None]:
    return lambda lab: lab.mesh.apply(MANIFESTS / name) and None


def unapply(name: str) -> Callable[[Lab], None]:
    return lambda lab: lab.mesh.delete(MANIFESTS / name) and None


def delete(resource: str, name: str) -> Callable[[Lab], None]:
    return lambda lab: lab.mesh.kube.delete(resource, name, lab.namespace.name) and None


def forget(what: str) -> Callable[[Lab], None]:
    return lambda lab: lab.memory.pop(what, None) and None


def unlabel(lab: Lab) -> None:
    labels = {"metadata": {"labels": {"istio-injection": None}}}
    lab.mesh.kube.patch("namespaces", lab.namespace.name, labels)


def without_sidecars(lab: Lab) -> None:
    """Pods made without the label, which then comes too late."""
    unlabel(lab)
    lab.restart()
    apply("02_injection/03-namespace.yaml")(lab)


def only_plain_text(lab: Lab) -> None:
    """New sidecars have counted nothing; then only the control pod calls."""
    lab.restart()
    lab.namespace.pod(app="control").exec("curl", "-s", "http://bluegreen/api/color")


def no_control_plane(lab: Lab) -> None:
    lab.mesh.kube.patch("deployments.apps", "istiod", {"spec": {"replicas": 0}}, "istio-system")


UNDONE: dict[str, tuple[Callable[[Lab], object], str]] = {
    "preflight.mesh": (no_control_plane, "istiod is scaled to 0"),
    "preflight.boot": (forget("boot"), "no cluster was booted in this lab yet"),
    "versions.deployed": (delete("services", "bluegreen"), "there is no Service bluegreen"),
    "versions.half": (scale("green", 3), "the Service has 1 pods of blue and 3 of green"),
    "versions.tenth": (scale("green", 1), "the Service has 1 pods of blue and 1 of green"),
    "inject.label": (unlabel, "nothing asks the webhook to inject"),
    "inject.sidecars": (without_sidecars, "made before the label was there"),
    "inject.control": (delete("pods", "control"), "there is no control pod"),
    "inject.captured": (lambda lab: lab.restart(), "no request was sent yet"),
    "inject.mtls": (only_plain_text, "plain text came from a caller without a sidecar"),
    "inject.manual": (apply("02_injection/05-manual.yaml"), "nobody injected it"),
    "gateway.open": (unapply("03_gateway/02-gateway.yaml"), "no Gateway tells"),
    "gateway.route": (unapply("03_gateway/03-virtual-service.yaml"), "no VirtualService is bound"),
    "shift.half": (
        apply("04_traffic_shift/04-split-80-20.yaml"),
        "the VirtualService says blue 80, green 20",
    ),
    "shift.ramp": (forget("ramp"), "no ramp was run in this lab yet"),
    "shift.eighty": (
        apply("04_traffic_shift/03-split-50-50.yaml"),
        "the VirtualService says blue 50, green 50",
    ),
    "shift.scale": (scale("green", 1), "both versions have 1 pods"),
    "retry.baseline": (apply("09_retry/04-retry.yaml"), "retries already"),
    "retry.healed": (apply("09_retry/03-no-retry.yaml"), "says nothing of retries"),
    "retry.cost": (apply("09_retry/03-no-retry.yaml"), "without retries each call is one attempt"),
}


def test_the_table_is_whole() -> None:
    names = {name for lesson in LESSONS.values() for name in lesson.checkpoints}
    assert names - set(UNDONE) == {"preflight.node"}  # has a test of its own


def test_each_step_solved_and_undone(lab: Lab) -> None:
    """One step after the other, as a learner goes: it is open, solved, undone, and solved again."""
    for name, step in lab.lesson.checkpoints.items():
        step.solve(lab)
        assert lab.check(name), lab.check(name).text()
        undo, cause = UNDONE.get(name, (None, ""))
        if undo is not None:
            undo(lab)
            result = lab.check(name)
            assert (bool(result), cause in result.cause) == (False, True), (
                f"{name}: {result.text()}"
            )
            assert result.hint is not None
            assert result.hint.rung == 0
        step.solve(lab)
        assert lab.check(name), lab.check(name).text()
    # The state goes to the next lesson as it is: from any state to a start.


def test_back_to_the_start_says_what_it_removes(cluster: str) -> None:
    lab = Lab("04", cluster=cluster)
    lab.apply_original("04_traffic_shift/03-split-50-50.yaml")
    mine = lab.mesh.kube.get(VIRTUAL_SERVICES, "bluegreen", "bluegreen")
    assert mine is not None
    began = time.monotonic()
    assert lab.reset().removed == ["virtualservice/bluegreen"]
    assert time.monotonic() - began < START_SECONDS
    assert (
        lab.reset().text().endswith("removed: nothing\n  made or changed: nothing, all was there")
    )


def test_looking_does_not_change(cluster: str) -> None:
    first, second = Lab("03", cluster=cluster), Lab("03", cluster=cluster, start=False)
    first.apply_original("03_gateway/02-gateway.yaml")
    seen = second.status()
    first.mesh.kube.close()
    second.mesh.kube.close()
    assert [row[:2] for row in seen.rows] == [["✓", "gateway.open"], ["·", "gateway.route"]]


class _Kube:
    def __init__(self, *states: str) -> None:
        self.states = states

    def list(self, resource: str) -> list[dict[str, object]]:
        return [
            {
                "metadata": {"name": f"node-{number}"},
                "status": {"conditions": [{"type": "Ready", "status": state}]},
            }
            for number, state in enumerate(self.states)
        ]


class _Lab:
    def __init__(self, *states: str) -> None:
        self.mesh = type("Mesh", (), {"kube": _Kube(*states)})()


@pytest.mark.parametrize(
    ("states", "passed", "cause"),
    [
        (("True",), True, ""),
        (("True", "False"), False, "not Ready: node-1"),
        ((), False, "there is no node"),
    ],
)
def test_node(states: tuple[str, ...], passed: bool, cause: str) -> None:
    finding = node(_Lab(*states))  # type: ignore[arg-type]
    assert (finding.passed, finding.cause) == (passed, cause)

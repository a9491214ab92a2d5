"""A lesson in a notebook: `lab = Lab("04")` stands at its start, whatever was before.

The methods that draw and measure are thin: the work is in the lesson's module and in `chart`.
"""

import html
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import meshlab as ml
from meshlab import install, manifest
from meshlab.cluster.phase import Step as BootStep
from meshlab.control.inject import inject_manifest
from meshlab.errors import ClusterError, MeshlabError
from meshlab.lab import chart, predict
from meshlab.lab.checkpoint import CheckpointError, Result, judge
from meshlab.lab.display import Chart, LiveChart, Progress, mode, strict
from meshlab.lab.hint import Hint, Ladder
from meshlab.lab.lesson import gateway, injection, retry, traffic_shift, two_versions
from meshlab.lab.lesson.base import MANIFESTS, Lesson, Step, weights
from meshlab.lab.lesson.catalogue import LESSONS, find
from meshlab.lab.load import Load, Sample
from meshlab.lab.plot import Plot
from meshlab.lab.state import StartState, build
from meshlab.lab.yaml_diff import YamlDiff
from meshlab.mesh import Mesh
from meshlab.namespace import Namespace, Pod
from meshlab.observe.table import Table

CLUSTER = "MESHLAB_CLUSTER_NAME"
COLORS = ("blue", "green")


def lessons() -> Table:
    """Return all lessons."""
    rows = [
        [lesson.number, lesson.title, f"{lesson.minutes} min", lesson.goal]
        for lesson in LESSONS.values()
    ]
    return Table(["LAB", "TITLE", "TIME", "GOAL"], rows)


class Lab:
    """One lesson on one cluster.

    Attributes:
        lesson: what it is about.
        mesh: the cluster with the mesh.
        memory: what was measured in this session, for checkpoints that ask for it.
    """

    def __init__(
        self, number: str | int, *, cluster: str | None = None, start: bool = True
    ) -> None:
        """Attach to the cluster, or make it, and build the lesson's start state.

        Args:
            number: of the lesson.
            cluster: its name; None: `MESHLAB_CLUSTER_NAME`, else `meshlab`.
            start: False leaves everything as it is.
        """
        self.lesson: Lesson = find(number)
        self.cluster = cluster or os.environ.get(CLUSTER) or "meshlab"
        self.memory: dict[str, Any] = {}
        self._ladder = Ladder()
        self._passed: set[str] = set()
        self._said = Progress()
        if mode() == "live":
            threading.Thread(target=_import_plotly, name="import plotly", daemon=True).start()
        self.mesh: Mesh = self._attach()
        self.started: StartState | None = None
        if start:
            self.started = build(self.mesh, self.lesson, say=self._say)

    # The cluster

    def _attach(self) -> Mesh:
        try:
            mesh = ml.attach(self.cluster)
        except MeshlabError:
            return self._up()  # there is none, or it is stopped
        try:
            if mesh.has_control_plane():
                return mesh
        except MeshlabError:
            pass  # it does not answer: bring it up
        mesh.kube.close()
        return self._up()

    def _up(self) -> Mesh:
        return ml.up(name=self.cluster, progress=self._progress)

    def up(self) -> Mesh:
        """Bring cluster and mesh up; harmless when they are."""
        self.mesh.kube.close()
        self.mesh = self._up()
        return self.mesh

    def _progress(self, step: BootStep) -> None:
        if not step.done:
            self._say(step.name)

    def _say(self, line: str) -> None:
        self._said(line)

    @property
    def namespace(self) -> Namespace:
        """The namespace in which the lesson plays."""
        if not self.lesson.namespace:
            raise ClusterError(f"lab {self.lesson.number} plays in no namespace")
        return Namespace(self.mesh, self.lesson.namespace)

    def client(self) -> Pod:
        """Return the pod that calls: the one with fortio."""
        return self.namespace.pod(app="fortio")

    # Going on, going back

    def reset(self) -> StartState:
        """Go back to the start of the lesson; says what is removed."""
        self.memory.clear()
        self._passed.clear()
        self.started = build(self.mesh, self.lesson, say=self._say)
        return self.started

    def goto(self, number: str | int) -> "Lab":
        """Go to the start of another lesson."""
        return Lab(number, cluster=self.cluster)

    def solve(self, checkpoint: str | None = None) -> Table:
        """Do the lesson's steps, up to and with the one of this checkpoint; None: all."""
        names = list(self.lesson.checkpoints)
        if checkpoint is not None:
            names = names[: names.index(self._step(checkpoint).checkpoint.name) + 1]
        for name in names:
            self._say(f"solving {name}")
            self.lesson.checkpoints[name].solve(self)
        return Table(["SOLVED"], [[name] for name in names])

    def apply_original(self, name: str) -> object:
        """Apply one of the labs' manifests as it was delivered."""
        return self.mesh.apply(MANIFESTS / name)

    # Checkpoints, hints, predictions

    def _step(self, checkpoint: str) -> Step:
        found = self.lesson.checkpoints.get(checkpoint)
        if found is None:
            raise MeshlabError(
                "there is no such checkpoint",
                found=checkpoint,
                allowed=", ".join(self.lesson.checkpoints) or "none in this lab",
            )
        return found

    def check(self, name: str) -> Result:
        """Say whether a step is done. Raises only where nobody reads (papermill).

        Raises:
            CheckpointError: it failed, in a strict run.
        """
        result = judge(self._step(name).checkpoint, self)
        if result.passed:
            self._passed.add(name)
            self._ladder.reset(name)
        elif strict():
            raise CheckpointError(result.text())
        else:
            result = _with_hint(result, self._hint(name))
        return result

    def _hint(self, name: str) -> Hint:
        return self._ladder.next(name, self._step(name).checkpoint.hints)

    def hint(self, name: str | None = None) -> Hint:
        """Return the next hint for a checkpoint; None: the first that was not passed."""
        open_ones = [n for n in self.lesson.checkpoints if n not in self._passed]
        return self._hint(name or next(iter(open_ones or self.lesson.checkpoints)))

    def status(self) -> Table:
        """Look at all checkpoints now; those passed in this session stay passed."""
        rows = []
        for name, step in self.lesson.checkpoints.items():
            if name in self._passed:
                rows.append(["✓", name, "passed"])
                continue
            finding = judge(_at_once(step), self)
            rows.append(["✓" if finding.passed else "·", name, finding.cause or finding.observed])
        return Table(["", "CHECKPOINT", "STATE"], rows, note=f"lab {self.lesson.number}")

    def reveal(
        self, question: str, guess: object, measured: object, *, tolerance: float = 0.0
    ) -> predict.Prediction:
        """Show a prediction beside what was measured."""
        return predict.reveal(question, guess, measured, tolerance=tolerance)

    # Lesson 0

    def boot(self) -> Chart:
        """Boot a second cluster with its mesh, show where the time went, and remove it."""
        name = f"{self.cluster}-boot"
        steps: list[chart.Step] = []
        ml.down(name, progress=_silent)
        began = time.monotonic()

        def note(step: BootStep) -> None:
            self._progress(step)
            if step.done:
                now = time.monotonic() - began
                steps.append(chart.Step(step.name, now - step.seconds, now))

        try:
            ml.up(name=name, progress=note).kube.close()
            self.memory["boot"] = time.monotonic() - began
        finally:
            ml.down(name, progress=_silent)
        title = f"From nothing to a mesh in {self.memory['boot']:.1f} s"
        return Chart(chart.timeline(steps, title=title))

    # Lesson 1

    def call(self, calls: int = two_versions.CALLS) -> Sample:
        """Call the lesson's Service from the client's pod (lab 1: a new connection each time)."""
        if self.lesson.number == "01":
            return two_versions.measure(self, calls)
        return retry.call(self, calls)

    def staircase(self, wanted: float) -> Chart:
        """Show the measured points on the staircase of shares that replicas can make."""
        points = list(self.memory.get("staircase", {}).values())
        return Chart(chart.staircase(points, name="blue", wanted=wanted))

    # Lesson 2

    def restart(self) -> object:
        """Replace all pods of the namespace, as `kubectl rollout restart` does."""
        return injection.restart(self)

    def pod_diff(self, before: Pod, after: Pod) -> YamlDiff:
        """Show what differs between two pods."""
        return YamlDiff(before.object, after.object, title=f"{before.name} → {after.name}")

    def trace(self) -> Chart:
        """Send one request and show its way through both sidecars."""
        return injection.trace(self)

    def padlocks(self) -> Chart:
        """Show who called whom, and how, as the called side saw it."""
        return injection.padlocks(self)

    def injected(self, path: str | Path) -> str:
        """Return a manifest with the sidecar in its pods, as `meshlab kube-inject` prints it."""
        source = Path(path) if Path(path).exists() else MANIFESTS / path
        wished = install.settings()
        found = [
            inject_manifest(obj, obj["metadata"].get("namespace", "default"), wished.injection)
            for obj in manifest.read(source)
        ]
        return yaml.safe_dump_all(found, sort_keys=False)

    # Lesson 3

    def statuses(self, title: str = "What the front door answers") -> Chart:
        """Ask the front door for two hosts by two paths and show the answers."""
        plot = chart.status_matrix(
            gateway.statuses(self), hosts=gateway.HOSTS, paths=gateway.PATHS, title=title
        )
        return Chart(plot)

    # Lesson 4

    def commanded(self, name: str = "bluegreen") -> chart.Weights:
        """Return the weights that a VirtualService was given, and since when."""
        told = [
            (at, _fractions(obj))
            for at, obj in self.mesh.applied
            if obj["kind"] == "VirtualService" and obj["metadata"]["name"] == name and "spec" in obj
        ]
        if not told:
            resource = "virtualservices.networking.istio.io"
            found = self.mesh.kube.get(resource, name, self.lesson.namespace)
            # It was there before this session began.
            told = [(0.0, _fractions(found))] if found else []
        return told

    def watch(self, load: Load, names: Sequence[str] = COLORS, title: str = "") -> LiveChart:
        """Show who answers a load, beside the weights that were told; moves until it ends.

        Without sidecars nobody is told any weights.
        """
        meshed = self.lesson.sidecars
        before = self.commanded() if meshed else []
        began = time.time()

        def draw(seconds: float | None) -> Plot:
            requests = load.latest(time.time() - seconds - 1) if seconds else load.sample().requests
            return chart.shares(
                requests,
                names=names,
                commanded=self._told(before) if meshed else None,
                began=began,
                seconds=seconds,
                title=title or f"Who answers {load.url}",
            )

        return LiveChart(load, draw)

    def _told(self, before: chart.Weights) -> chart.Weights:
        now = [
            (at, _fractions(obj))
            for at, obj in self.mesh.applied
            if obj["kind"] == "VirtualService" and "spec" in obj
        ]
        return now or before

    def ramp(
        self, load: Load, blue: Sequence[int] = traffic_shift.RAMP, calls: int = 150
    ) -> traffic_shift.Ramp:
        """Give blue one weight after the other; judge each by the calls sent after it held."""
        return traffic_shift.ramp(self, load, blue, calls)

    # Lesson 9

    def watch_failures(self, load: Load, expected: float | None = None) -> LiveChart:
        """Show the share of failed calls, with a mark where a VirtualService changed."""
        began = time.time()

        def draw(seconds: float | None) -> Plot:
            requests = load.latest(time.time() - seconds - 1) if seconds else load.sample().requests
            return chart.failures(
                requests,
                events=self._policies(since=began),
                expected=expected,
                began=began,
                seconds=seconds,
                title=f"Calls of {load.url} that fail",
            )

        return LiveChart(load, draw)

    def _policies(self, since: float) -> list[tuple[float, str]]:
        found = []
        for at, obj in self.mesh.applied:
            if at >= since and obj["kind"] == "VirtualService" and "spec" in obj:
                retries = obj["spec"]["http"][0].get("retries") or {}
                found.append((at, f"retries: {retries.get('attempts', 'default')}"))
        return found

    def measure(self, name: str, calls: int = retry.CALLS) -> chart.Cost:
        """Call and count the attempts that it took at the called pods."""
        return retry.measure(self, name, calls)

    def compare(self, before: chart.Cost, after: chart.Cost) -> Chart:
        """Show failures and attempts of two policies side by side."""
        return retry.compare(before, after)

    # Showing

    def text(self) -> str:
        """Return the lesson and its start state."""
        lesson = self.lesson
        lines = [
            f"Lab {lesson.number}: {lesson.title} ({lesson.minutes} minutes)",
            lesson.goal,
            f"cluster {self.cluster}, "
            + (f"namespace {lesson.namespace}" if lesson.namespace else "no namespace of its own"),
        ]
        if lesson.after:
            lines.append(f"builds on the ideas of lab {', '.join(lesson.after)}")
        if self.started is not None:
            lines.append(self.started.text())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, str]:
        head, *rest = self.text().splitlines()
        body = html.escape("\n".join(rest))
        return {
            "text/plain": self.text(),
            "text/html": f"<b>{html.escape(head)}</b>"
            f"<pre style='margin:.2em 0;background:none'>{body}</pre>",
        }


def _import_plotly() -> None:
    """Import what a live chart needs while the learner reads: it takes a second."""
    from plotly.graph_objects import FigureWidget  # noqa: F401 - the import is the point


def _silent(_: BootStep) -> None:
    """Tell nobody."""


def _fractions(virtual_service: Mapping[str, Any]) -> dict[str, float]:
    return {name: weight / 100 for name, weight in weights(virtual_service).items()}


def _with_hint(result: Result, hint: Hint) -> Result:
    return replace(result, hint=hint)


def _at_once(step: Step) -> Any:
    return replace(step.checkpoint, timeout=0.0)

"""A pod's life cycle as decisions: which container to start or stop next. Pure.

As kubelet does it (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/): init
containers one after the other; a sidecar (an init container with `restartPolicy: Always`) only has
to have started before the next; then the containers proper. At the end the containers proper stop
first, then the sidecars in reverse order. The worker does what is decided here and reports back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Object = dict[str, Any]

BACKOFF_BASE = 10.0
BACKOFF_MAX = 300.0
BACKOFF_RESET = 600.0
"""A container that ran this long has recovered: its next failure is the first again."""


class Kind(Enum):
    """What a container is for its pod."""

    INIT = "init"
    SIDECAR = "sidecar"
    APP = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    """How a run of a container ended (`state.terminated`). Times are seconds since 1970."""

    code: int
    reason: str
    message: str = ""
    started: float = 0.0
    finished: float = 0.0


@dataclass(slots=True, kw_only=True)
class Container:
    """A container as its pod's worker knows it; the worker alone writes it."""

    name: str
    kind: Kind
    always: bool
    """Restarted whatever its exit code."""
    never: bool
    """Never restarted."""
    running_since: float | None = None
    """Seconds since 1970; None: not running."""
    ended: Terminated | None = None
    """The last run's end, while no new one has begun."""
    previous: Terminated | None = None
    """The end of the run before the present one (`lastState`)."""
    restarts: int = 0
    failures: int = 0
    """Ends that count for the back-off."""
    waiting: str = ""
    """Why it does not run (`ImagePullBackOff`); "" where there is nothing special."""
    waiting_message: str = ""
    retry_at: float = 0.0
    """Not started again before; seconds since 1970."""
    hooked: bool = True
    """postStart is over, or there is none."""
    started: bool = False
    """The startup probe has succeeded, or there is none and it runs."""
    ready: bool = False
    stopping: bool = False

    @property
    def running(self) -> bool:
        return self.running_since is not None

    @property
    def ever(self) -> bool:
        """Whether it was ever started."""
        return self.running or self.ended is not None

    @property
    def succeeded(self) -> bool:
        return self.ended is not None and self.ended.code == 0

    @property
    def restartable(self) -> bool:
        """Whether its present end is followed by another run."""
        if self.ended is None or self.always:
            return True
        return not self.never and self.ended.code != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    wake_at: float | None = None
    """When to decide again though nothing happened; seconds since 1970."""
    over: bool = False
    """Nothing runs and nothing will."""


def containers_of(pod: Object) -> list[Container]:
    """Return a new pod's containers in the order they start."""
    policy = pod["spec"].get("restartPolicy", "Always")
    found = []
    for spec in pod["spec"].get("initContainers") or []:
        sidecar = spec.get("restartPolicy") == "Always"
        kind = Kind.SIDECAR if sidecar else Kind.INIT
        # Init containers of an Always pod run until they succeed, not for ever.
        never = not sidecar and policy == "Never"
        found.append(Container(name=spec["name"], kind=kind, always=sidecar, never=never))
    found += [
        Container(
            name=spec["name"], kind=Kind.APP, always=policy == "Always", never=policy == "Never"
        )
        for spec in pod["spec"]["containers"]
    ]
    return found


def backoff(failures: int) -> float:
    """Return the seconds before the next run after this many failed ones; the first is at once."""
    if failures <= 1:
        return 0.0
    return min(BACKOFF_BASE * 2.0 ** min(failures - 2, 10), BACKOFF_MAX)


def decide(containers: Iterable[Container], now: float, *, deleted: bool = False) -> Decision:
    """Return what to do next for a pod.

    Args:
        containers: in the order they start.
        now: seconds since 1970.
        deleted: the pod has a deletion timestamp.
    """
    everything = list(containers)
    if deleted:
        return wind_down(everything)
    apps = [c for c in everything if c.kind is Kind.APP]
    if any(c.kind is Kind.INIT and c.ended and not c.succeeded and c.never for c in everything):
        return wind_down(everything)  # an init container has failed for good
    if all(c.ended and not c.restartable for c in apps):
        return wind_down(everything)
    plan = Plan(now)
    if initialize(everything, plan, begun=any(c.ever for c in apps)):
        for container in apps:
            if not plan.keep(container):
                break
    return plan.decision()


@dataclass(slots=True)
class Plan:
    """A decision in the making."""

    now: float
    start: list[str] = field(default_factory=list)
    wake: list[float] = field(default_factory=list)

    def keep(self, container: Container) -> bool:
        """See to it that a container runs; return whether the next one may start."""
        if container.running:
            return container.hooked
        if container.restartable:
            if container.retry_at > self.now:
                self.wake.append(container.retry_at)
            else:
                self.start.append(container.name)
                return False  # one after the other: its postStart hook holds up the next
        return True

    def decision(self) -> Decision:
        return Decision(start=tuple(self.start), wake_at=min(self.wake, default=None))


def initialize(containers: list[Container], plan: Plan, *, begun: bool) -> bool:
    """Bring the init containers and sidecars on; return whether the containers proper may start.

    `begun`: they have started before. Then init containers are history, and sidecars only kept.
    """
    for container in containers:
        if container.kind is Kind.SIDECAR:
            plan.keep(container)
            if not begun and not container.started:
                return False
        elif container.kind is Kind.INIT and not begun and not container.succeeded:
            plan.keep(container)
            return False
    return True


def wind_down(containers: list[Container]) -> Decision:
    """Stop the containers proper (and a running init container), then sidecars, last first."""
    running = [c for c in containers if c.running]
    first = [c for c in running if c.kind is not Kind.SIDECAR] or running[-1:]
    return Decision(stop=tuple(c.name for c in first if not c.stopping), over=not running)


def phase(containers: Iterable[Container]) -> str:
    """Return `status.phase`."""
    everything = list(containers)
    apps = [c for c in everything if c.kind is Kind.APP]
    if any(c.kind is Kind.INIT and c.ended and not c.succeeded and c.never for c in everything):
        return "Failed"
    if not all(c.ever for c in apps):
        return "Pending"
    if any(c.running or c.restartable for c in apps):
        return "Running"
    return "Succeeded" if all(c.succeeded for c in apps) else "Failed"


def initialized(containers: Iterable[Container]) -> bool:
    """Return whether the containers proper may run (condition `Initialized`)."""
    everything = list(containers)
    if any(c.kind is Kind.APP and c.ever for c in everything):
        return True
    return all(
        c.succeeded if c.kind is Kind.INIT else c.started
        for c in everything
        if c.kind is not Kind.APP
    )


def incomplete(containers: Iterable[Container]) -> list[str]:
    """Return the init containers that keep the pod from being initialized."""
    return [
        c.name
        for c in containers
        if (c.kind is Kind.INIT and not c.succeeded) or (c.kind is Kind.SIDECAR and not c.started)
    ]


def unready(containers: Iterable[Container]) -> list[str]:
    """Return the containers, sidecars included, that keep the pod from being ready."""
    return [c.name for c in containers if c.kind is not Kind.INIT and not c.ready]


def by_name(containers: Iterable[Container]) -> Mapping[str, Container]:
    return {container.name: container for container in containers}

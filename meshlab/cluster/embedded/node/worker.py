"""One pod, from binding to its end: does what pod.py decides, and tells the API."""

import asyncio
import json
import logging
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.linux import permitted_capabilities, umount
from meshlab.cluster.embedded.network import netns
from meshlab.cluster.embedded.network.ipam import Addresses
from meshlab.cluster.embedded.node import shim
from meshlab.cluster.embedded.node.container import (
    Run,
    Spawner,
    StartError,
    kill_shim,
    lost,
    outcome,
    read,
)
from meshlab.cluster.embedded.node.environment import (
    ConfigMissing,
    environment,
    service_variables,
)
from meshlab.cluster.embedded.node.image import ImageError, Images
from meshlab.cluster.embedded.node.pod import (
    BACKOFF_RESET,
    Container,
    Decision,
    Kind,
    Terminated,
    backoff,
    by_name,
    containers_of,
    decide,
    phase,
)
from meshlab.cluster.embedded.node.probe import Counter, Probe
from meshlab.cluster.embedded.node.prober import HandlerError, handle
from meshlab.cluster.embedded.node.spec import container_spec
from meshlab.cluster.embedded.node.status import Facts, crash_loop, pod_status
from meshlab.cluster.embedded.node.volume import Sources, Volumes
from meshlab.cluster.embedded.task import spawn
from meshlab.errors import ClusterError

Object = dict[str, Any]

KUBELET = "kubelet"
POD_FILE = "pod.json"
LAST_ADDRESS = "last-address"
RETRY_SECONDS = 5.0
"""Until a pod that could not be set up is tried again, if nothing changes before."""
PROBES = {"startup": "startupProbe", "readiness": "readinessProbe", "liveness": "livenessProbe"}
EARLY_PAUSE = 0.1
"""Seconds between the first two questions of a probe; doubled each time in its first period."""
LOGS_KEPT = 2
"""Runs of a container whose directories are kept: the present one and the one before."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What all pods of the node share."""

    client: Client
    spawner: Spawner
    images: Images
    addresses: Addresses
    state_dir: Path
    capacity: dict[str, str]

    def pod_directory(self, uid: str) -> Path:
        return self.state_dir / "pods" / uid


class Worker:
    """The life of one pod."""

    def __init__(self, context: Context, pod: Object) -> None:
        self.context = context
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.directory = context.pod_directory(self.uid)
        self.network = self.directory / "network"
        self.address = ""
        self.began = time.time()
        self.containers = containers_of(pod)
        self.runs: dict[str, Run] = {}
        self.volumes = Volumes(self.directory / "volumes", self.sources())
        self.probing: dict[str, list[asyncio.Task[None]]] = {}
        self.startups: dict[str, asyncio.Event] = {}
        """Set once the container has started, as its startup probe sees it."""
        self.changed = asyncio.Event()
        self.gone = False
        """The object was deleted without us: end at once."""
        self.deadline: float | None = None
        """When the grace of a deletion ends; seconds since 1970."""
        self.written: Object = {}
        """The status as last written."""
        self.stale = False
        """A volume's ConfigMap or Secret has changed."""

    @property
    def specs(self) -> dict[str, Object]:
        spec = self.pod["spec"]
        return {c["name"]: c for c in [*(spec.get("initContainers") or []), *spec["containers"]]}

    @property
    def deleted(self) -> bool:
        return self.gone or "deletionTimestamp" in self.pod["metadata"]

    def sources(self) -> Sources:
        namespace = self.pod["metadata"]["namespace"]
        client = self.context.client

        def fetch(resource: str, name: str) -> Object | None:
            found = client.list(resource, namespace, field_selector=f"metadata.name={name}")
            return found[0] if found else None

        async def token(audiences: list[str], seconds: int) -> tuple[str, float]:
            account = self.pod["spec"].get("serviceAccountName") or "default"
            text, expiry = await client.create_token(
                namespace, account, audiences=audiences, expiration_seconds=seconds, pod=self.pod
            )
            return text, expiry.timestamp()

        return Sources(pod=self.pod, fetch=fetch, token=token, capacity=self.context.capacity)

    # --- What comes from outside ---

    def update(self, pod: Object) -> None:
        """Take in a changed object."""
        self.pod = pod
        self.changed.set()

    def vanish(self) -> None:
        """The object is gone: there is no grace left."""
        self.gone = True
        for run in self.runs.values():
            spawn(run.signal(signal.SIGKILL), f"kill {run.directory}")
        self.changed.set()

    def config_changed(self, resource: str, name: str) -> None:
        """A ConfigMap or Secret of the pod's namespace is new or another."""
        if self.address and self.volumes.uses(resource, name):
            self.stale = True
        if self.stale or not self.address or any(c.waiting for c in self.containers):
            for container in self.containers:
                if container.waiting == "CreateContainerConfigError":
                    container.retry_at = 0.0
            self.changed.set()

    def waiting_for(self, name: str) -> str:
        """Return why a container does not run (`ContainerCreating`)."""
        for entry in all_statuses(self.pod):
            if entry["name"] == name:
                return str((entry["state"].get("waiting") or {}).get("reason", "unknown"))
        return "ContainerCreating"

    async def run(self) -> None:
        """Look after the pod until nothing of it is left."""
        await self.adopt()
        while not await self.step():
            pass

    async def step(self) -> bool:
        """Decide and do once, then wait; return whether the pod is over and away."""
        self.changed.clear()
        wake = None if self.deleted else await self.prepare()
        decision = Decision()
        if self.address or self.deleted:
            decision = decide(self.containers, time.time(), deleted=self.deleted)
        for name in decision.stop:
            self.stop(by_name(self.containers)[name], reason="")
        for name in decision.start:
            await self.start(by_name(self.containers)[name])
        if self.deleted and decision.over:
            await self.remove()
            return True
        await self.write_status()
        if decision.over and self.runs == {}:
            await self.release()
        if not decision.start:
            await self.wait(wake, decision.wake_at)
        return False

    async def wait(self, *times: float | None) -> None:
        """Wait for a change, or for the earliest of the times (since 1970)."""
        until = min((when for when in times if when is not None), default=None)
        try:
            async with asyncio.timeout(None if until is None else max(until - time.time(), 0)):
                await self.changed.wait()
        except TimeoutError:
            pass  # the time has come: decide again

    def abandon(self) -> None:
        """Leave the pod as it is, for another worker to adopt."""
        for task in [task for tasks in self.probing.values() for task in tasks]:
            task.cancel()
        for run in self.runs.values():
            run.forget()

    # --- Sandbox ---

    async def adopt(self) -> None:
        """Find what a supervisor before this one has left of the pod."""
        known = self.directory / POD_FILE
        if not known.exists():
            return
        over = (self.pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
        lost = not netns.exists(self.network)
        address = json.loads(known.read_text())["address"]
        if lost:
            self.context.addresses.give_back(address)
        else:
            self.address = address
        if lost and not over:
            await self.event(
                "Normal", "SandboxChanged", "Pod sandbox changed, it will be re-created."
            )
        for container in self.containers:
            if lost and not over:
                self.begin_again(container)
            else:
                self.adopt_container(container)
        for spec in self.pod["spec"].get("volumes") or []:
            if "projected" in spec and self.address:
                await self.volumes.set_up(only=spec["name"])

    def begin_again(self, container: Container) -> None:
        """The pod's network is gone, with all that ran in it and what init containers did to it."""
        attempts = self.attempts(container.name)
        if attempts:
            container.restarts = attempts[-1]
            directory = self.run_directory(container.name, attempts[-1])
            container.previous = outcome(directory) or lost(directory)

    def adopt_container(self, container: Container) -> None:
        attempts = self.attempts(container.name)
        if not attempts:
            return
        container.restarts = container.failures = attempts[-1]
        run = Run.adopt(self.run_directory(container.name, attempts[-1]))
        if run:
            container.running_since = run.started
            if len(attempts) > 1:
                container.previous = outcome(self.run_directory(container.name, attempts[-2]))
            self.follow(container, run, adopted=True)
        else:
            directory = self.run_directory(container.name, attempts[-1])
            self.note_end(container, outcome(directory) or lost(directory))

    def attempts(self, name: str) -> list[int]:
        """Return the numbers of a container's runs that have directories, the last one last."""
        directory = self.directory / "containers" / name
        return sorted(int(path.name) for path in directory.iterdir()) if directory.exists() else []

    def run_directory(self, name: str, attempt: int) -> Path:
        return self.directory / "containers" / name / str(attempt)

    async def prepare(self) -> float | None:
        """Give the pod its network and volumes; return when to try again, None when all is well."""
        if phase(self.containers) in {"Succeeded", "Failed"}:
            return None
        try:
            if not self.address:
                await self.volumes.set_up()
                await self.make_sandbox()
            elif self.stale:
                self.stale = False
                await self.volumes.set_up()
            return await self.volumes.refresh(time.time())
        except ConfigMissing as error:
            await self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
        except ApiError as error:
            await self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error.message}")
        except (ClusterError, OSError) as error:
            await self.event("Warning", "FailedCreatePodSandBox", str(error))
            netns.remove(self.network)
        return time.time() + RETRY_SECONDS

    async def make_sandbox(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        address = self.context.addresses.take()
        sysctls = {
            entry["name"].replace(".", "/"): entry["value"]
            for entry in (self.pod["spec"].get("securityContext") or {}).get("sysctls") or []
        }
        veth = f"pod{self.uid.replace('-', '')[:12]}"
        try:
            await asyncio.to_thread(netns.create_pod, self.network, veth, address, sysctls)
        except (ClusterError, OSError):
            self.context.addresses.give_back(address)
            raise
        facts = {
            "address": address,
            "name": self.pod["metadata"]["name"],
            "namespace": self.pod["metadata"]["namespace"],
        }
        (self.directory / POD_FILE).write_text(json.dumps(facts))
        (self.context.state_dir / LAST_ADDRESS).write_text(address)
        self.address = address
        self.pod = {**self.pod, "status": {**(self.pod.get("status") or {}), **self.addresses()}}
        await self.write_status()

    def addresses(self) -> Object:
        host = pod_status(self.pod, self.containers, self.facts())
        return {key: host[key] for key in ("podIP", "podIPs", "hostIP", "hostIPs")}

    async def release(self) -> None:
        """Give the network of a finished pod back; its logs stay until it is deleted."""
        if netns.exists(self.network):
            await asyncio.to_thread(netns.remove, self.network)
            self.context.addresses.give_back(self.address)

    async def remove(self) -> None:
        """Leave nothing of the pod, neither here nor in the API."""
        self.abandon()
        await self.write_status()
        await self.release()
        self.volumes.tear_down()
        shutil.rmtree(self.directory, ignore_errors=True)
        if not self.gone:
            metadata = self.pod["metadata"]
            try:
                await self.context.client.delete(
                    "pods",
                    metadata["name"],
                    metadata["namespace"],
                    uid=self.uid,
                    grace_period_seconds=0,
                )
            except ApiError as error:
                if error.status_code not in {404, 409}:
                    raise

    # --- Containers ---

    async def start(self, container: Container) -> None:
        """Start a container; what goes wrong becomes its state."""
        spec = self.specs[container.name]
        try:
            image = self.context.images.find(spec["image"])
            await self.image_found(container, spec)
            shim_spec = container_spec(
                self.pod,
                spec,
                image,
                environment=self.environment(spec, dict(image.env)),
                mounts=[],
                network=str(self.network),
                address=self.address,
                hidden=[str(self.context.state_dir)],
                permitted=permitted_capabilities(),
            )
            shim_spec["mounts"] += self.volumes.mounts(spec, shim_spec["env"])
        except ImageError as error:
            await self.image_missing(container, spec, error)
            return
        except ConfigMissing as error:
            self.hold(container, "CreateContainerConfigError", str(error))
            await self.event("Warning", "Failed", f"Error: {error}")
            return
        await self.launch(container, spec, shim_spec)

    async def launch(self, container: Container, spec: Object, shim_spec: Object) -> None:
        attempts = self.attempts(container.name)
        attempt = attempts[-1] + 1 if attempts else 0
        directory = self.run_directory(container.name, attempt)
        note = spec.get("terminationMessagePath") or "/dev/termination-log"
        shim_spec["mounts"].append(
            {"source": str(directory / "termination-log"), "target": note, "read_only": False}
        )
        directory.mkdir(parents=True, mode=0o700)
        (directory / "termination-log").touch(0o666)
        (directory / "termination-log").chmod(0o666)
        container.previous = container.ended or container.previous
        container.waiting = container.waiting_message = ""
        container.restarts = attempt
        if not container.ended:
            container.failures = 0  # what was counted before were images and configuration
        await self.event("Normal", "Created", f"Created container: {container.name}")
        try:
            run = await Run.start(self.context.spawner, directory, shim_spec)
        except StartError as error:
            now = time.time()
            end = outcome(directory) or Terminated(
                code=128, reason="StartError", message=str(error), started=now, finished=now
            )
            self.note_end(container, end)
            await self.event("Warning", "Failed", f"Error: failed to start: {error}")
            return
        for old in attempts[: -LOGS_KEPT + 1]:
            shutil.rmtree(self.run_directory(container.name, old), ignore_errors=True)
        container.ended = None
        container.running_since = run.started
        await self.event("Normal", "Started", f"Started container {container.name}")
        self.follow(container, run)

    def environment(self, spec: Object, image: dict[str, str]) -> dict[str, str]:
        namespace = self.pod["metadata"]["namespace"]
        services = self.context.client.list("services")
        if self.pod["spec"].get("enableServiceLinks") is False:
            services = [s for s in services if s["metadata"]["name"] == "kubernetes"]
            namespace = "default"
        base = {
            "HOSTNAME": self.pod["metadata"]["name"],
            "PYTHONUNBUFFERED": "1",
            **service_variables(services, namespace),
            **image,
        }
        return environment(
            self.pod,
            spec,
            base=base,
            fetch=self.volumes.sources.fetch,
            capacity=self.context.capacity,
        )

    async def image_found(self, container: Container, spec: Object) -> None:
        if not container.ever:
            message = f'Container image "{spec["image"]}" already present on machine'
            await self.event("Normal", "Pulled", message)

    async def image_missing(self, container: Container, spec: Object, error: ImageError) -> None:
        """Go on as kubelet does: ErrImagePull, then ImagePullBackOff, trying again later."""
        first = not container.waiting
        container.failures += 1
        pause = max(backoff(container.failures), 10.0)
        message = f'Failed to pull image "{spec["image"]}": {error}'
        if first:
            await self.event("Warning", "Failed", message)
            await self.event("Warning", "Failed", "Error: ErrImagePull")
        else:
            await self.event("Normal", "BackOff", f'Back-off pulling image "{spec["image"]}"')
        reason = "ErrImagePull" if first else "ImagePullBackOff"
        text = str(error) if first else f'Back-off pulling image "{spec["image"]}": {error}'
        self.hold(container, reason, text, pause)

    def hold(
        self, container: Container, reason: str, message: str, pause: float = RETRY_SECONDS
    ) -> None:
        container.waiting, container.waiting_message = reason, message
        container.retry_at = time.time() + pause

    def follow(self, container: Container, run: Run, *, adopted: bool = False) -> None:
        """Look after a running container: its end, its hook and its probes."""
        self.runs[container.name] = run
        container.stopping = False
        container.started, container.ready = (
            self.known_state(container) if adopted else (False,) * 2
        )
        spawn(self.await_end(container, run), f"container {container.name}")
        hook = (self.specs[container.name].get("lifecycle") or {}).get("postStart")
        container.hooked = adopted or not hook
        if hook and not adopted:
            spawn(self.post_start(container, run, hook), f"postStart {container.name}")
        else:
            self.begin_probes(container, run)

    def known_state(self, container: Container) -> tuple[bool, bool]:
        """Return started and ready as the status says, so that adopting a pod disturbs nobody."""
        for entry in all_statuses(self.pod):
            if entry["name"] == container.name:
                return bool(entry.get("started")), bool(entry.get("ready"))
        return False, False

    async def await_end(self, container: Container, run: Run) -> None:
        end = await run.wait()
        for task in self.probing.pop(container.name, []):
            task.cancel()
        self.runs.pop(container.name, None)
        self.note_end(container, end)
        if container.restartable and container.retry_at > time.time() and not self.deleted:
            name = self.pod["metadata"]["name"]
            await self.event(
                "Warning",
                "BackOff",
                f"Back-off restarting failed container {container.name} in pod {name}"
                f"_{self.pod['metadata']['namespace']}({self.uid})",
            )
        self.changed.set()

    def note_end(self, container: Container, end: Terminated) -> None:
        container.running_since = None
        container.ended = end
        container.started = container.ready = container.stopping = False
        container.hooked = True
        if end.finished - end.started >= BACKOFF_RESET:
            container.failures = 0
        container.failures += 1
        pause = backoff(container.failures)
        container.retry_at = time.time() + pause
        container.waiting = container.waiting_message = ""
        if pause and container.restartable:
            container.waiting = "CrashLoopBackOff"
            container.waiting_message = crash_loop(container, self.pod, pause)

    async def post_start(self, container: Container, run: Run, hook: Object) -> None:
        spec = self.specs[container.name]
        try:
            await handle(hook, spec, run, self.address, None, "kube-lifecycle/1.32")
        except HandlerError as error:
            await self.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
            self.stop(container, reason="FailedPostStartHook")
            return
        container.hooked = True
        if container.running:
            self.begin_probes(container, run)
        self.changed.set()

    def stop(self, container: Container, *, reason: str) -> None:
        """Begin to stop a container; `reason` says why when it is not the pod's deletion."""
        if not container.stopping and container.name in self.runs:
            container.stopping = True
            spawn(self.end(container, self.runs[container.name], reason), f"stop {container.name}")

    async def end(self, container: Container, run: Run, reason: str) -> None:
        """preStop, TERM, grace, KILL."""
        message = f"Stopping container {container.name}"
        await self.event("Normal", "Killing", reason or message)
        grace = self.grace()
        deadline = time.time() + grace
        spec = self.specs[container.name]
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook and grace:
            try:
                await handle(hook, spec, run, self.address, grace, "kube-lifecycle/1.32")
            except HandlerError as error:
                await self.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")
        await run.signal(signal.SIGTERM)
        try:
            # After a hook that took all of it, kubelet still grants two seconds.
            async with asyncio.timeout(max(deadline - time.time(), 2.0 if hook else 0.0)):
                await run.over.wait()
        except TimeoutError:
            await run.signal(signal.SIGKILL)
            try:
                async with asyncio.timeout(2):
                    await run.over.wait()
            except TimeoutError:
                run.kill()

    def grace(self) -> float:
        """Return the seconds a container has to end."""
        if self.gone:
            return 0.0
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        seconds = metadata.get("deletionGracePeriodSeconds")
        if not self.deleted or seconds is None:
            return float(spec.get("terminationGracePeriodSeconds") or 30)
        if self.deadline is None:
            self.deadline = time.time() + seconds
        return max(min(self.deadline - time.time(), float(seconds)), 0.0)

    # --- Probes ---

    def begin_probes(self, container: Container, run: Run) -> None:
        spec = self.specs[container.name]
        self.startups[container.name] = asyncio.Event()
        if container.started or not spec.get("startupProbe"):
            container.started = True
            self.startups[container.name].set()
        if container.kind is Kind.INIT:
            return
        if not spec.get("readinessProbe"):
            container.ready = container.started
        self.probing[container.name] = [
            spawn(self.probe(container, run, kind), f"{kind} probe {container.name}")
            for kind, field in PROBES.items()
            if spec.get(field) and not (kind == "startup" and container.started)
        ]

    async def probe(self, container: Container, run: Run, kind: str) -> None:
        """Repeat one probe as long as the container runs."""
        spec = self.specs[container.name]
        handler = spec[PROBES[kind]]
        probe = Probe.decode(handler)
        counter = Counter(probe, good=kind == "liveness" or container.ready)
        began = container.running_since or time.time()
        await asyncio.sleep(max(began + probe.initial_delay - time.time(), 0))
        if not container.ready or kind == "liveness":
            await self.probe_early(container, run, kind, handler, probe)
        while True:
            if kind != "startup":
                await self.startups[container.name].wait()
            success = await self.probe_once(container, run, kind, handler, probe)
            good = counter.count(success=success)
            if kind == "startup" and good:
                container.started = True
                self.startups[container.name].set()
                container.ready = not spec.get("readinessProbe")
                self.changed.set()
                return
            if kind == "readiness" and container.ready != good:
                container.ready = good
                self.changed.set()
            if kind != "readiness" and counter.failed:
                self.stop(
                    container,
                    reason=f"Container {container.name} failed {kind} probe, will be restarted",
                )
                return
            await asyncio.sleep(probe.period)

    async def probe_early(
        self, container: Container, run: Run, kind: str, handler: Object, probe: Probe
    ) -> None:
        """Ask often during the first period, until it succeeds; failures do not count yet.

        kubelet asks once and then lets a whole period pass, in which a program that needs 200 ms
        to listen is not ready.
        """
        if kind != "startup":
            await self.startups[container.name].wait()
        pause = EARLY_PAUSE
        end = time.time() + probe.period
        while time.time() + pause < end:
            if await self.probe_once(container, run, kind, handler, probe, quiet=True):
                return
            await asyncio.sleep(pause)
            pause *= 2

    async def probe_once(
        self,
        container: Container,
        run: Run,
        kind: str,
        handler: Object,
        probe: Probe,
        *,
        quiet: bool = False,
    ) -> bool:
        spec = self.specs[container.name]
        try:
            await handle(handler, spec, run, self.address, probe.timeout, "kube-probe/1.32")
        except HandlerError as error:
            if not container.stopping and not quiet:
                message = f"{kind.title()} probe failed: {error}"
                await self.event("Warning", "Unhealthy", message)
            return False
        return True

    # --- Telling the API ---

    def facts(self) -> Facts:
        return Facts(
            now=time.time(),
            address=self.address,
            sandbox=bool(self.address),
            started=self.began,
        )

    async def write_status(self) -> None:
        """Write the status if it is another than before."""
        if self.gone:
            return
        status = pod_status(self.pod, self.containers, self.facts())
        if status == self.written:
            return
        metadata = self.pod["metadata"]
        try:
            self.pod = await self.context.client.patch(
                "pods",
                metadata["name"],
                {"metadata": {"uid": self.uid}, "status": status},
                metadata["namespace"],
                subresource="status",
            )
            self.written = status
        except ApiError as error:
            if error.status_code not in {404, 409}:
                raise
            log.info("status of pod %s: %s", metadata["name"], error)

    async def event(self, kind: Any, reason: str, message: str) -> None:
        try:
            await self.context.client.event(
                self.pod, type=kind, reason=reason, message=message, component=KUBELET
            )
        except ApiError as error:
            log.info("event %s of pod %s: %s", reason, self.pod["metadata"]["name"], error)


def all_statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]


def remove_pod(directory: Path) -> None:
    """End a pod's shims and remove its mounts and files."""
    for path in directory.glob(f"containers/*/*/{shim.SHIM}"):
        kill_shim(read(path))
    netns.remove(directory / "network")
    for path in (directory / "volumes").glob("*"):
        if path.is_mount():
            umount(str(path))
    shutil.rmtree(directory, ignore_errors=True)

"""The node: takes pods on, keeps a worker for each, and answers for logs and exec.

It is scheduler and kubelet in one, since there is one node. It says it is alive by its Node's
conditions and its Lease, as a kubelet does.
"""

import asyncio
import datetime
import logging
import os
import platform
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.apiserver.discovery import VERSION
from meshlab.cluster.embedded.apiserver.node_api import ExecSession
from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.network.ipam import NODE_ADDRESS, Addresses
from meshlab.cluster.embedded.node import log_reader
from meshlab.cluster.embedded.node.container import Spawner, read
from meshlab.cluster.embedded.node.exec import ExecError, Refused, Session
from meshlab.cluster.embedded.node.image import Images, registered
from meshlab.cluster.embedded.node.spec import host_namespaces
from meshlab.cluster.embedded.node.status import rfc3339
from meshlab.cluster.embedded.node.worker import (
    LAST_ADDRESS,
    POD_FILE,
    RETRY_SECONDS,
    Context,
    Worker,
    remove_pod,
)
from meshlab.cluster.embedded.task import spawn
from meshlab.errors import MeshlabError

Object = dict[str, Any]

NAME = "meshlab-node"
LEASES = "leases.coordination.k8s.io"
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
HEARTBEAT = 10.0
MAX_PODS = 110

log = logging.getLogger(__name__)


class Node:
    """The cluster's only node (`apiserver.node_api.NodeApi`)."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.workers: dict[str, Worker] = {}
        self.spawner = Spawner(state_dir)
        self.images = Images(registered())
        self.addresses = self.known_addresses()
        self.capacity = capacity()
        self.context: Context | None = None

    def known_addresses(self) -> Addresses:
        """Return the pod range as the pods of a supervisor before this one use it."""
        used = [read(path)["address"] for path in (self.state_dir / "pods").glob(f"*/{POD_FILE}")]
        last = self.state_dir / LAST_ADDRESS
        return Addresses(used, last=last.read_text() if last.exists() else NODE_ADDRESS)

    async def start(self, client: Client) -> list[asyncio.Task[None]]:
        """Register the node and look after its pods; return the tasks that do."""
        self.client = client
        self.context = Context(
            client=client,
            spawner=self.spawner,
            images=self.images,
            addresses=self.addresses,
            state_dir=self.state_dir,
            capacity=self.capacity,
        )
        self.spawner.start()
        await self.sweep()
        await self.register()
        return [
            spawn(self.watch_pods(), "watch pods"),
            spawn(self.watch_config("configmaps"), "watch config maps"),
            spawn(self.watch_config("secrets"), "watch secrets"),
            spawn(self.heartbeat(), "node heartbeat"),
        ]

    async def sweep(self) -> None:
        """End what is left of pods that were deleted while nobody was here."""
        known = {pod["metadata"]["uid"] for pod in self.client.list("pods")}
        for directory in pod_directories(self.state_dir):
            if directory.name not in known:
                log.info("ending pod %s, which is no more", directory.name)
                await asyncio.to_thread(remove_pod, directory)

    # --- The Node object ---

    async def register(self) -> None:
        status = node_status(self.capacity, time.time())
        node = {
            "metadata": {
                "name": NAME,
                "labels": {
                    "kubernetes.io/hostname": NAME,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": platform.machine().replace("x86_64", "amd64"),
                    "node-role.kubernetes.io/control-plane": "",
                },
            },
            "spec": {"podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16"]},
        }
        try:
            await self.client.create("nodes", node)
        except ApiError as error:
            if error.status_code != 409:
                raise
        await self.client.patch("nodes", NAME, {"status": status}, subresource="status")

    async def heartbeat(self) -> None:
        """Renew the Lease, and the node's conditions with it."""
        while True:
            try:
                await self.renew()
            except MeshlabError as error:
                log.warning("node heartbeat: %s", error)
            await asyncio.sleep(HEARTBEAT)

    async def renew(self) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": NAME, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        try:
            await self.client.patch(LEASES, NAME, {"spec": spec}, LEASE_NAMESPACE)
        except ApiError as error:
            if error.status_code != 404:
                raise
            lease = {"metadata": {"name": NAME, "namespace": LEASE_NAMESPACE}, "spec": spec}
            await self.client.create(LEASES, lease, LEASE_NAMESPACE)

    # --- Pods ---

    async def watch_pods(self) -> None:
        async for event, pod in self.client.watch("pods"):
            try:
                await self.take_event(event, pod)
            except MeshlabError:
                log.exception("pod %s", pod["metadata"]["name"])

    async def take_event(self, event: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self.workers.get(uid)
        if event == "DELETED":
            if worker:
                worker.vanish()
            return
        if not pod["spec"].get("nodeName"):
            if "deletionTimestamp" not in pod["metadata"]:
                await self.bind(pod)
        elif worker:
            worker.update(pod)
        elif pod["spec"]["nodeName"] == NAME:
            self.take_on(pod)

    async def bind(self, pod: Object) -> None:
        """Be the scheduler: there is one node, and it has room."""
        metadata = pod["metadata"]
        selector = pod["spec"].get("nodeSelector") or {}
        if selector and not await self.matches(selector):
            await self.client.event(
                pod,
                type="Warning",
                reason="FailedScheduling",
                message="0/1 nodes are available: "
                "1 node(s) didn't match Pod's node affinity/selector.",
                component="default-scheduler",
            )
            return
        await self.client.patch(
            "pods",
            metadata["name"],
            {"spec": {"nodeName": NAME}},
            metadata["namespace"],
            subresource="binding",
        )
        place = f"{metadata['namespace']}/{metadata['name']}"
        await self.client.event(
            pod,
            type="Normal",
            reason="Scheduled",
            message=f"Successfully assigned {place} to {NAME}",
            component="default-scheduler",
        )

    async def matches(self, selector: dict[str, str]) -> bool:
        labels = (await self.client.get("nodes", NAME))["metadata"].get("labels") or {}
        return selector.items() <= labels.items()

    def take_on(self, pod: Object) -> None:
        if self.context is None:
            return
        worker = Worker(self.context, pod)
        self.workers[pod["metadata"]["uid"]] = worker
        spawn(self.look_after(worker), f"pod {pod['metadata']['name']}")

    async def look_after(self, worker: Worker) -> None:
        """Run a pod's worker; one that crashed is followed by a new one, which adopts the pod."""
        try:
            await self.note_limits(worker.pod)
            await self.note_host(worker.pod)
            await worker.run()
        except Exception as error:
            log.exception("pod %s", worker.pod["metadata"]["name"])
            worker.abandon()
            await worker.event("Warning", "FailedSync", f"Error syncing pod, will retry: {error}")
            await asyncio.sleep(RETRY_SECONDS)
            if not worker.gone:
                self.take_on(worker.pod)
                return
        self.workers.pop(worker.uid, None)

    async def note_limits(self, pod: Object) -> None:
        """Say once that limits are only numbers here."""
        specs = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        names = [c["name"] for c in specs if (c.get("resources") or {}).get("limits")]
        if names and not (pod.get("status") or {}).get("startTime"):
            await self.client.event(
                pod,
                type="Normal",
                reason="LimitsNotEnforced",
                message=f"resources.limits of {', '.join(names)} are kept, but the embedded "
                f"cluster does not enforce them",
                component="kubelet",
            )

    async def note_host(self, pod: Object) -> None:
        """Say once that a pod has namespaces of its own here, whatever it asks for."""
        asked = host_namespaces(pod)
        if asked and not (pod.get("status") or {}).get("startTime"):
            await self.client.event(
                pod,
                type="Warning",
                reason="HostNamespaceNotOffered",
                message=f"{', '.join(asked)}: kept, but on the embedded cluster every pod has "
                f"namespaces of its own",
                component="kubelet",
            )

    async def watch_config(self, resource: str) -> None:
        """Write volumes anew when the ConfigMap or Secret in them changes."""
        async for event, obj in self.client.watch(resource):
            metadata = obj["metadata"]
            for worker in list(self.workers.values()):
                if (
                    event != "DELETED"
                    and worker.pod["metadata"]["namespace"] == metadata["namespace"]
                ):
                    worker.config_changed(resource, metadata["name"])

    # --- NodeApi ---

    def worker_of(self, pod: Object) -> Worker:
        worker = self.workers.get(pod["metadata"]["uid"])
        if worker is None:
            name = pod["metadata"]["name"]
            raise ApiError(400, "BadRequest", f'pod "{name}" is not running on {NAME}')
        return worker

    async def logs(
        self,
        pod: Object,
        container: str,
        *,
        follow: bool = False,
        since_seconds: int | None = None,
        since_time: str | None = None,
        tail_lines: int | None = None,
        limit_bytes: int | None = None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[bytes]:
        worker = self.worker_of(pod)
        name = pod["metadata"]["name"]
        attempts = worker.attempts(container)
        if previous:
            attempts = attempts[:-1]
            if not attempts:
                message = f'previous terminated container "{container}" in pod "{name}" not found'
                raise ApiError(400, "BadRequest", message)
        if not attempts:
            message = f'container "{container}" in pod "{name}" is waiting to start: '
            raise ApiError(400, "BadRequest", message + worker.waiting_for(container))
        wanted = log_reader.wish(
            now=time.time(),
            follow=follow and not previous,
            since_seconds=since_seconds,
            since_time=since_time,
            tail_lines=tail_lines,
            limit_bytes=limit_bytes,
            timestamps=timestamps,
        )
        async for data in log_reader.read(worker.run_directory(container, attempts[-1]), wanted):
            yield data

    async def exec(
        self, pod: Object, container: str, command: list[str], *, stdin: bool, tty: bool
    ) -> ExecSession:
        run = self.worker_of(pod).runs.get(container)
        if run is None:
            raise ApiError(400, "BadRequest", f"container not found ({container!r})")
        try:
            return await Session.start(run, command, stdin=stdin, tty=tty)
        except ExecError as error:
            return Refused(error)


def pod_directories(state_dir: Path) -> list[Path]:
    return list((state_dir / "pods").glob("*"))


def capacity() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory // 1024}Ki",
        "pods": str(MAX_PODS),
        "ephemeral-storage": "0",
    }


def node_status(amounts: dict[str, str], now: float) -> Object:
    def condition(kind: str, status: str, reason: str, message: str) -> Object:
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": rfc3339(now),
            "lastTransitionTime": rfc3339(now),
        }

    uname = os.uname()
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "addresses": [
            {"type": "InternalIP", "address": NODE_ADDRESS},
            {"type": "Hostname", "address": NAME},
        ],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "not watched"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "not watched"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "not watched"),
            condition("Ready", "True", "KubeletReady", "the embedded node takes pods"),
        ],
        "nodeInfo": {
            "kernelVersion": uname.release,
            "osImage": "meshlab embedded",
            "containerRuntimeVersion": f"meshlab://{platform.python_version()}",
            "kubeletVersion": VERSION["gitVersion"],
            "kubeProxyVersion": VERSION["gitVersion"],
            "operatingSystem": "linux",
            "architecture": uname.machine.replace("x86_64", "amd64"),
            "machineID": "",
            "systemUUID": "",
            "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        },
    }

"""Keeps the kernel's rules, the host's listeners and the DNS index in step with the Services."""

import asyncio
import logging
from typing import Any

from meshlab.cluster.embedded.client import ApiError, Client
from meshlab.cluster.embedded.network import dns
from meshlab.cluster.embedded.network.index import Key, ServiceIndex
from meshlab.cluster.embedded.network.relay import HostSockets, Relay
from meshlab.cluster.embedded.network.service import (
    DNS_ADDRESS,
    TABLE,
    ServicePort,
    nft,
    service_ports,
    transaction,
)
from meshlab.cluster.embedded.task import spawn
from meshlab.errors import MeshlabError

SERVICES = "services"
SLICES = "endpointslices.discovery.k8s.io"
HOST = [{"ip": "127.0.0.1"}]
"""`status.loadBalancer.ingress` of a Service of type LoadBalancer."""
RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class Network:
    """The service side of the cluster's network; must run inside the cluster's namespace."""

    def __init__(self, client: Client, host: HostSockets) -> None:
        self.client = client
        self.host = host
        self.index = ServiceIndex()
        self.ports: dict[str, ServicePort] = {}
        """By chain: what is in force. Only ports that have endpoints."""
        self.relays: dict[int, Relay] = {}
        """By port of the host's loopback."""
        self.dirty: set[Key] = set()
        self.changed = asyncio.Event()

    async def start(self) -> list[asyncio.Task[None]]:
        """Serve DNS and put in force what is there; return the tasks that follow changes."""
        for service in self.client.list(SERVICES):
            self.dirty.add(self.index.apply_service("ADDED", service))
        for piece in self.client.list(SLICES):
            self.dirty.add(self.index.apply_slice("ADDED", piece))
        await dns.start(self.index, DNS_ADDRESS)
        await self.sync(TABLE)
        return [
            spawn(self.watch_services(), "watch services"),
            spawn(self.watch_slices(), "watch endpoint slices"),
            spawn(self.run(), "services"),
        ]

    async def watch_services(self) -> None:
        async for event, service in self.client.watch(SERVICES):
            self.touch(self.index.apply_service(event, service))

    async def watch_slices(self) -> None:
        async for event, piece in self.client.watch(SLICES):
            self.touch(self.index.apply_slice(event, piece))

    def touch(self, key: Key) -> None:
        self.dirty.add(key)
        self.changed.set()

    async def run(self) -> None:
        while True:
            await self.changed.wait()
            self.changed.clear()
            dirty = set(self.dirty)
            try:
                await self.sync()
            except MeshlabError:
                log.exception("services %s; trying again", sorted(dirty))
                self.dirty |= dirty
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self.changed.set)

    async def sync(self, prelude: str = "") -> None:
        """Bring rules, relays and load balancers to what the changed Services say."""
        dirty, self.dirty = self.dirty, set()
        wanted = {c: p for c, p in self.ports.items() if (p.namespace, p.service) not in dirty}
        for key in dirty:
            service = self.index.services.get(key)
            if service is not None:
                ports = service_ports(service, self.index.slices_of(key))
                wanted |= {port.chain: port for port in ports if port.endpoints}
        await self.put_in_force(wanted, prelude)
        for key in dirty:
            await self.sync_relays(key)
            await self.sync_load_balancer(self.index.services.get(key))

    async def put_in_force(self, wanted: dict[str, ServicePort], prelude: str) -> None:
        script = prelude + transaction(self.ports, wanted)
        if not script:
            return
        try:
            await asyncio.to_thread(nft, script)
        except MeshlabError:
            # The transaction did nothing. What is in the kernel may not be what we thought.
            log.exception("service rules refused; making the table again")
            await asyncio.to_thread(nft, TABLE + transaction({}, wanted))
        self.ports = wanted

    async def sync_relays(self, key: Key) -> None:
        """Open and close the host's listeners of one Service."""
        service = self.index.services.get(key)
        wanted = node_ports(service) if service else {}
        for port, relay in list(self.relays.items()):
            if relay.owner == key and wanted.get(port) != relay.target:
                relay.close()
                del self.relays[port]
        for port, target in wanted.items():
            if service and port not in self.relays:
                await self.open_relay(port, target, key, service)

    async def open_relay(
        self, port: int, target: tuple[str, int], key: Key, service: dict[str, Any]
    ) -> None:
        try:
            listener = self.host.listen(port)
        except OSError as error:
            await self.client.event(
                service,
                type="Warning",
                reason="PortNotAvailable",
                message=f"127.0.0.1:{port} cannot be opened on this machine: {error}. "
                f"End what uses it, or set another nodePort",
                component="service-relay",
            )
            return
        relay = Relay(listener, target, key)
        await relay.start()
        self.relays[port] = relay

    async def sync_load_balancer(self, service: dict[str, Any] | None) -> None:
        """Give a Service of type LoadBalancer its address, the host's loopback."""
        if service is None:
            return
        status = (service.get("status") or {}).get("loadBalancer") or {}
        wanted = HOST if service["spec"].get("type") == "LoadBalancer" else None
        if status.get("ingress") == wanted:
            return
        metadata = service["metadata"]
        try:
            await self.client.patch(
                SERVICES,
                metadata["name"],
                {"status": {"loadBalancer": {"ingress": wanted}}},
                metadata["namespace"],
                subresource="status",
            )
        except ApiError as error:
            if error.status_code != 404:  # deleted meanwhile
                raise


def node_ports(service: dict[str, Any]) -> dict[int, tuple[str, int]]:
    """Return the TCP node ports of a Service, each with the virtual address it leads to."""
    spec = service["spec"]
    if spec.get("clusterIP") in {None, "", "None"}:
        return {}
    return {
        port["nodePort"]: (spec["clusterIP"], port["port"])
        for port in spec.get("ports") or []
        if port.get("nodePort") and port.get("protocol", "TCP") == "TCP"
    }

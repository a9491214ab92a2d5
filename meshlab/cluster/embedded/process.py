"""The cluster's main process: API server, controllers, node and network on one loop.

It lives in the cluster's own network namespace, so that webhooks, probes and 10.96.0.1:443 work as
on any node. Only one thread stays in the host's, to open listeners there (network/relay.py).
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from meshlab.cluster import kubeconfig
from meshlab.cluster.embedded.apiserver.app import ApiServer
from meshlab.cluster.embedded.client import Client
from meshlab.cluster.embedded.controller import manager
from meshlab.cluster.embedded.linux import PR_SET_PDEATHSIG, prctl
from meshlab.cluster.embedded.network import netns
from meshlab.cluster.embedded.network.network import Network
from meshlab.cluster.embedded.network.relay import HostSockets
from meshlab.cluster.embedded.network.service import API_ADDRESS
from meshlab.cluster.embedded.node.node import Node
from meshlab.cluster.embedded.supervisor import write_facts
from meshlab.cluster.embedded.task import spawn

NETWORK = "network"
KUBECONFIG = "kubeconfig"
READY = "ready"

log = logging.getLogger(__name__)


class Report:
    """Tells whoever waits for the cluster what is being done: one JSON line each."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def say(self, step: str) -> None:
        log.info("%s", step)
        if self.fd >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.fd, json.dumps({"step": step}).encode() + b"\n")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def enter_network(state_dir: Path) -> None:
    """Move to the cluster's network namespace, made if it is not there."""
    path = state_dir / NETWORK
    if not netns.exists(path):
        netns.create_cluster(path)
    netns.enter(path)


async def serve(
    state_dir: Path, host: HostSockets, listener: socket.socket, report: Report
) -> None:
    """Run the cluster until one of its parts ends, or SIGTERM."""
    stopped = asyncio.Event()
    report.say("API server")
    node = Node(state_dir)
    api = ApiServer(state_dir, node=node, nodeport_free=host.is_free)
    inside = socket.create_server((API_ADDRESS, 443), backlog=512)
    server = spawn(api.serve([listener, inside]), "API server")
    parts = [server]
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    kubeconfig.write(state_dir / KUBECONFIG, api.admin_kubeconfig(url))
    report.say("network and node")
    parts += await Network(api.client, host).start()
    parts += manager.start(api.client)
    parts += await node.start(api.client)
    await default_account(api.client)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    write_facts(state_dir, ready=True)
    report.say(READY)
    report.close()
    parts.append(spawn(wait_for(stopped), "SIGTERM"))
    done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    if not stopped.is_set():
        for task in done:
            log.error("%s ended", task.get_name(), exc_info=task.exception())
        sys.exit(1)
    server.cancel()
    await asyncio.wait([server])


async def default_account(client: Client) -> None:
    """Wait until the namespace `default` has its ServiceAccount, so that it takes pods."""
    async for _, account in client.watch("serviceaccounts", "default"):
        if account["metadata"]["name"] == "default":
            return


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="The main process of an embedded cluster.")
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--report", type=int, default=-1)
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # one watchdog, one main process
    os.umask(0o077)
    host = HostSockets()
    enter_network(options.state_dir)
    listener = socket.socket(fileno=options.listener)
    listener.setblocking(False)
    report = Report(options.report)
    uvloop.run(serve(options.state_dir, host, listener, report))


if __name__ == "__main__":
    main()

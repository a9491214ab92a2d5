"""Starts the controllers, each a task of its own."""

import asyncio

from meshlab.cluster.embedded.client import Client
from meshlab.cluster.embedded.controller import (
    deployment,
    endpoint_slice,
    garbage_collector,
    namespace,
    replica_set,
    service_account,
)

CONTROLLERS = {
    "deployment": deployment.run,
    "replica_set": replica_set.run,
    "endpoint_slice": endpoint_slice.run,
    "namespace": namespace.run,
    "service_account": service_account.run,
    "garbage_collector": garbage_collector.run,
}


def start(client: Client) -> list[asyncio.Task[None]]:
    """Start all controllers; one that ends has crashed, and the supervisor with it."""
    return [
        asyncio.get_running_loop().create_task(run(client), name=f"controller {name}")
        for name, run in CONTROLLERS.items()
    ]

"""Containers without a cluster: a network namespace, a spawner, a directory for each run."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshlab.cluster.embedded.linux import CAPABILITIES, permitted_capabilities
from meshlab.cluster.embedded.network import netns
from meshlab.cluster.embedded.node.container import Spawner, read
from meshlab.cluster.embedded.node.image import Image
from meshlab.cluster.embedded.node.spec import container_spec


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Path]:
    """The file that a new network namespace is bound to."""
    path = tmp_path / "network"
    netns.create(path, {}, "link set lo up\n")
    yield path
    netns.remove(path)


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[Spawner]:
    spawner = Spawner(tmp_path)
    spawner.start()
    yield spawner
    spawner.close()
    for path in tmp_path.glob("run*/shim.json"):
        pid = read(path)["pid"]
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


@pytest.fixture
def make_spec(network: Path) -> Any:
    """A function that returns the shim's spec of a container."""

    def make(command: list[str], *, mounts: list[Any] | None = None, **fields: Any) -> Any:
        container = {"name": "app", "image": "test", "command": command, **fields}
        pod = {
            "metadata": {"name": "test-pod", "namespace": "default", "uid": "u"},
            "spec": {"containers": [container]},
        }
        return container_spec(
            pod,
            container,
            Image(name="test"),
            environment={"NAME": "value"},
            mounts=mounts or [],
            network=str(network),
            address="10.244.0.2",
            hidden=[],
            permitted=permitted_capabilities(),
        )

    return make


@pytest.fixture
def capability_bits() -> dict[str, int]:
    return {name: 1 << number for number, name in enumerate(CAPABILITIES)}

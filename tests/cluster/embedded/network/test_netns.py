"""Real namespaces and rules: pods, services, and what nobody answers for."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlab.cluster.embedded.network import netns
from meshlab.cluster.embedded.network.service import TABLE, ServicePort, nft, transaction

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

ECHO = """
import socket, sys
server = socket.create_server(("0.0.0.0", 8080))
print("up", flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall(f"{sys.argv[1]} {peer[0]}".encode())
    connection.close()
"""
PODS = {"one": "10.244.0.2", "two": "10.244.0.3", "client": "10.244.0.4"}
BOTH = ((PODS["one"], 8080), (PODS["two"], 8080))
WEB = ServicePort(
    namespace="shop",
    service="web",
    name="",
    protocol="tcp",
    address="10.96.0.20",
    port=80,
    node_port=30080,
    endpoints=BOTH,
)
STICKY = ServicePort(
    namespace="shop",
    service="sticky",
    name="",
    protocol="tcp",
    address="10.96.0.21",
    port=80,
    affinity=100,
    endpoints=BOTH,
)


class Net:
    """A cluster's namespace with pods, two of which answer on 8080 with name and caller."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: list[subprocess.Popen[bytes]] = []
        netns.create_cluster(directory / "cluster")
        for name, address in PODS.items():
            netns.inside(
                directory / "cluster",
                lambda name=name, address=address: netns.create_pod(
                    directory / name,
                    f"pod{name}",
                    address,
                    {"net/ipv4/ip_unprivileged_port_start": "0"},
                ),
            )
        for name in ("one", "two"):
            self.servers.append(netns.inside(directory / name, lambda name=name: serve(name)))

    def rules(self, script: str) -> None:
        netns.inside(self.directory / "cluster", lambda: nft(script))

    def call(self, place: str, address: str, port: int = 80) -> list[str]:
        """Return the words of the answer, or the error's name, as seen from `place`."""
        return netns.inside(self.directory / place, lambda: call(address, port))

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()
            if server.stdout:
                server.stdout.close()
        for name in ("cluster", *PODS):
            netns.remove(self.directory / name)


def serve(name: str) -> "subprocess.Popen[bytes]":
    server = subprocess.Popen([sys.executable, "-c", ECHO, name], stdout=subprocess.PIPE)
    assert server.stdout
    assert server.stdout.readline() == b"up\n"
    return server


def call(address: str, port: int) -> list[str]:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(100).decode().split()
    except OSError as error:
        return [type(error).__name__, os.strerror(error.errno or 0)]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    net = Net(tmp_path_factory.mktemp("net"))
    net.rules(TABLE + transaction({}, {port.chain: port for port in (WEB, STICKY)}))
    yield net
    net.close()


def test_pods_reach_each_other_under_their_own_addresses(net: Net) -> None:
    assert net.call("client", PODS["one"], 8080) == ["one", PODS["client"]]


def test_a_service_goes_to_all_its_endpoints_and_keeps_the_caller(net: Net) -> None:
    answers = {tuple(net.call("client", "10.96.0.20")) for _ in range(60)}  # missed: 2 to the -59
    assert answers == {("one", PODS["client"]), ("two", PODS["client"])}


def test_a_pod_that_gets_its_own_call_back_sees_the_node(net: Net) -> None:
    answers = {tuple(net.call("one", "10.96.0.20")) for _ in range(60)}
    assert answers == {("one", "10.244.0.1"), ("two", PODS["one"])}


@pytest.mark.parametrize(
    ("place", "address", "port"),
    [
        pytest.param("cluster", "10.96.0.20", 80, id="from the node by its virtual address"),
        pytest.param("cluster", "10.244.0.1", 30080, id="from the node by the node port"),
        pytest.param("client", "10.244.0.1", 30080, id="from a pod by the node port"),
    ],
)
def test_ways_to_a_service(net: Net, place: str, address: str, port: int) -> None:
    assert net.call(place, address, port)[0] in {"one", "two"}


def test_session_affinity(net: Net) -> None:
    assert len({tuple(net.call("client", "10.96.0.21")) for _ in range(20)}) == 1


@pytest.mark.parametrize("place", ["client", "cluster"])
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        pytest.param("10.96.0.99", "Connection refused", id="a service that is not there"),
        pytest.param("10.244.7.7", "No route to host", id="a pod that is gone"),
        pytest.param("192.0.2.1", "Network is unreachable", id="the world outside"),
    ],
)
def test_what_nobody_answers_for_fails_at_once(
    net: Net, place: str, address: str, reason: str
) -> None:
    began = time.monotonic()
    assert net.call(place, address)[1] == reason
    assert time.monotonic() - began < 0.5


def test_a_service_that_loses_its_endpoints_refuses(net: Net) -> None:
    other = ServicePort(
        namespace="shop",
        service="brief",
        name="",
        protocol="tcp",
        address="10.96.0.22",
        port=80,
        endpoints=BOTH,
    )
    net.rules(transaction({}, {other.chain: other}).split("add element ip meshlab own")[0])
    assert net.call("client", "10.96.0.22")[0] in {"one", "two"}
    net.rules(transaction({other.chain: other}, {}).split("delete element ip meshlab own")[0])
    assert net.call("client", "10.96.0.22")[1] == "Connection refused"


def test_a_namespace_exists_only_while_it_is_bound(tmp_path: Path) -> None:
    path = tmp_path / "ns"
    assert not netns.exists(path)
    path.touch()
    assert not netns.exists(path)
    netns.create(path, {}, "link set lo up\n")
    assert netns.exists(path)
    netns.remove(path)
    assert not path.exists()

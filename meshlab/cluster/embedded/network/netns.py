"""Network namespaces: one for the cluster, in which it routes, and one for each pod.

There is no bridge. A pod has one veth pair and /32 addresses; the cluster's namespace has a /32
route to each pod and says "unreachable" for the rest of the range, so that a call to a pod that is
gone fails at once. A namespace lives as long as a process in it or the file its handle is bound to.
"""

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from meshlab.cluster.embedded.linux import CLONE_NEWNET, bind, setns, umount, unshare
from meshlab.cluster.embedded.network.ipam import NODE_ADDRESS, POD_RANGE, SERVICE_RANGE
from meshlab.errors import ClusterError

Result = TypeVar("Result")

CLUSTER_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/default/disable_ipv6": "1",
}
CLUSTER_SETUP = f"""\
link set lo up
addr add {NODE_ADDRESS}/32 dev lo
route add unreachable {POD_RANGE}
route add local {SERVICE_RANGE} dev lo src {NODE_ADDRESS}
"""
# Service addresses are local to the cluster's namespace. What no rule translates (no such
# service, or no endpoint) meets the kernel's own answer to a port nobody listens on: a reset.


def in_thread(function: Callable[[], Result]) -> Result:
    """Return what `function` returns; it may move its thread, which ends, to other namespaces."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def enter(path: Path) -> None:
    """Move the calling thread into the namespace that is bound to `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, CLONE_NEWNET)
    finally:
        os.close(fd)


def inside(path: Path, function: Callable[[], Result]) -> Result:
    """Return what `function` returns when called inside the namespace bound to `path`."""

    def call() -> Result:
        enter(path)
        return function()

    return in_thread(call)


def exists(path: Path) -> bool:
    """Say whether a namespace is bound to `path`, and not only the file left of one."""
    return path.exists() and path.stat().st_dev != path.parent.stat().st_dev


def create(path: Path, sysctls: dict[str, str], setup: str) -> None:
    """Make a namespace, bind it to `path`, write its sysctls, and run `ip -batch` on `setup`."""

    def make() -> None:
        unshare(CLONE_NEWNET)
        for name, value in sysctls.items():
            write_sysctl(name, value)
        ip(setup)
        bind("/proc/thread-self/ns/net", str(path), recursive=False)

    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    in_thread(make)


def remove(path: Path) -> None:
    """Let go of the namespace; it ends with the last process in it."""
    if exists(path):
        umount(str(path))
    path.unlink(missing_ok=True)


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl of the calling thread's namespaces (`net/ipv4/ip_forward`)."""
    (Path("/proc/sys") / name).write_text(value)


def ip(commands: str) -> None:
    """Run lines of iproute2 in the calling thread's namespace.

    Raises:
        ClusterError: with what `ip` says.
    """
    done = subprocess.run(
        ["ip", "-batch", "-"], input=commands, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ClusterError(f"ip: {done.stderr.strip()}", found=commands.strip())


def create_cluster(path: Path) -> None:
    """Make the cluster's namespace; raises ClusterError."""
    create(path, CLUSTER_SYSCTLS, CLUSTER_SETUP)


def create_pod(path: Path, veth: str, address: str, sysctls: dict[str, str]) -> None:
    """Make a pod's namespace and join it to the cluster's, in which the caller must be.

    Args:
        path: where to bind it.
        veth: the name of the cluster's end of the pair, at most 15 bytes.
        address: the pod's.
        sysctls: the pod's `securityContext.sysctls`, by path.

    Raises:
        ClusterError: with what `ip` says.
        OSError: a sysctl's name or value is wrong.
    """
    no_ipv6 = {"net/ipv6/conf/default/disable_ipv6": "1"}
    create(path, {**no_ipv6, **sysctls}, "link set lo up\n")
    ip(
        f"link add {veth} type veth peer name eth0 netns {path}\n"
        f"addr add {NODE_ADDRESS}/32 dev {veth}\n"
        f"link set {veth} up\n"
        f"route add {address}/32 dev {veth}\n"
    )
    inside(
        path,
        lambda: ip(
            f"addr add {address}/32 dev eth0\n"
            "link set eth0 up\n"
            f"route add {NODE_ADDRESS} dev eth0 scope link\n"
            f"route add default via {NODE_ADDRESS}\n"
        ),
    )

"""Say what this machine can do for meshlab, and how to fix what it cannot."""

import argparse
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshlab.cli import option
from meshlab.observe.table import Table

EXAMPLE = """\
meshlab doctor
meshlab doctor -o json"""

OK, WARNING, MISSING = "ok", "warning", "missing"
PACKAGES = ("grpc", "httpx", "httptools", "kubernetes", "starlette", "uvicorn", "uvloop", "yaml")
LAB_PACKAGES = ("ipywidgets", "jupyterlab", "papermill", "plotly")
MIN_MEMORY = 1 << 30
MIN_WATCHES = 8192
JUPYTER_PORT = 8888


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    state: str
    found: str
    fix: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    option.cluster(parser)
    option.output(parser)


def run(args: argparse.Namespace) -> int:
    findings = [check() for check in CHECKS]
    rows = [[f.what, f.state, f.found, f.fix] for f in findings]
    option.show(Table(["WHAT", "STATE", "FOUND", "FIX"], rows), args.output)
    return 1 if any(f.state == MISSING for f in findings) else 0


def system() -> Finding:
    found = f"{platform.system()} {platform.release()}"
    if platform.system() == "Linux":
        return Finding("Linux", OK, found)
    return Finding("Linux", MISSING, found, "Run meshlab in a Linux machine or a virtual one.")


def python() -> Finding:
    version = platform.python_version()
    return Finding("Python", OK, f"{version} ({sys.executable})")  # an older one did not get here


def root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", OK, "uid 0")
    return Finding(
        "root",
        MISSING,
        f"uid {os.geteuid()}",
        "Run as root (sudo): pods are processes in network namespaces.",
    )


def namespaces() -> Finding:
    """Try it: some containers have the tools but not the right."""
    if shutil.which("unshare") is None:
        return Finding("namespaces", MISSING, "no unshare", "apt-get install util-linux")
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode == 0:
        return Finding("namespaces", OK, "net, mount, pid, uts, ipc")
    return Finding(
        "namespaces",
        MISSING,
        tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else "refused",
        "Run as root; in a container, start that with --privileged.",
    )


def tool(name: str, package: str, *version: str) -> Callable[[], Finding]:
    """Return a check for a program; `version` are the words that make it tell its version."""

    def check() -> Finding:
        beside = Path(sys.executable).with_name(name)
        path = str(beside) if beside.exists() else shutil.which(name)
        if path is None:
            return Finding(name, MISSING, "not on the PATH", package)
        told = subprocess.run([path, *version], capture_output=True, text=True, check=False)
        lines = (told.stdout or told.stderr).strip().splitlines()
        if told.returncode or not lines:
            return Finding(name, MISSING, f"{path} does not tell its version", package)
        return Finding(name, OK, f"{path} ({lines[0]})")

    return check


def packages() -> Finding:
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return Finding("Python packages", MISSING, f"without {', '.join(absent)}", "make setup")
    return Finding("Python packages", OK, ", ".join(PACKAGES))


def lab_packages() -> Finding:
    absent = [name for name in LAB_PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        fix = "make setup, or: pip install 'meshlab[lab]'"
        return Finding("notebooks", WARNING, f"without {', '.join(absent)}", fix)
    return Finding("notebooks", OK, ", ".join(LAB_PACKAGES))


def node_ports() -> Finding:
    """Services of type NodePort and LoadBalancer listen on loopback, on ports from 30000."""
    free = sum(_is_free(port) for port in range(30000, 30020))
    found = f"{free} of the first 20 node ports are free"
    if free:
        return Finding("node ports", OK, found)
    return Finding("node ports", WARNING, found, "See who listens: ss -ltnp 'sport >= 30000'")


def jupyter_port() -> Finding:
    if _is_free(JUPYTER_PORT):
        return Finding("JupyterLab's port", OK, f"{JUPYTER_PORT} is free")
    return Finding(
        "JupyterLab's port", OK, f"{JUPYTER_PORT} is taken; `make lab` uses the next one"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def memory() -> Finding:
    available = memory_available(Path("/proc/meminfo").read_text())
    found = f"{available / (1 << 30):.1f} GiB available"
    if available >= MIN_MEMORY:
        return Finding("memory", OK, found)
    return Finding("memory", WARNING, found, "The labs want 1 GiB: end what you do not need.")


def memory_available(meminfo: str) -> int:
    """Return the bytes of `MemAvailable` in /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def inotify() -> Finding:
    watches = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
    instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    found = f"{watches} watches, {instances} instances"
    if watches >= MIN_WATCHES and instances >= 128:
        return Finding("inotify", OK, found)
    return Finding(
        "inotify",
        WARNING,
        found,
        "sysctl fs.inotify.max_user_watches=65536 fs.inotify.max_user_instances=512",
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    system,
    python,
    root,
    namespaces,
    tool("nft", "apt-get install nftables", "--version"),
    tool("ip", "apt-get install iproute2", "-V"),
    tool("kubectl", "make setup (builds it where Go is installed)", "version", "--client"),
    packages,
    lab_packages,
    node_ports,
    jupyter_port,
    memory,
    inotify,
)

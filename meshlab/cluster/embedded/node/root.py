"""A container's root file system: the host's programs read-only, everything private on a tmpfs.

There are no image layers: an image is a name for a program that the host has. What a container
sees is `/usr` and Python's own directories, bound read-only with all that is mounted below them,
and an `/etc`, `/dev`, `/proc`, `/tmp` and `/run` of its own. `/root`, `/home` and the cluster's
state are simply not there. Runs in the container's first process, so it imports next to nothing.
"""

import errno
import os
import stat
from typing import Any

from meshlab.cluster.embedded.linux import (
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    bind,
    make_read_only,
    mount,
    pivot_root,
)

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = [
    "alternatives",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "pki",
    "protocols",
    "services",
    "ssl",
    "terminfo",
]
"""From the host's `/etc`: what programs need to start and to check certificates, no accounts."""
DIRECTORIES = {
    "/proc": 0o555,
    "/sys": 0o555,
    "/dev": 0o755,
    "/etc": 0o755,
    "/home": 0o755,
    "/mnt": 0o755,
    "/opt": 0o755,
    "/root": 0o755,  # Python itself may live below it, for every user
    "/run": 0o755,
    "/srv": 0o755,
    "/tmp": 0o1777,
    "/var": 0o755,
    "/var/cache": 0o755,
    "/var/lib": 0o755,
    "/var/log": 0o755,
    "/var/tmp": 0o1777,
}
DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
MAX_LINKS = 40
COMMANDS = "/run/meshlab/bin"
"""Where the image's own commands lie; first on the container's PATH."""


def enter(spec: dict[str, Any], root: str) -> None:
    """Build the root file system on the empty directory `root` and make it this process's root.

    The process must be in a mount namespace of its own, its mounts private, and in the PID and
    network namespaces that /proc and /sys shall show. `spec` is `Container.spec`'s.
    """
    mount("tmpfs", root, "tmpfs", 0, "mode=0755,size=50%")
    for path, mode in DIRECTORIES.items():
        os.mkdir(root + path)
        os.chmod(root + path, mode)
    os.symlink("../run", root + "/var/run")
    for path in SYSTEM:
        show_system(path, root)
    for name in ETC:
        source = os.path.realpath(f"/etc/{name}")
        if os.path.exists(source):
            place(source, f"{root}/etc/{name}", read_only=True)
    make_devices(root + "/dev", spec["gid"])
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root + "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
    write_commands(root + COMMANDS, spec["commands"])
    for path, text in spec["files"].items():
        write(root + path, text)
    for entry in spec["mounts"]:
        target = resolve(root, entry["target"])
        place(entry["source"], target, read_only=entry["read_only"])
    for path in spec["hidden"]:
        if os.path.isdir(root + path):
            mount("tmpfs", root + path, "tmpfs", MS_RDONLY, "mode=0")
    if not spec["privileged"]:
        guard_proc(root)
    if spec["read_only_root"]:
        make_read_only(root, recursive=False)
    pivot_root(root)


def show_system(path: str, root: str) -> None:
    """Show one of the host's program directories; a link (`/bin` → `usr/bin`) stays a link."""
    if os.path.islink(path):
        os.symlink(os.readlink(path), root + path)
    elif os.path.isdir(path):
        place(path, root + path, read_only=True)


def resolve(root: str, path: str) -> str:
    """Return where `path` lies when `root` is "/": no link, absolute or upwards, leads out of it.

    A volume may hold any link, and the kernel would follow it from the machine's root.
    """
    here = root
    found: list[str] = []
    rest = path.split("/")[::-1]
    for _ in range(MAX_LINKS):
        while rest:
            part = rest.pop()
            if part == "..":
                found = found[:-1]
            elif part not in {"", "."}:
                found.append(part)
                here = "/".join([root, *found])
                if os.path.islink(here):
                    break
        else:
            return "/".join([root, *found])
        link = os.readlink(here)
        found = [] if link.startswith("/") else found[:-1]
        rest += link.split("/")[::-1]
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def place(source: str, target: str, *, read_only: bool) -> None:
    """Bind `source` at `target`, making the mount point."""
    if stat.S_ISDIR(os.stat(source).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.lexists(target):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    bind(source, target, read_only=read_only)


def make_devices(directory: str, group: int) -> None:
    mount("tmpfs", directory, "tmpfs", MS_NOSUID, "mode=0755,size=64k")
    for name, (major, minor) in DEVICES.items():
        path = f"{directory}/{name}"
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(path, 0o666)  # mknod() is subject to the umask
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"{directory}/{name}")
    os.mkdir(directory + "/pts")
    mount(
        "devpts",
        directory + "/pts",
        "devpts",
        MS_NOSUID | MS_NOEXEC,
        f"newinstance,ptmxmode=0666,mode=0620,gid={group}",
    )
    os.mkdir(directory + "/shm")
    mount(
        "shm", directory + "/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m"
    )


def guard_proc(root: str) -> None:
    """Hide or freeze what is the machine's and not the container's, as Docker does."""
    for path in MASKED:
        if os.path.isdir(root + path):
            mount("tmpfs", root + path, "tmpfs", MS_RDONLY, "mode=0")
        elif os.path.exists(root + path):
            bind(root + "/dev/null", root + path)
    for path in READ_ONLY:
        if os.path.exists(root + path):
            bind(root + path, root + path, read_only=True)


def write_commands(directory: str, commands: dict[str, list[str]]) -> None:
    """Write one small script for each command of the image."""
    os.makedirs(directory)
    for name, argv in commands.items():
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in argv)
        write(f"{directory}/{name}", f'#!/bin/sh\nexec {words} "$@"\n')
        os.chmod(f"{directory}/{name}", 0o755)


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)

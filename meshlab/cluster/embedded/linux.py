"""The system calls behind containers that Python 3.11's `os` lacks, by their own names.

Only `ctypes` and `os` are imported: the shim of every container carries this module.
"""

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
"""Names without `CAP_`; the place is the number (linux/capability.h)."""

# Numbers of x86-64 and of the generic table (arm64, riscv64): glibc has no pivot_root().
PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41
CAPABILITY_VERSION_3 = 0x20080522
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 1
MOUNT_SETATTR = 442

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Return `result`; a negative one raises the `OSError` of errno."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    check(libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread (for mount namespaces: the process) into a namespace."""
    check(libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    check(
        libc.mount(
            source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()
        ),
        target,
    )


def umount(target: str, flags: int = MNT_DETACH) -> None:
    check(libc.umount2(target.encode(), flags), target)


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = True) -> None:
    """Show `source` (a file, or a directory with what is mounted below it) at `target`."""
    mount(source, target, "", MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        make_read_only(target, recursive=recursive)


def make_read_only(target: str, *, recursive: bool = True) -> None:
    """Forbid writing through the mount at `target` and, if recursive, through all below it.

    A bind remount (MS_REMOUNT) covers one mount only, so a file system mounted below would stay
    writable; mount_setattr(2) takes the whole tree. Kernels before 5.12 do not have it.
    """
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY)  # struct mount_attr: set, clear, …
    flags = AT_RECURSIVE if recursive else 0
    size = ctypes.sizeof(attributes)
    check(libc.syscall(MOUNT_SETATTR, AT_FDCWD, target.encode(), flags, attributes, size), target)


def pivot_root(root: str) -> None:
    """Make the mount at `root` the root of this mount namespace and let go of the old one."""
    os.chdir(root)
    # pivot_root(2), "pivot_root(".", ".")": the old root comes to lie on top of the new one.
    check(libc.syscall(PIVOT_ROOT, b".", b"."), root)
    umount(".")
    os.chdir("/")


def prctl(option: int, value: int = 0) -> int:
    return check(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def drop_bounding(keep: int) -> None:
    """Take every capability outside the mask `keep` from what this process can ever gain."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        if not keep >> number & 1:
            prctl(PR_CAPBSET_DROP, number)


def set_capabilities(mask: int) -> None:
    """Make `mask` the effective and permitted set, and the inheritable set empty (capset(2))."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    check(libc.capset(header, data), "capset")


def permitted_capabilities() -> int:
    """Return the mask of what this process may use."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    raise OSError("/proc/self/status has no CapPrm line")


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when there is none, or a zombie.

    A pid alone does not name a process, since numbers are used again; with its start time it does.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def watch_directory(path: str) -> int:
    """Return a descriptor that can be read whenever a file in the directory changes (inotify)."""
    fd = check(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
    check(libc.inotify_add_watch(fd, path.encode(), IN_MODIFY | IN_CREATE | IN_MOVED_TO), path)
    return fd

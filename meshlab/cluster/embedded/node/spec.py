"""What the shim is told of a container: user, capabilities, files and mounts. Pure.

The shape of `container_spec` is the contract with shim.py and root.py.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import meshlab
from meshlab.cluster.embedded.linux import CAPABILITIES
from meshlab.cluster.embedded.network.service import DNS_ADDRESS
from meshlab.cluster.embedded.node.environment import ConfigMissing, expand
from meshlab.cluster.embedded.node.image import Image
from meshlab.cluster.embedded.node.root import COMMANDS

Object = dict[str, Any]

DOCKER_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
        "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
PATH = f"{COMMANDS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOSTS = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def security(pod: Object, container: Object) -> Object:
    """Return the security context of a container: its own fields, else the pod's."""
    return {
        **(pod["spec"].get("securityContext") or {}),
        **(container.get("securityContext") or {}),
    }


def user_of(context: Object, image: Image) -> tuple[int, int]:
    """Return uid and gid.

    Raises:
        ConfigMissing: `runAsNonRoot`, and it would be root.
    """
    uid = context.get("runAsUser")
    gid = context.get("runAsGroup")
    if gid is None:
        gid = image.group if uid is None or uid == image.user else 0
    if uid is None:
        uid = image.user
    if uid == 0 and context.get("runAsNonRoot"):
        raise ConfigMissing("container has runAsNonRoot and image will run as root")
    return uid, gid


def host_namespaces(pod: Object) -> list[str]:
    """Return the fields by which the pod asks for the host's namespaces; it gets its own."""
    asked = ("hostNetwork", "hostPID", "hostIPC")
    return [f"spec.{field}" for field in asked if pod["spec"].get(field)]


def groups_of(pod: Object, gid: int) -> list[int]:
    context = pod["spec"].get("securityContext") or {}
    extra = [*(context.get("supplementalGroups") or []), context.get("fsGroup")]
    return sorted({gid, *(group for group in extra if group is not None)})


def capability_names(context: Object) -> frozenset[str]:
    """Return Docker's default set with `capabilities.drop` taken away and `add` put in."""
    if context.get("privileged"):
        return frozenset(CAPABILITIES)
    changes = context.get("capabilities") or {}
    drop = {name.removeprefix("CAP_").upper() for name in changes.get("drop") or []}
    add = {name.removeprefix("CAP_").upper() for name in changes.get("add") or []}
    kept = frozenset() if "ALL" in drop else DOCKER_CAPABILITIES - drop
    return frozenset(CAPABILITIES) if "ALL" in add else kept | add


def capability_mask(names: Iterable[str], permitted: int) -> int:
    """Return the bits of the capabilities, those left out that this machine's root lacks."""
    mask = sum(1 << CAPABILITIES.index(name) for name in names if name in CAPABILITIES)
    return mask & permitted


def python_directories() -> list[str]:
    """Return what an interpreter needs beside the system: its own tree, the venv, this package."""
    package = str(Path(meshlab.__file__).parent)
    candidates = [sys.base_prefix, sys.prefix, package]
    kept: list[str] = []
    for path in dict.fromkeys(candidates):
        if not any(is_below(path, known) for known in ["/usr", *kept]):
            kept.append(path)
    return kept


def is_below(path: str, directory: str) -> bool:
    return Path(path).is_relative_to(directory)


def hostname_of(pod: Object) -> str:
    return (pod["spec"].get("hostname") or str(pod["metadata"]["name"]))[:63].rstrip("-.")


def hosts_file(pod: Object, address: str) -> str:
    hostname = hostname_of(pod)
    lines = [HOSTS]
    names = hostname
    if subdomain := pod["spec"].get("subdomain"):
        names = (
            f"{hostname}.{subdomain}.{pod['metadata']['namespace']}.svc.cluster.local {hostname}"
        )
    lines.append(f"{address}\t{names}\n")
    aliases = pod["spec"].get("hostAliases") or []
    if aliases:
        lines.append("\n# Entries added by HostAliases.\n")
    lines += [f"{alias['ip']}\t{' '.join(alias.get('hostnames') or [])}\n" for alias in aliases]
    return "".join(lines)


def resolv_conf(pod: Object) -> str:
    """Return /etc/resolv.conf by `dnsPolicy` and `dnsConfig`."""
    namespace = pod["metadata"]["namespace"]
    config = pod["spec"].get("dnsConfig") or {}
    servers: list[str] = []
    search: list[str] = []
    options: dict[str, str | None] = {}
    if pod["spec"].get("dnsPolicy") != "None":
        servers += [DNS_ADDRESS]
        search += [f"{namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        options["ndots"] = "5"
    servers += config.get("nameservers") or []
    search += config.get("searches") or []
    options |= {entry["name"]: entry.get("value") for entry in config.get("options") or []}
    words = [name if value is None else f"{name}:{value}" for name, value in options.items()]
    lines = [f"search {' '.join(search)}\n"] if search else []
    lines += [f"nameserver {server}\n" for server in servers]
    return "".join(lines) + (f"options {' '.join(words)}\n" if words else "")


def accounts(uid: int, gid: int) -> dict[str, str]:
    """Return /etc/passwd, /etc/group and what names go through, for root and the image's user."""
    users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    groups = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"
    if uid not in {0, 65534}:
        users += f"app:x:{uid}:{gid}:app:/:/bin/sh\n"
    if gid not in {0, 5, 65534}:
        groups += f"app:x:{gid}:\n"
    names = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
    return {"/etc/passwd": users, "/etc/group": groups, "/etc/nsswitch.conf": names}


def container_spec(
    pod: Object,
    container: Object,
    image: Image,
    *,
    environment: Mapping[str, str],
    mounts: list[Object],
    network: str,
    address: str,
    hidden: list[str],
    permitted: int,
) -> Object:
    """Return the whole of `spec.json`.

    Args:
        pod: the Pod.
        container: its entry in the pod's spec.
        image: what it runs.
        environment: all variables.
        mounts: `{"source", "target", "read_only"}` of its volumes, in order.
        network: the file that the pod's network namespace is bound to.
        address: the pod's.
        hidden: directories that must not be seen, wherever they lie.
        permitted: the mask of capabilities that this machine's root has.

    Raises:
        ConfigMissing: its user or command cannot be told.
    """
    context = security(pod, container)
    uid, gid = user_of(context, image)
    command, args = (
        [expand(word, environment) for word in container.get(field) or []]
        for field in ("command", "args")
    )
    argv = image.argv(command, args)
    if not argv:
        raise ConfigMissing("no command specified")
    python = {"python": [sys.executable], "python3": [sys.executable]}
    home = "/root" if uid == 0 else "/"
    tree = [{"source": p, "target": p, "read_only": True} for p in python_directories()]
    return {
        "argv": argv,
        "env": {"PATH": PATH, "HOME": home, **environment},
        "cwd": container.get("workingDir") or "/",
        "uid": uid,
        "gid": gid,
        "groups": groups_of(pod, gid),
        "capabilities": capability_mask(capability_names(context), permitted),
        "privileged": bool(context.get("privileged")),
        "read_only_root": bool(context.get("readOnlyRootFilesystem")),
        "hostname": hostname_of(pod),
        "network": network,
        "commands": {**python, **image.commands},
        "files": {
            "/etc/hosts": hosts_file(pod, address),
            "/etc/hostname": hostname_of(pod) + "\n",
            "/etc/resolv.conf": resolv_conf(pod),
            **accounts(uid, gid),
        },
        "mounts": [*tree, *mounts],
        "hidden": hidden,
    }

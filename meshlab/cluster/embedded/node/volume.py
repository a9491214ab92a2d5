"""A pod's volumes: directories made on the host's side, to be bound into its containers.

`emptyDir` is a directory; with `medium: Memory`, and for everything that may be secret, a tmpfs.
Files of ConfigMaps, Secrets, tokens and the downward API are replaced all at once, as kubelet
does it: they live in a new directory each time, and the link `..data` is moved to it.
"""

import os
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshlab.cluster.embedded.linux import MS_NODEV, MS_NOSUID, mount, umount
from meshlab.cluster.embedded.node.environment import (
    ConfigMissing,
    Fetch,
    all_containers,
    data_of,
    expand,
    field_value,
    resource_value,
)

Object = dict[str, Any]
Token = Callable[[list[str], int], Awaitable[tuple[str, float]]]
"""(audiences, seconds) → a token of the pod's service account, and when it ends (since 1970)."""

TOKEN_SECONDS = 3607
REFRESH = 0.8
"""Part of a token's life after which a new one is written; kubelet's number."""


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the contents come from."""

    pod: Object
    fetch: Fetch
    token: Token
    capacity: Mapping[str, str]


class Volumes:
    """The volumes of one pod."""

    def __init__(self, directory: Path, sources: Sources) -> None:
        self.directory = directory
        self.sources = sources
        self.refresh_at: dict[str, float] = {}
        """Volumes with tokens, and when the next one is due (since 1970)."""

    @property
    def specs(self) -> list[Object]:
        return self.sources.pod["spec"].get("volumes") or []

    def path(self, name: str) -> Path:
        return self.directory / name

    async def set_up(self, *, only: str = "") -> None:
        """Make the volumes, or write their contents anew where they are there.

        Raises:
            ConfigMissing: a ConfigMap, Secret or key is not there; or a kind we do not have.
        """
        for spec in self.specs:
            if not only or spec["name"] == only:
                await self.set_up_one(spec)

    async def set_up_one(self, spec: Object) -> None:
        path = self.path(spec["name"])
        if "emptyDir" in spec:
            self.make(path, memory=(spec["emptyDir"] or {}).get("medium") == "Memory")
            return
        files = await self.files(spec)
        self.make(path, memory=True)
        write_atomically(path, files, self.group)

    @property
    def group(self) -> int | None:
        """`fsGroup`: owns all files."""
        context = self.sources.pod["spec"].get("securityContext") or {}
        group: int | None = context.get("fsGroup")
        return group

    def make(self, path: Path, *, memory: bool) -> None:
        """Make the volume's directory if it is not there; a tmpfs is gone after `stop`."""
        if path.is_mount() if memory else path.exists():
            return
        path.mkdir(parents=True, exist_ok=True)
        if memory:
            mount("tmpfs", str(path), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0777")
        path.chmod(0o777)
        if self.group is not None:
            os.chown(path, -1, self.group)
            path.chmod(0o2777)

    async def files(self, spec: Object) -> dict[str, File]:
        """Return the contents of a volume by relative path."""
        for kind in ("configMap", "secret", "downwardAPI"):
            if kind in spec:
                source = dict(spec[kind] or {})
                if kind == "secret":
                    source["name"] = source.get("secretName")
                return self.plain(kind, source, source.get("defaultMode") or 0o644)
        if "projected" in spec:
            return await self.projected(spec["name"], spec["projected"] or {})
        kind = next((key for key in spec if key != "name"), "nothing")
        raise ConfigMissing(
            f'volume "{spec["name"]}" is of kind {kind}, which the embedded cluster does not have',
            allowed="emptyDir, configMap, secret, downwardAPI, projected",
        )

    async def projected(self, name: str, spec: Object) -> dict[str, File]:
        mode = spec.get("defaultMode") or 0o644
        found: dict[str, File] = {}
        for source in spec.get("sources") or []:
            if token := source.get("serviceAccountToken"):
                found[token["path"]] = await self.token(name, token, mode)
                continue
            kind = next(k for k in ("configMap", "secret", "downwardAPI") if k in source)
            found |= self.plain(kind, source[kind] or {}, mode)
        return found

    async def token(self, name: str, spec: Object, mode: int) -> File:
        seconds = spec.get("expirationSeconds") or TOKEN_SECONDS
        audiences = [spec["audience"]] if spec.get("audience") else []
        text, expiry = await self.sources.token(audiences, seconds)
        now = time.time()
        due = now + (expiry - now) * REFRESH
        self.refresh_at[name] = min(due, self.refresh_at.get(name, due))
        return File(text.encode(), mode)

    def plain(self, kind: str, source: Object, mode: int) -> dict[str, File]:
        if kind == "downwardAPI":
            return {item["path"]: self.downward(item, mode) for item in source.get("items") or []}
        resource = {"configMap": "configmaps", "secret": "secrets"}[kind]
        obj = self.sources.fetch(resource, source["name"])
        if obj is None:
            if source.get("optional"):
                return {}
            raise ConfigMissing(f'{kind.lower()} "{source["name"]}" not found')
        data = data_of(obj)
        if not source.get("items"):
            return {key: File(value, mode) for key, value in data.items()}
        missing = [i["key"] for i in source["items"] if i["key"] not in data]
        if missing and not source.get("optional"):
            raise ConfigMissing(f"references non-existent {kind.lower()} key: {missing[0]}")
        return {
            item["path"]: File(data[item["key"]], item.get("mode") or mode)
            for item in source["items"]
            if item["key"] in data
        }

    def downward(self, item: Object, mode: int) -> File:
        pod = self.sources.pod
        if reference := item.get("fieldRef"):
            text = field_value(pod, reference["fieldPath"])
        else:
            reference = item["resourceFieldRef"]
            owner = next(c for c in all_containers(pod) if c["name"] == reference["containerName"])
            text = resource_value(
                owner, reference["resource"], reference.get("divisor", ""), self.sources.capacity
            )
        return File(text.encode(), item.get("mode") or mode)

    async def refresh(self, now: float) -> float | None:
        """Renew tokens that are due; return when the next one is."""
        for name, when in list(self.refresh_at.items()):
            if when <= now:
                del self.refresh_at[name]
                await self.set_up(only=name)
        return min(self.refresh_at.values(), default=None)

    def uses(self, resource: str, name: str) -> bool:
        """Return whether a ConfigMap or Secret of this name is in one of the volumes."""
        kind, field = {
            "configmaps": ("configMap", "name"),
            "secrets": ("secret", "secretName"),
        }[resource]
        for spec in self.specs:
            if (spec.get(kind) or {}).get(field) == name:
                return True
            sources = (spec.get("projected") or {}).get("sources") or []
            if any((source.get(kind) or {}).get("name") == name for source in sources):
                return True
        return False

    def mounts(self, container: Object, environment: Mapping[str, str]) -> list[Object]:
        """Return a container's mounts as root.py wants them."""
        found = []
        for entry in container.get("volumeMounts") or []:
            source = self.path(entry["name"])
            sub_path = entry.get("subPath") or expand(entry.get("subPathExpr") or "", environment)
            if sub_path:
                source = self.below(source, sub_path)
            found.append(
                {
                    "source": str(source),
                    "target": "/" + entry["mountPath"].strip("/"),
                    "read_only": bool(entry.get("readOnly"))
                    or self.is_written_by_us(entry["name"]),
                }
            )
        return sorted(found, key=lambda mount: mount["target"].count("/"))

    def below(self, volume: Path, sub_path: str) -> Path:
        """Return a place in a volume, made where it is not there; it cannot lead outside."""
        path = (volume / sub_path).resolve()
        if not path.is_relative_to(volume.resolve()):
            raise ConfigMissing(f"subPath {sub_path!r} leads out of its volume")
        if not path.exists():
            path.mkdir(parents=True)
            path.chmod(0o777)
        return path

    def is_written_by_us(self, name: str) -> bool:
        return any(spec["name"] == name and "emptyDir" not in spec for spec in self.specs)

    def tear_down(self) -> None:
        """Unmount and delete everything."""
        for spec in self.specs:
            path = self.path(spec["name"])
            if path.is_mount():
                umount(str(path))
        shutil.rmtree(self.directory, ignore_errors=True)


def write_atomically(directory: Path, files: Mapping[str, File], group: int | None) -> None:
    """Replace the files of a volume, so that a reader sees all old ones or all new ones."""
    new = directory / f"..{time.time_ns()}"
    new.mkdir()
    new.chmod(0o755)  # whatever our umask: containers read as users of their own
    for name, file in files.items():
        path = new / name
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)
        path.write_bytes(file.data)
        path.chmod(file.mode if group is None else file.mode | 0o040)
        if group is not None:
            os.chown(path, -1, group)
    link = directory / "..data"
    old = link.readlink() if link.is_symlink() else None
    (directory / "..data.new").symlink_to(new.name)
    (directory / "..data.new").rename(link)
    tops = {name.split("/")[0] for name in files}
    for name in tops:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old:
        shutil.rmtree(directory / old, ignore_errors=True)


def make_directory(path: Path) -> None:
    """Make a directory that every user may read, whatever the umask."""
    path.mkdir(exist_ok=True)
    path.chmod(0o755)

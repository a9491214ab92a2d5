"""Writes kubeconfig files: for their owner only, and whole or not at all."""

from pathlib import Path
from typing import Any

import yaml


def write(path: Path, config: dict[str, Any]) -> None:
    """Write a kubeconfig with mode 0600; an old one is replaced at once."""
    new = path.with_name(path.name + ".new")
    new.touch(0o600)
    new.chmod(0o600)
    new.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    new.replace(path)


def server(path: Path) -> str:
    """Return the URL of the API server of the current context, "" where there is none."""
    if not path.exists():
        return ""
    config = yaml.safe_load(path.read_text("utf-8")) or {}
    contexts = {entry["name"]: entry["context"] for entry in config.get("contexts") or []}
    clusters = {entry["name"]: entry["cluster"] for entry in config.get("clusters") or []}
    context = contexts.get(config.get("current-context"), {})
    url: str = clusters.get(context.get("cluster"), {}).get("server", "")
    return url

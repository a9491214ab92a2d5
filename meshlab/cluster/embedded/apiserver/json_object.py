"""Plain JSON values: copy them, keep them lean, walk them by path, tell the time in them."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def copy(value: Any) -> Any:
    """Return a deep copy; several times faster than `copy.deepcopy`, for JSON only."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy(item) for item in value]
    return value


def lean(value: Any) -> Any:
    """Return a deep copy that shares its keys and short strings with all other objects kept.

    A thousand Deployments repeat the same hundred words; shared, they cost half the memory.
    """
    if isinstance(value, dict):
        return {sys.intern(key): lean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [lean(item) for item in value]
    if isinstance(value, str) and len(value) < 40:
        return sys.intern(value)
    return value


def encode(value: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def at(value: Any, *path: str, default: Any = None) -> Any:
    """Return what stands at a path of keys, or `default` where one is missing or null."""
    for key in path:
        if not isinstance(value, dict):
            return default
        value = value.get(key)
    return default if value is None else value


def put_at(value: Json, path: Iterable[str], item: Any) -> None:
    """Set what stands at a path of keys, making the objects on the way."""
    *parents, last = path
    for key in parents:
        value = value.setdefault(key, {})
    value[last] = item


def dotted(path: str) -> list[str]:
    """Return the keys of `.spec.replicas`."""
    return [part for part in path.split(".") if part]


def now() -> str:
    """Return the time as `metadata.creationTimestamp` has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Return the moment that an RFC 3339 time names.

    Raises:
        ValueError: it names none.
    """
    return datetime.fromisoformat(text)


def name_of(obj: Json) -> str:
    return str(obj["metadata"]["name"])


def namespace_of(obj: Json) -> str:
    return str(obj["metadata"].get("namespace", ""))

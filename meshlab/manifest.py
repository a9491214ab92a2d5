"""Kubernetes objects from what people hand in: a path, a folder, YAML text, objects, a route."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from meshlab.errors import ConfigError
from meshlab.route import Route

Object = dict[str, Any]
Source = str | Path | Mapping[str, Any] | Route | Iterable[Mapping[str, Any]]
"""A path (file or folder), YAML or JSON text (it has a line break), an object, or several."""


def read(source: Source) -> list[Object]:
    """Return the objects in order, those of a `List` one by one.

    Raises:
        ConfigError: no such file, not YAML, or not Kubernetes objects.
    """
    if isinstance(source, Route):
        return [source.manifest]
    if isinstance(source, Mapping):
        return list(_flat(source, "the object"))
    if isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{")):
        return _parse(source, "the text")
    if isinstance(source, str | Path):
        return [obj for path in _files(Path(source)) for obj in _parse(_text(path), str(path))]
    return [obj for item in source for obj in _flat(item, "the object")]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
        if not found:
            raise ConfigError("holds no .yaml, .yml or .json file", object=str(path))
        return found
    return [path]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}",
            object=str(path),
            fix=f"Relative paths start at {Path.cwd()}.",
        ) from error


def _parse(text: str, name: str) -> list[Object]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"is not YAML: {problem}", object=f"{name}{line}") from error
    return [obj for document in documents if document for obj in _flat(document, name)]


def _flat(document: Any, name: str) -> Iterator[Object]:
    missing = [
        field
        for field in ("apiVersion", "kind")
        if not (isinstance(document, Mapping) and document.get(field))
    ]
    if missing:
        raise ConfigError(
            "is not a Kubernetes object", object=name, field=missing[0], found="nothing"
        )
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _flat(item, name)
        return
    metadata = document.get("metadata") or {}
    if not (metadata.get("name") or metadata.get("generateName")):
        raise ConfigError(
            "has no name", object=f"{name}: {document['kind']}", field="metadata.name"
        )
    yield dict(document)

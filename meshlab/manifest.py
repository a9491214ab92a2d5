"""Kubernetes objects from what people hand in: a path, a folder, YAML text, objects, a route."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from meshlab.errors import ConfigError
from meshlab.route import Route

Object = dict[str, Any]
Source = str | Path | Mapping[str, Any] | Route | Iterable[Mapping[str, Any]]
"""A path (file or folder), YAML or JSON text (it has a line break), an object, or several."""

MAX_VALUES = 1_000_000
"""Of one YAML document."""


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
        documents = list(_documents(text, name))
    except RecursionError as error:
        raise ConfigError("is nested too deeply", object=name) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"is not YAML: {problem}", object=f"{name}{line}") from error
    return [obj for document in documents if document for obj in _flat(document, name)]


def _documents(text: str, name: str) -> Iterator[Any]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            # Ten lines whose aliases name each other stand for a billion values: a "YAML bomb".
            # Before the objects are made, since merge keys are copied out then.
            if node is not None and _size(node, {}) > MAX_VALUES:
                raise ConfigError(
                    "becomes too large once its aliases are written out",
                    object=name,
                    allowed=f"at most {MAX_VALUES} values, and no alias inside what it names",
                )
            yield loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node stands for with its aliases written out; may be infinite."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: a node that holds itself never ends
        flat = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_size(child, known) for child in flat)
    return known[id(node)]


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

"""Fields: their types, paths and texts, and the one decoder that all models share.

A model is a frozen dataclass; its annotations say what may stand in the document. A field without
a default is required. `ONE_OF` on a model lists groups of document names of which at most one may
be set. Names in the document are the Python names in camel case.
"""

import base64
import binascii
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from meshlab.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, both included."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class DocumentName:
    """The name in the document where camel case does not give it."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """A value written as text in the document: `duration` or `bytes` (base64)."""

    format: Literal["duration", "bytes"]


Duration = Annotated[float, Text("duration")]
"""Seconds; written in Go's syntax (`1.5s`, `1h30m`)."""
Bytes = Annotated[bytes, Text("bytes")]
"""Written in base64."""
UInt32 = Annotated[int, Range(0, 2**32 - 1)]
UInt64 = Annotated[int, Range(0, 2**64 - 1)]
Int32 = Annotated[int, Range(-(2**31), 2**31 - 1)]
Port = Annotated[int, Range(1, 65535)]


class ConfigErrors(ConfigError):  # noqa: N818 - a ConfigError, several at once
    """All that is wrong with one object."""

    def __init__(self, problems: Sequence[ConfigError]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.render() for problem in problems))


# Paths


def child(path: str, name: str) -> str:
    """Return the path of a field: `spec` + `http` → `spec.http`."""
    return f"{path}.{name}" if path else name


def item(path: str, key: int | str) -> str:
    """Return the path of an element of a list or map: `spec.http[0]`, `headers[x-user]`."""
    return f"{path}[{key}]"


def document_name(name: str) -> str:
    """Return the name in the document of a Python name: `per_try_timeout` → `perTryTimeout`."""
    first, *rest = name.strip("_").split("_")
    return first + "".join(part.capitalize() for part in rest)


# Texts

_SUBSECOND = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3}
_UNITS = {**_SUBSECOND, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Return the seconds that a duration in Go's syntax says (`time.ParseDuration`).

    Raises:
        ValueError: not of that syntax; a bare number needs its unit, only `0` does not.
    """
    if text in ("0", "+0", "-0"):
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(f"not a duration: {text!r}")
    seconds = sum(float(n) * _UNITS[unit] for n, unit in _DURATION_PART.findall(text))
    return -seconds if text[0] == "-" else seconds


def format_duration(seconds: float) -> str:
    """Return seconds as Go prints them: `1.5s`, `25ms`, `1h0m0s`."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds == 0:
        return "0s"
    nanos = round(seconds * 1e9)
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nanos < size * 1000:
            return f"{nanos / size:g}{unit}"
    minutes, rest = divmod(seconds, 60)
    text = f"{round(rest, 9):.9f}".rstrip("0").rstrip(".") + "s"
    if minutes < 1:
        return text
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


# What a model says


@dataclass(frozen=True, slots=True)
class ModelField:
    """One field of a model, read from its annotation."""

    name: str
    """In Python."""
    document_name: str
    type: Any
    """The annotation without `None` and without a `DocumentName`."""
    required: bool


@cache
def model_fields(model: type[Any]) -> Mapping[str, ModelField]:
    """Return document name → field of a model."""
    hints = get_type_hints(model, include_extras=True)
    made = {}
    for spec in fields(model):
        hint = without_none(hints[spec.name])
        name = document_name(spec.name)
        for mark in annotations(hint):
            if isinstance(mark, DocumentName):
                name, hint = mark.name, without_none(get_args(hint)[0])
        required = spec.default is MISSING and spec.default_factory is MISSING
        made[name] = ModelField(spec.name, name, hint, required)
    return made


def without_none(hint: Any) -> Any:
    """Return X of `X | None`, anything else as it is."""
    if get_origin(hint) in (Union, UnionType):
        rest = [arg for arg in get_args(hint) if arg is not NoneType]
        if len(rest) == 1:
            return rest[0]
    return hint


def annotations(hint: Any) -> tuple[Any, ...]:
    """Return what `Annotated` adds to a type."""
    return tuple(hint.__metadata__) if get_origin(hint) is Annotated else ()


def one_of(model: type) -> Sequence[Sequence[str]]:
    """Return the groups of document names that exclude each other."""
    groups: Sequence[Sequence[str]] = getattr(model, "ONE_OF", ())
    return groups


# Decoding


class Problems:
    """Collects what is wrong with a document, all of it."""

    def __init__(self, object: str = "") -> None:  # noqa: A002 - as in MeshlabError
        """`object`: how errors name the document."""
        self.object = object
        self.problems: list[ConfigError] = []

    def refuse(self, path: str, what: str, found: Any, allowed: str = "", fix: str = "") -> None:
        self.problems.append(
            ConfigError(
                what,
                object=self.object,
                field=path,
                found=_shown(found),
                allowed=allowed,
                fix=fix,
            )
        )


class Decoder(Problems):
    """Turns documents into models and collects what does not fit."""

    def decode(self, hint: Any, value: Any, path: str) -> Any:
        """Return the value as its annotation says; None after a problem was noted."""
        if hint is Any:
            return value
        marks = annotations(hint)
        base = get_args(hint)[0] if marks else hint
        origin = get_origin(base)
        if is_dataclass(base):
            return self.model(base, value, path)  # type: ignore[arg-type]  # a class, not an instance
        if origin is Literal:
            return self._choice(get_args(base), value, path)
        if origin is tuple:
            return self._list(get_args(base)[0], value, path)
        if origin is not None:
            return self._map(get_args(base)[1], value, path)
        for mark in marks:
            if isinstance(mark, Text):
                return self._text(mark, value, path)
        return self._scalar(base, marks, value, path)

    def model(self, model: type[T], value: Any, path: str) -> T | None:
        if not isinstance(value, Mapping):
            self.refuse(path, "must be an object", value, "an object")
            return None
        known: Mapping[str, ModelField] = model_fields(model)  # type: ignore[arg-type]  # a class is hashable
        before = len(self.problems)
        self._unknown(known, value, path)
        self._exclusive(one_of(model), value, path)
        made = {}
        for name, spec in known.items():
            if value.get(name) is not None:
                made[spec.name] = self.decode(spec.type, value[name], child(path, name))
            elif spec.required:
                self.refuse(child(path, name), "is missing", "nothing", kind_of(spec.type))
        return model(**made) if len(self.problems) == before else None

    def _unknown(
        self, known: Mapping[str, ModelField], value: Mapping[str, Any], path: str
    ) -> None:
        for name in value.keys() - known.keys():
            close = difflib.get_close_matches(str(name), known, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else "Remove it"
            self.refuse(
                child(path, str(name)), "is not a field here", value[name], ", ".join(known), fix
            )

    def _exclusive(
        self, groups: Sequence[Sequence[str]], value: Mapping[str, Any], path: str
    ) -> None:
        for group in groups:
            present = [name for name in group if value.get(name) is not None]
            if len(present) > 1:
                self.refuse(
                    path,
                    "sets fields that exclude each other",
                    " and ".join(present),
                    "one of " + ", ".join(group),
                    f"Keep {present[0]} or {present[1]}",
                )

    def _choice(self, choices: tuple[Any, ...], value: Any, path: str) -> Any:
        if value in choices:
            return value
        self.refuse(path, "is not one of the values it may have", value, ", ".join(choices))
        return None

    def _list(self, hint: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            self.refuse(path, "must be a list", value, "a list")
            return None
        return tuple(self.decode(hint, each, item(path, i)) for i, each in enumerate(value))

    def _map(self, hint: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            self.refuse(path, "must be an object", value, "an object")
            return None
        return {str(k): self.decode(hint, each, item(path, k)) for k, each in value.items()}

    def _text(self, mark: Text, value: Any, path: str) -> Any:
        if mark.format == "duration":
            try:
                return parse_duration(value)
            except (TypeError, ValueError):
                fix = f"Write {value}s" if isinstance(value, int | float) else ""
                self.refuse(path, "is not a duration", value, "such as 1.5s, 100ms, 1h30m", fix)
                return None
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            self.refuse(path, "is not base64", value, "bytes in base64")
            return None

    def _scalar(self, base: Any, marks: tuple[Any, ...], value: Any, path: str) -> Any:
        # bool is an int to Python, never to a document.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if base is float and number:
            return float(value)
        if base is int and number and int(value) == value:
            return self._in_range(marks, int(value), path)
        if base in (str, bool) and isinstance(value, base):
            return value
        fix = ""
        if base is str and not isinstance(value, Mapping | Sequence):
            fix = f'Put it in quotes: "{_shown(value)}"'
        elif base is int and isinstance(value, str) and value.isdigit():
            fix = f"Remove the quotes: {value}"
        self.refuse(path, f"must be {kind_of(base)}", value, kind_of(base), fix)
        return None

    def _in_range(self, marks: tuple[Any, ...], value: int, path: str) -> int | None:
        for mark in marks:
            if isinstance(mark, Range) and not mark.minimum <= value <= mark.maximum:
                self.refuse(path, "is out of range", value, f"{mark.minimum} to {mark.maximum}")
                return None
        return value


def kind_of(hint: Any) -> str:
    """Return a type in the words of a document."""
    marks = annotations(hint)
    base = get_args(hint)[0] if marks else hint
    for mark in marks:
        if isinstance(mark, Text):
            return {"duration": "a duration such as 1.5s", "bytes": "bytes in base64"}[mark.format]
        if isinstance(mark, Range):
            return f"a whole number from {mark.minimum} to {mark.maximum}"
    if get_origin(base) is Literal:
        return "one of " + ", ".join(get_args(base))
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if get_origin(base) is tuple:
        return "a list"
    return names.get(base, "an object")


def _shown(value: Any) -> str:
    """Return a value as one would write it in YAML, cut where it gets long."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."

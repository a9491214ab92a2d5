"""Adding, setting and removing headers (Envoy `HeaderValueOption`), with formats in the values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from meshlab.proxy.core.format import compile_text
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.stream_info import StreamInfo

AppendAction = Literal[
    "append_if_exists_or_add",
    "add_if_absent",
    "overwrite_if_exists_or_add",
    "overwrite_if_exists",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderValue:
    """One header to write (`core.v3.HeaderValueOption`)."""

    name: bytes
    """In lower case; `:path` and `host`/`:authority` are refused by the reader of configuration."""
    value: str
    """May hold the operators of access logs, `%DOWNSTREAM_REMOTE_ADDRESS%`; `%%` is a percent."""
    action: AppendAction = "append_if_exists_or_add"
    keep_empty_value: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMutation:
    """What one level (route, virtual host, configuration, cluster share) does to the headers."""

    remove: tuple[bytes, ...] = ()
    """Removed first."""
    add: tuple[HeaderValue, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.add)


NO_MUTATION = HeaderMutation()

Mutate = Callable[[Headers, StreamInfo], None]


def compile_mutations(levels: Sequence[HeaderMutation]) -> Mutate | None:
    """Return what `levels` do to headers, one after the other, as one function; None for nothing.

    Raises:
        ConfigError: a format in a value that does not compile.
    """
    steps = [compile_mutation(level) for level in levels if level]
    if not steps:
        return None
    if len(steps) == 1:
        return steps[0]

    def apply(headers: Headers, info: StreamInfo) -> None:
        for step in steps:
            step(headers, info)

    return apply


def compile_mutation(mutation: HeaderMutation) -> Mutate:
    remove = mutation.remove
    add = [
        (option.name, compile_text(option.value, empty=""), option.action, option.keep_empty_value)
        for option in mutation.add
    ]

    def apply(headers: Headers, info: StreamInfo) -> None:
        for name in remove:
            headers.remove(name)
        # All values first: none of them shall see what the others write.
        values = [render(info).encode("latin-1", "replace") for _, render, _, _ in add]
        for (name, _, action, keep_empty), value in zip(add, values, strict=True):
            if value or keep_empty:
                write_header(headers, name, value, action)

    return apply


def write_header(headers: Headers, name: bytes, value: bytes, action: AppendAction) -> None:
    if action == "append_if_exists_or_add":
        headers.add(name, value)
    elif action == "add_if_absent":
        if name not in headers.names:
            headers.add(name, value)
    elif action == "overwrite_if_exists_or_add" or name in headers.names:
        headers.set(name, value)

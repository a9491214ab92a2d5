"""Command-line flags as Go's `flag` package reads them.

`-n 20`, `-n=20`, `--n 20`, `-quiet`, `-keepalive=false`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


class FlagError(Exception):
    """A flag that is not there, or a value that it does not take."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: how its text becomes a value, and what `-help` says about it."""

    parse: Callable[[str], Any]
    default: Any
    about: str
    repeated: bool = False

    @property
    def boolean(self) -> bool:
        return self.parse is boolean


def boolean(text: str) -> bool:
    """Return what Go's `strconv.ParseBool` does.

    Raises:
        ValueError: none of its spellings.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def parse(arguments: Sequence[str], flags: Mapping[str, Flag]) -> tuple[dict[str, Any], list[str]]:
    """Return the flags' values and the arguments after the last flag.

    Raises:
        FlagError: names the flag.
    """
    values = {name: list(f.default) if f.repeated else f.default for name, f in flags.items()}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, text = word.lstrip("-").partition("=")
        flag = flags.get(name)
        if flag is None:
            raise FlagError(f"flag provided but not defined: -{name}")
        if flag.boolean and not equals:
            text = "true"
        elif not equals:
            if not rest:
                raise FlagError(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        try:
            value = flag.parse(text)
        except ValueError as error:
            raise FlagError(f'invalid value "{text}" for flag -{name}: {error}') from error
        if flag.repeated:
            values[name].append(value)
        else:
            values[name] = value
    return values, rest


def usage(flags: Mapping[str, Flag]) -> str:
    """Return the table of flags, as Go prints it."""
    lines = []
    for name, flag in sorted(flags.items()):
        shown = "" if flag.default in (None, "", False, 0, [], ()) else f" (default {flag.default})"
        lines.append(f"  -{name}\n    \t{flag.about}{shown}")
    return "\n".join(lines)

"""Checks that the rules of several kinds share: host names, durations, regular expressions."""

import ipaddress
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from meshlab.api.field import Problems, child, format_duration, item

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_LABEL = re.compile(r"[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_MILLISECOND = 0.001

MAX_REGEX = 1024
"""Length of a regular expression, as Istio limits it."""
_MAX_REPEAT = 1000  # RE2's own
# Outside of brackets: what RE2 leaves out because it would take more than linear time.
_NOT_RE2 = {
    "(?=": "look-ahead",
    "(?!": "look-ahead",
    "(?<=": "look-behind",
    "(?<!": "look-behind",
    "(?>": "atomic group",
    "(?(": "condition",
    "(?P=": "back-reference",
}


def host(problems: Problems, path: str, name: str) -> None:
    """A host name, `*`, `*.suffix`, or an IP address."""
    if name == "*" or is_address(name):
        return
    dns_name(problems, path, name.removeprefix("*."), found=name)


def dns_name(problems: Problems, path: str, name: str, *, found: str = "") -> None:
    """A host name without wildcards; `found` is what was written, where it holds more than it."""
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in labels):
        fix = "A wildcard is * alone or the first label: *.example.com" if "*" in name else ""
        if "://" in name or "/" in name:
            fix = "Leave out the scheme and the path"
        elif ":" in name:
            fix = "Leave out the port"
        problems.refuse(
            path, "is not a host name", found or name, "such as reviews or www.example.com", fix
        )


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def label(problems: Problems, path: str, name: str) -> None:
    """A name as Kubernetes' labels of DNS (RFC 1123): for subsets and namespaces."""
    if not _LABEL.fullmatch(name):
        problems.refuse(path, "is not a name", name, "a-z, 0-9 and -, at most 63 characters")


def header_name(problems: Problems, path: str, name: str) -> None:
    """A header's name (RFC 9110 §5.1)."""
    if not _HEADER.fullmatch(name):
        problems.refuse(path, "is not a header's name", name, "letters, digits and -")


def duration(problems: Problems, path: str, seconds: float | None) -> None:
    """At least a millisecond, and whole milliseconds, as Envoy's timers have it."""
    if seconds is None:
        return
    millis = seconds / _MILLISECOND
    if seconds < _MILLISECOND or abs(millis - round(millis)) > 1e-6:
        problems.refuse(
            path, "is not a usable duration", format_duration(seconds), "1ms or more, whole ms"
        )


def timeout(problems: Problems, path: str, seconds: float | None) -> None:
    """A duration where 0 says "off"."""
    if seconds:
        duration(problems, path, seconds)


def percent(problems: Problems, path: str, value: float) -> None:
    if not 0 <= value <= 100:
        problems.refuse(path, "is not a percentage", value, "0 to 100")


def not_negative(problems: Problems, path: str, value: int) -> None:
    if value < 0:
        problems.refuse(path, "must not be negative", value, "0 or more")


def port(problems: Problems, path: str, number: int | None) -> None:
    if number is not None and not 1 <= number <= 65535:
        problems.refuse(path, "is not a port", number, "1 to 65535")


def export_to(problems: Problems, path: str, namespaces: Sequence[str]) -> None:
    """`.`, `*`, `~` (nobody) or names of namespaces; each once, and `*` alone."""
    unique(problems, path, namespaces)
    for i, name in enumerate(namespaces):
        if name not in (".", "*", "~"):
            label(problems, item(path, i), name)
    if len(namespaces) > 1 and ("*" in namespaces or "~" in namespaces):
        problems.refuse(
            path, "says everybody or nobody, and more", ", ".join(namespaces), "* alone"
        )


def unique(problems: Problems, path: str, values: Iterable[Any]) -> None:
    seen = set()
    for i, value in enumerate(values):
        if value in seen:
            problems.refuse(item(path, i), "stands there twice", value, "", "Remove one")
        seen.add(value)


def regex(problems: Problems, path: str, text: str) -> None:
    r"""A regular expression that RE2 and Python both take, and read the same way.

    RE2 decides in linear time and has neither look-around nor back-references; of RE2's own
    additions (`[[:alpha:]]`, `\pL`, `\Q…\E`, `\z`) our data plane has none.
    """
    allowed = f"RE2 syntax, at most {MAX_REGEX} characters"
    if not text:
        problems.refuse(path, "is an empty regular expression", '""', allowed, "Leave it out")
        return
    if len(text) > MAX_REGEX:
        problems.refuse(path, "is too long", f"{len(text)} characters", allowed)
        return
    if foreign := foreign_to_re2(text):
        problems.refuse(path, f"has a {foreign}, which Envoy's RE2 has not", text, allowed)
        return
    try:
        with warnings.catch_warnings():
            # Sets within sets, `[[:alpha:]]` among them: Python reads them in its own way.
            warnings.simplefilter("error", FutureWarning)
            re.compile(text)
    except (re.error, OverflowError, FutureWarning) as error:
        problems.refuse(path, f"is not a regular expression: {error}", text, allowed)


def foreign_to_re2(text: str) -> str:
    """Return what in a pattern RE2 does not have, in words; "" when there is nothing."""
    in_class = False
    i = 0
    while i < len(text):
        if text[i] == "\\":
            if not in_class and text[i + 1 : i + 2] in tuple("123456789"):
                return "back-reference"
            i += 2
            continue
        if in_class:
            in_class = text[i] != "]"
        elif text[i] == "[":
            in_class = True
            # A bracket right after the opening one, or after ^, is a member.
            i += 1 + (text[i + 1 : i + 2] == "^")
            if text[i : i + 1] != "]":
                continue
        else:
            for start, name in _NOT_RE2.items():
                if text.startswith(start, i):
                    return name
            if _possessive(text, i):
                return "possessive repetition"
            if _too_often(text, i):
                return f"repetition of more than {_MAX_REPEAT}"
        i += 1
    return ""


def _possessive(text: str, i: int) -> bool:
    return text[i] in "*+?}" and text[i + 1 : i + 2] == "+"


def _too_often(text: str, i: int) -> bool:
    found = re.match(r"\{(\d+)(?:,(\d*))?\}", text[i:])
    return bool(found) and any(int(n) > _MAX_REPEAT for n in found.groups() if n)  # type: ignore[union-attr]  # found is a match


def labels(problems: Problems, path: str, values: Iterable[tuple[str, str]]) -> None:
    """Labels that are compared as they stand: a wildcard would match nothing."""
    for name, value in values:
        if not name or "*" in name or "*" in value:
            problems.refuse(
                child(path, name), "is no label to select by", f"{name}={value}", "no wildcards"
            )

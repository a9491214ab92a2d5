"""Normal forms of a path, and rewriting one (RFC 3986 §6.2, Envoy `path_normalization`)."""

import re
from collections.abc import Callable

from meshlab.errors import ConfigError
from meshlab.proxy.core.matcher import compile_regex

_SLASHES = re.compile(rb"/{2,}")
_ESCAPED_SLASH = re.compile(rb"%(?:2[fF]|5[cC])")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SUSPECT = re.compile(rb"//|/\.|%|\\")


def split(target: bytes) -> tuple[bytes, bytes]:
    """Return (path, rest); the rest starts with `?` or `#`, or is empty."""
    place = target.find(b"?")
    fragment = target.find(b"#")
    if fragment >= 0 and (place < 0 or fragment < place):
        place = fragment
    return (target, b"") if place < 0 else (target[:place], target[place:])


def _unescape(match: "re.Match[bytes]") -> bytes:
    code = int(match[1], 16)
    return bytes((code,)) if code in _UNRESERVED else match[0].upper()


def normalize(path: bytes) -> bytes:
    """Return the path without dot segments, unreserved characters plain, backslashes turned."""
    if _SUSPECT.search(path) is None:
        return path
    text = _PERCENT.sub(_unescape, path).replace(b"\\", b"/")
    kept: list[bytes] = []
    segments = text.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1:] in ([b"."], [b".."]):
        kept.append(b"")
    return b"/" + b"/".join(kept)


def merge_slashes(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", path) if b"//" in path else path


def has_escaped_slash(path: bytes) -> bool:
    return b"%" in path and _ESCAPED_SLASH.search(path) is not None


def unescape_slashes(path: bytes) -> bytes:
    return _ESCAPED_SLASH.sub(lambda m: b"/" if m[0][1:2] == b"2" else b"\\", path)


def compile_regex_rewrite(
    pattern: bytes, substitution: bytes, *, field: str = ""
) -> Callable[[bytes], bytes]:
    """Return the replacement of every match of `pattern` (RE2 `GlobalReplace`).

    Raises:
        ConfigError: a pattern that does not compile, a group that it does not have.
    """
    compiled = compile_regex(pattern, field=field)
    template = re.sub(rb"\\(\d)", rb"\\g<\1>", substitution)
    for group in re.findall(rb"\\g<(\d)>", template):
        if int(group) > compiled.groups:
            raise ConfigError(
                f"substitution names group {int(group)}, the pattern has {compiled.groups}",
                field=field,
                found=substitution.decode("utf-8", "replace"),
            )
    return lambda path: compiled.sub(template, path)

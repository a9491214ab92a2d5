"""Adding, setting and removing headers (Envoy `HeaderValueOption`), with formats in the values."""

from dataclasses import dataclass
from typing import Literal

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

"""VirtualService `headers` → headers that Envoy adds, overwrites and removes."""

from collections.abc import Mapping, Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2

from meshlab.api.istio.virtual_service import Headers

_Option = base_pb2.HeaderValueOption


def apply(made: Any, headers: Headers | None) -> None:
    """Add the operations to a route or a share of it (both have the same four fields)."""
    if headers is None:
        return
    if request := headers.request:
        made.request_headers_to_add.extend(_set(request.set))
        made.request_headers_to_add.extend(_add(request.add))
        made.request_headers_to_remove.extend(_removable(request.remove))
    if response := headers.response:
        made.response_headers_to_add.extend(_set(response.set))
        made.response_headers_to_add.extend(_add(response.add))
        made.response_headers_to_remove.extend(_removable(response.remove))


def authority(headers: Headers | None) -> str:
    """Return the Host that the operations ask for; `set` beats `add`; "": none."""
    if headers is None or headers.request is None:
        return ""
    for values in (headers.request.set, headers.request.add):
        for name, value in values.items():
            if name.lower() in ("host", ":authority"):
                return value
    return ""


def _set(values: Mapping[str, str]) -> list[Any]:
    return _options(values, _Option.OVERWRITE_IF_EXISTS_OR_ADD)


def _add(values: Mapping[str, str]) -> list[Any]:
    return _options(values, _Option.APPEND_IF_EXISTS_OR_ADD)


def _options(values: Mapping[str, str], action: int) -> list[Any]:
    return [
        _Option(header=base_pb2.HeaderValue(key=name, value=values[name]), append_action=action)
        for name in _removable(sorted(values))
    ]


def _removable(names: Sequence[str]) -> list[str]:
    """Return the names that may be touched: Envoy refuses the Host and everything with a colon."""
    return [name for name in names if not name.startswith(":") and name.lower() != "host"]

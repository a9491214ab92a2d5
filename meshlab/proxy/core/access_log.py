"""Access log settings, response flags and the format compiled to one function."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from meshlab.errors import ConfigError
from meshlab.proxy.core.format import compile_text, parse
from meshlab.proxy.core.stream_info import BIT, StreamInfo

ENVOY_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)
"""Envoy's format where the log names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogFilter:
    """Which requests a log takes (`AccessLogFilter`); all tests that are set must hold."""

    response_flags: tuple[str, ...] | None = None
    """At least one of these; an empty tuple: at least one at all."""
    status_at_least: int | None = None
    duration_at_least: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAccessLog:
    """`file.v3.FileAccessLog`, `stream.v3.StdoutAccessLog` (path `/dev/stdout`)."""

    path: str
    text_format: str | None = None
    """`text_format_source`; None with no JSON: Envoy's default format."""
    json_format: Mapping[str, object] | None = None
    """Values are formats, numbers, booleans, or mappings of the same kind."""
    omit_empty_values: bool = False
    filter: AccessLogFilter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcAccessLog:
    """`grpc.v3.HttpGrpcAccessLogConfig`, `TcpGrpcAccessLogConfig`: ALS."""

    kind: Literal["http", "tcp"]
    cluster: str
    """The gRPC service's cluster."""
    log_name: str
    buffer_flush_interval: float = 1.0
    """Seconds."""
    buffer_size_bytes: int = 16384
    filter_state_keys: tuple[str, ...] = ()
    request_headers: tuple[bytes, ...] = ()
    """`additional_request_headers_to_log`."""
    response_headers: tuple[bytes, ...] = ()
    filter: AccessLogFilter | None = None


AccessLog = FileAccessLog | GrpcAccessLog


def compile_log(log: FileAccessLog) -> Callable[[StreamInfo], str]:
    """Return the log's format as one function that makes a line, line end included.

    Raises:
        ConfigError: an operator that is not known, a value that JSON formats cannot have.
    """
    empty = "" if log.omit_empty_values else "-"
    if log.json_format is None:
        return compile_text(
            ENVOY_FORMAT if log.text_format is None else log.text_format, empty=empty
        )
    render = _compile_object(log.json_format, log.omit_empty_values, "json_format")
    return lambda info: json.dumps(render(info), separators=(",", ":")) + "\n"


def _compile_object(
    values: Mapping[str, object], omit_empty: bool, field: str
) -> Callable[[StreamInfo], dict[str, object]]:
    members = [
        (key, _compile_value(value, omit_empty, f"{field}.{key}"))
        for key, value in sorted(values.items())
    ]

    def render(info: StreamInfo) -> dict[str, object]:
        found = {key: read(info) for key, read in members}
        if omit_empty:
            return {key: value for key, value in found.items() if value is not None}
        return found

    return render


def _compile_value(value: object, omit_empty: bool, field: str) -> Callable[[StreamInfo], object]:
    if isinstance(value, Mapping):
        return _compile_object(value, omit_empty, field)
    if isinstance(value, str):
        try:
            parts = parse(value)
        except ConfigError as error:
            raise ConfigError(error.what, field=field, found=error.found) from error
        if len(parts) == 1 and not isinstance(parts[0], str):
            return parts[0]  # a lone operator keeps its type: numbers stay numbers
        return compile_text(value, empty="" if omit_empty else "-")
    if value is None or isinstance(value, bool | int | float):
        return lambda info: value
    raise ConfigError("no format, number, boolean or mapping", field=field, found=repr(value))


def compile_filter(rule: AccessLogFilter | None) -> Callable[[StreamInfo], bool] | None:
    """Return the test of a finished stream, or None when all are taken.

    Raises:
        ConfigError: a response flag that does not exist.
    """
    if rule is None:
        return None
    flags = 0
    for name in rule.response_flags or ():
        if name not in BIT:
            raise ConfigError("unknown response flag", field="response_flag_filter", found=name)
        flags |= BIT[name]
    any_flag = rule.response_flags == ()
    with_flags = rule.response_flags is not None
    status = rule.status_at_least
    duration = rule.duration_at_least

    def takes(info: StreamInfo) -> bool:
        if with_flags and not (info.flags if any_flag else info.flags & flags):
            return False
        if status is not None and info.response_code < status:
            return False
        return duration is None or info.end - info.start >= duration

    return takes

"""Access log settings, response flags and the format compiled to one function."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


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

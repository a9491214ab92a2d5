"""Read access logs: files, standard output, and the access log service (Envoy `AccessLog`)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any as Anything
from typing import Literal

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog as FileMessage
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from google.protobuf import json_format

from meshlab.errors import ConfigError
from meshlab.proxy.config.protobuf import duration, join, type_name, unpack, wrapped
from meshlab.proxy.config.secret import read_data_source
from meshlab.proxy.core.access_log import (
    AccessLog,
    AccessLogFilter,
    FileAccessLog,
    GrpcAccessLog,
    compile_log,
)
from meshlab.proxy.core.stream_info import BIT


def compile_access_logs(
    messages: Sequence[accesslog_pb2.AccessLog], path: str
) -> tuple[AccessLog, ...]:
    return tuple(
        compile_access_log(message, f"{path}[{index}]") for index, message in enumerate(messages)
    )


def compile_access_log(message: accesslog_pb2.AccessLog, path: str) -> AccessLog:
    """Return the log.

    Raises:
        ConfigError: a log of another kind, a format with an operator that is not known.
    """
    chosen = (
        compile_filter(message.filter, join(path, "filter")) if message.HasField("filter") else None
    )
    name = type_name(message.typed_config)
    path = join(path, "typed_config")
    if name == FileMessage.DESCRIPTOR.full_name:
        return compile_file_log(unpack(message.typed_config, FileMessage, path), chosen, path)
    if name == StdoutAccessLog.DESCRIPTOR.full_name:
        stdout = unpack(message.typed_config, StdoutAccessLog, path)
        return checked(
            with_format(
                FileAccessLog(path="/dev/stdout", filter=chosen),
                stdout.log_format,
                join(path, "log_format"),
            ),
            join(path, "log_format"),
        )
    if name == als_pb2.HttpGrpcAccessLogConfig.DESCRIPTOR.full_name:
        http = unpack(message.typed_config, als_pb2.HttpGrpcAccessLogConfig, path)
        return replace(
            compile_grpc_log(http.common_config, "http", chosen, join(path, "common_config")),
            request_headers=header_names(http.additional_request_headers_to_log),
            response_headers=header_names(http.additional_response_headers_to_log),
        )
    if name == als_pb2.TcpGrpcAccessLogConfig.DESCRIPTOR.full_name:
        tcp = unpack(message.typed_config, als_pb2.TcpGrpcAccessLogConfig, path)
        return compile_grpc_log(tcp.common_config, "tcp", chosen, join(path, "common_config"))
    raise ConfigError("is an access log that this proxy does not have", field=path, found=name)


def header_names(names: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(name.lower().encode() for name in names)


def compile_file_log(
    message: FileMessage, chosen: AccessLogFilter | None, path: str
) -> FileAccessLog:
    if not message.path:
        raise ConfigError("must not be empty", field=join(path, "path"))
    log = FileAccessLog(path=message.path, filter=chosen)
    kind = message.WhichOneof("access_log_format")
    if kind is None:
        return log
    place = join(path, kind)
    if kind == "log_format":
        log = with_format(log, message.log_format, place)
    elif kind == "format":
        log = replace(log, text_format=message.format or None)
    else:
        log = replace(log, json_format=json_format.MessageToDict(getattr(message, kind)))
    return checked(log, place)


def with_format(log: FileAccessLog, form: SubstitutionFormatString, path: str) -> FileAccessLog:
    """Return `log` with the format that `form` gives."""
    kind = form.WhichOneof("format")
    omit = form.omit_empty_values
    if kind == "json_format":
        values: dict[str, Anything] = json_format.MessageToDict(form.json_format)
        return replace(log, json_format=values, omit_empty_values=omit)
    if kind == "text_format_source":
        source = read_data_source(form.text_format_source, join(path, "text_format_source"))
        return replace(log, text_format=source.decode(), omit_empty_values=omit)
    if kind == "text_format":
        return replace(log, text_format=form.text_format, omit_empty_values=omit)
    return replace(log, omit_empty_values=omit)


def checked(log: FileAccessLog, path: str) -> FileAccessLog:
    """Return `log`; raises ConfigError with `path` when its format does not compile."""
    try:
        compile_log(log)
    except ConfigError as error:
        raise ConfigError(
            error.what, field=join(path, error.field), found=error.found, allowed=error.allowed
        ) from error
    return log


def compile_grpc_log(
    message: als_pb2.CommonGrpcAccessLogConfig,
    kind: Literal["http", "tcp"],
    chosen: AccessLogFilter | None,
    path: str,
) -> GrpcAccessLog:
    cluster = message.grpc_service.envoy_grpc.cluster_name
    if not cluster:
        raise ConfigError(
            "must not be empty", field=join(path, "grpc_service.envoy_grpc.cluster_name")
        )
    return GrpcAccessLog(
        kind=kind,
        cluster=cluster,
        log_name=message.log_name,
        buffer_flush_interval=duration(message, "buffer_flush_interval", 1.0, path),
        buffer_size_bytes=wrapped(message, "buffer_size_bytes", 16384),
        filter_state_keys=tuple(message.filter_state_objects_to_log),
        filter=chosen,
    )


def compile_filter(message: accesslog_pb2.AccessLogFilter, path: str) -> AccessLogFilter:
    """Return the tests; `and_filter` joins several of different kinds.

    Raises:
        ConfigError: another comparison than GE, an unknown flag, one kind twice.
    """
    kind = message.WhichOneof("filter_specifier")
    if kind == "and_filter":
        return compile_and_filter(message.and_filter, join(path, kind))
    if kind == "response_flag_filter":
        flags = tuple(message.response_flag_filter.flags)
        for index, flag in enumerate(flags):
            if flag not in BIT:
                raise ConfigError(
                    "is no response flag",
                    field=join(path, f"response_flag_filter.flags[{index}]"),
                    found=flag,
                    allowed=", ".join(BIT),
                )
        return AccessLogFilter(response_flags=flags)
    if kind == "status_code_filter":
        return AccessLogFilter(status_at_least=at_least(message.status_code_filter, path, kind))
    if kind == "duration_filter":
        milliseconds = at_least(message.duration_filter, path, kind)
        return AccessLogFilter(duration_at_least=milliseconds / 1000)
    raise ConfigError(
        "must set a test",
        field=path,
        allowed="response_flag_filter, status_code_filter, duration_filter, and_filter",
    )


def compile_and_filter(message: accesslog_pb2.AndFilter, path: str) -> AccessLogFilter:
    joined = AccessLogFilter()
    for index, item in enumerate(message.filters):
        place = f"{join(path, 'filters')}[{index}]"
        test = compile_filter(item, place)
        for field in ("response_flags", "status_at_least", "duration_at_least"):
            value = getattr(test, field)
            if value is None:
                continue
            if getattr(joined, field) is not None:
                raise ConfigError("tests what another filter tests already", field=place)
            joined = replace(joined, **{field: value})
    return joined


def at_least(
    message: accesslog_pb2.StatusCodeFilter | accesslog_pb2.DurationFilter, path: str, kind: str
) -> int:
    comparison = message.comparison
    if comparison.op != accesslog_pb2.ComparisonFilter.GE:
        raise ConfigError(
            "is not supported",
            field=join(path, f"{kind}.comparison.op"),
            found=accesslog_pb2.ComparisonFilter.Op.Name(comparison.op),
            allowed="GE",
        )
    return int(comparison.value.default_value)

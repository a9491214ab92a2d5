"""Read injected delays and aborts (Envoy `HTTPFault`)."""

from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault

from meshlab.errors import ConfigError
from meshlab.proxy.config.matcher import compile_fraction, compile_header_matchers
from meshlab.proxy.config.protobuf import join, seconds, wrapped
from meshlab.proxy.core.fault import Fault
from meshlab.proxy.core.matcher import Fraction

NEVER = Fraction(0)
"""Envoy: a fault without a percentage hits nobody."""


def compile_fault(message: HTTPFault, path: str) -> Fault:
    delay, delay_share = None, NEVER
    if message.HasField("delay"):
        if message.delay.WhichOneof("fault_delay_secifier") != "fixed_delay":
            raise ConfigError("must be set", field=join(path, "delay.fixed_delay"))
        delay = seconds(message.delay.fixed_delay)
        if delay <= 0:
            raise ConfigError("must be more than 0 s", field=join(path, "delay.fixed_delay"))
        delay_share = compile_fraction(message.delay.percentage, join(path, "delay.percentage"))
    abort_status, grpc_status, abort_share = None, None, NEVER
    if message.HasField("abort"):
        kind = message.abort.WhichOneof("error_type")
        if kind == "http_status":
            abort_status = message.abort.http_status
            if not 200 <= abort_status < 600:
                raise ConfigError(
                    "must be 200 to 599",
                    field=join(path, "abort.http_status"),
                    found=str(abort_status),
                )
        elif kind == "grpc_status":
            grpc_status = message.abort.grpc_status
        else:
            raise ConfigError("must set http_status or grpc_status", field=join(path, "abort"))
        abort_share = compile_fraction(message.abort.percentage, join(path, "abort.percentage"))
    return Fault(
        delay=delay,
        delay_share=delay_share,
        abort_status=abort_status,
        abort_grpc_status=grpc_status,
        abort_share=abort_share,
        upstream_cluster=message.upstream_cluster,
        headers=compile_header_matchers(message.headers, join(path, "headers")),
        max_active_faults=wrapped(message, "max_active_faults", None),
    )

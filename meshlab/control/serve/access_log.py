"""The access log service (ALS v3): what proxies report of each request, kept for a while.

Entries wait in a bounded ring and are turned into JSON, with the keys of Istio's JSON access log,
only when somebody reads them (`/debug/accesslogz`).
"""

import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf.json_format import MessageToDict

from meshlab.control.registry.api import ApiError
from meshlab.control.serve.auth import Authenticator, UnauthenticatedError
from meshlab.proto.response_flag import response_flags

LOG = logging.getLogger("meshlab.control.serve.access_log")
SERVICE = "envoy.service.accesslog.v3.AccessLogService"
KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One reported request or connection."""

    sequence: int
    proxy: str
    """Node id of the reporter."""
    log: str
    """`log_name` of the stream."""
    protocol: str
    """`http` or `tcp`."""
    message: Any


class AccessLogSink:
    """gRPC handler and ring buffer."""

    def __init__(self, kept: int = KEPT) -> None:
        self.entries: deque[Entry] = deque(maxlen=kept)
        self._sequence = itertools.count(1)
        self.next = 1
        """Sequence number that the next entry will get."""

    def handler(self, authenticator: Authenticator | None) -> Any:
        async def stream(requests: AsyncIterator[Any], context: Any) -> Any:
            await self._admit(context, authenticator)
            proxy, log = "", ""
            async for message in requests:
                if message.HasField("identifier"):
                    proxy, log = message.identifier.node.id, message.identifier.log_name
                self._keep(proxy, log, message)
            return als_pb2.StreamAccessLogsResponse()

        method = grpc.stream_unary_rpc_method_handler(
            stream,
            request_deserializer=als_pb2.StreamAccessLogsMessage.FromString,
            response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": method})

    def after(self, sequence: int, limit: int) -> dict[str, Any]:
        """Return entries later than `sequence`, at most `limit`, and where to go on."""
        later = (entry for entry in self.entries if entry.sequence > sequence)
        found = list(itertools.islice(later, limit))
        last = found[-1].sequence if found else max(sequence, self.next - 1)
        return {"next": last, "entries": [as_json(entry) for entry in found]}

    def _keep(self, proxy: str, log: str, message: Any) -> None:
        for protocol, entries in (
            ("http", message.http_logs.log_entry),
            ("tcp", message.tcp_logs.log_entry),
        ):
            for entry in entries:
                number = next(self._sequence)
                self.entries.append(Entry(number, proxy, log, protocol, entry))
                self.next = number + 1

    async def _admit(self, context: Any, authenticator: Authenticator | None) -> None:
        if authenticator is None:
            return
        try:
            await authenticator.caller(dict(context.invocation_metadata() or ()))
        except UnauthenticatedError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except (ApiError, httpx.HTTPError) as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, repr(error))


def as_json(entry: Entry) -> dict[str, Any]:
    """Return an entry with the keys of Istio's JSON access log (istio.md 4.2)."""
    message = entry.message
    common = message.common_properties
    fields: dict[str, Any] = {
        "seq": entry.sequence,
        "proxy": entry.proxy,
        "log": entry.log,
        "start_time": common.start_time.ToJsonString() if common.HasField("start_time") else None,
        "duration": _milliseconds(common.time_to_last_downstream_tx_byte),
        "route_name": common.route_name or None,
        "upstream_cluster": common.upstream_cluster or None,
        "upstream_host": _address(common.upstream_remote_address),
        "upstream_local_address": _address(common.upstream_local_address),
        "downstream_local_address": _address(common.downstream_local_address),
        "downstream_remote_address": _address(common.downstream_remote_address),
        "requested_server_name": common.tls_properties.tls_sni_hostname or None,
        "upstream_transport_failure_reason": common.upstream_transport_failure_reason or None,
        "connection_termination_details": common.connection_termination_details or None,
        "response_flags": response_flags(common.response_flags),
        "source_principal": _principal(common.tls_properties.peer_certificate_properties),
        "destination_principal": _principal(common.tls_properties.local_certificate_properties),
        "tls_version": _tls_version(common.tls_properties),
        "metadata": MessageToDict(common.metadata).get("filterMetadata") or {},
    }
    return {**fields, **(_http(message) if entry.protocol == "http" else _tcp(message))}


def _http(message: Any) -> dict[str, Any]:
    request, response = message.request, message.response
    method = request.DESCRIPTOR.fields_by_name["request_method"].enum_type
    names = {0: None, 1: "HTTP/1.0", 2: "HTTP/1.1", 3: "HTTP/2", 4: "HTTP/3"}
    headers: Mapping[str, str] = response.response_headers
    return {
        "method": method.values_by_number[request.request_method].name,
        "path": request.original_path or request.path,
        "protocol": names.get(message.protocol_version),
        "authority": request.authority or None,
        "user_agent": request.user_agent or None,
        "x_forwarded_for": request.forwarded_for or None,
        "request_id": request.request_id or None,
        "response_code": response.response_code.value,
        "response_code_details": response.response_code_details or None,
        "bytes_received": request.request_body_bytes,
        "bytes_sent": response.response_body_bytes,
        "upstream_service_time": headers.get("x-envoy-upstream-service-time"),
        "request_headers": dict(request.request_headers),
        "response_headers": dict(headers),
    }


def _tcp(message: Any) -> dict[str, Any]:
    properties = message.connection_properties
    return {
        "protocol": None,
        "bytes_received": properties.received_bytes,
        "bytes_sent": properties.sent_bytes,
    }


def _address(address: Any) -> str | None:
    if not address.HasField("socket_address"):
        return address.pipe.path or None if address.HasField("pipe") else None
    return f"{address.socket_address.address}:{address.socket_address.port_value}"


def _milliseconds(duration: Any) -> float:
    return float(round(duration.seconds * 1000 + duration.nanos / 1e6, 3))


def _principal(properties: Any) -> str | None:
    return next((name.uri for name in properties.subject_alt_name if name.uri), None)


def _tls_version(properties: Any) -> str | None:
    names = {1: "TLSv1", 2: "TLSv1.1", 3: "TLSv1.2", 4: "TLSv1.3"}
    return names.get(properties.tls_version)

"""Format strings with Envoy's command operators (`%REQ(X-ID)%`), compiled once.

Access logs and header mutations share them. A value that is not known is None: `-` in a log's
text, null in its JSON, nothing in a header.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from meshlab.errors import ConfigError
from meshlab.proxy.core.stream_info import (
    PeerCertificate,
    StreamInfo,
    flag_long_names,
    flag_names,
)

Value = str | int | None
Operator = Callable[[StreamInfo], Value]

_OPERATOR = re.compile(r"%([A-Z0-9_]+)(?:\(([^)]*)\))?(?::([0-9]+))?%|%%")


def host_of(address: str) -> str | None:
    """Return the IP address of `ip:port` without brackets, None of a path or nothing."""
    host, colon, _ = address.rpartition(":")
    return host.strip("[]") if colon else None


def port_of(address: str) -> int | None:
    _, colon, port = address.rpartition(":")
    return int(port) if colon and port.isdigit() else None


def milliseconds(start: float, end: float) -> int | None:
    """Return whole milliseconds between two moments, None when the second never came."""
    return int((end - start) * 1000) if end else None


@lru_cache(maxsize=16)
def whole_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def start_time(info: StreamInfo) -> str:
    """Return Envoy's default, `2026-01-02T03:04:05.678Z`."""
    second = int(info.start_time)
    return f"{whole_second(second)}.{int((info.start_time - second) * 1000):03d}Z"


def start_time_in(pattern: str) -> Operator:
    """Return START_TIME with a strftime pattern, Envoy's `%f` and `%3f` for fractions among it."""
    fraction = re.compile(r"%([1-9]?)f")

    def render(info: StreamInfo) -> str:
        moment = datetime.fromtimestamp(info.start_time, UTC)
        nanoseconds = f"{moment.microsecond:06d}000"
        text = fraction.sub(lambda match: nanoseconds[: int(match[1] or 9)], pattern)
        return moment.strftime(text.replace("%s", str(int(info.start_time))))

    return render


def text_of(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


PSEUDO: dict[bytes, Operator] = {
    b":method": lambda info: info.method.decode("latin-1") or None,
    b":authority": lambda info: info.authority.decode("latin-1") or None,
    b"host": lambda info: info.authority.decode("latin-1") or None,
    b":scheme": lambda info: info.scheme.decode("latin-1") or None,
    b":path": lambda info: info.path.decode("latin-1") or None,
}


def request_header(name: bytes) -> Operator:
    """Return the reader of a request header, pseudo-headers included."""
    if name in PSEUDO:
        return PSEUDO[name]

    def read(info: StreamInfo) -> Value:
        headers = info.request_headers
        if headers is None or name not in headers.names:
            return None
        return text_of(headers.joined(name))

    return read


def response_header(name: bytes) -> Operator:
    if name == b":status":
        return lambda info: info.response_code or None

    def read(info: StreamInfo) -> Value:
        headers = info.response_headers
        if headers is None or name not in headers.names:
            return None
        return text_of(headers.joined(name))

    return read


def trailer(name: bytes) -> Operator:
    return lambda info: (
        text_of(info.response_trailers.joined(name)) if info.response_trailers else None
    )


def header_operator(make: Callable[[bytes], Operator], argument: str) -> Operator:
    """Return `X` or `X?Y`: the first that is there."""
    first, _, other = (part.strip().lower().encode() for part in argument.partition("?"))
    read = make(first)
    if not other:
        return read
    instead = make(other)
    return lambda info: instead(info) if (value := read(info)) is None else value


def peer(info: StreamInfo) -> PeerCertificate | None:
    return info.connection.peer_certificate


def certificate_operator(
    certificate: Callable[[StreamInfo], PeerCertificate | None],
    value: Callable[[PeerCertificate], str],
) -> Operator:
    def render(info: StreamInfo) -> Value:
        found = certificate(info)
        return (value(found) or None) if found else None

    return render


def metadata_value(metadata: Mapping[str, Mapping[str, object]] | None, path: list[str]) -> Value:
    """Return what stands at `filter:key:key`; None where nothing does."""
    found: object = metadata
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str | int):
        return found
    return None if found is None else str(found)


SIMPLE: dict[str, Operator] = {
    "PROTOCOL": lambda info: info.protocol or None,
    "RESPONSE_CODE": lambda info: info.response_code,
    "RESPONSE_CODE_DETAILS": lambda info: info.response_code_details.replace(" ", "_") or None,
    "CONNECTION_TERMINATION_DETAILS": lambda info: info.connection_termination_details or None,
    "RESPONSE_FLAGS": lambda info: flag_names(info.flags),
    "RESPONSE_FLAGS_LONG": lambda info: flag_long_names(info.flags),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": (
        lambda info: info.upstream_transport_failure_reason or None
    ),
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON": (
        lambda info: info.connection.transport_failure_reason or None
    ),
    "BYTES_RECEIVED": lambda info: info.bytes_received,
    "BYTES_SENT": lambda info: info.bytes_sent,
    "REQUEST_HEADERS_BYTES": lambda info: info.request_headers_bytes,
    "RESPONSE_HEADERS_BYTES": lambda info: info.response_headers_bytes,
    "UPSTREAM_WIRE_BYTES_SENT": lambda info: info.upstream_bytes_sent,
    "UPSTREAM_WIRE_BYTES_RECEIVED": lambda info: info.upstream_bytes_received,
    "DURATION": lambda info: milliseconds(info.start, info.end),
    "REQUEST_DURATION": lambda info: milliseconds(info.start, info.last_downstream_byte_received),
    "REQUEST_TX_DURATION": lambda info: milliseconds(info.start, info.first_upstream_byte_sent),
    "RESPONSE_DURATION": lambda info: milliseconds(info.start, info.first_upstream_byte_received),
    "RESPONSE_TX_DURATION": (
        lambda info: (
            milliseconds(info.first_upstream_byte_received, info.end)
            if info.first_upstream_byte_received
            else None
        )
    ),
    "UPSTREAM_HOST": lambda info: info.upstream_host or None,
    "UPSTREAM_REMOTE_ADDRESS": lambda info: info.upstream_host or None,
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda info: host_of(info.upstream_host),
    "UPSTREAM_REMOTE_PORT": lambda info: port_of(info.upstream_host),
    "UPSTREAM_CLUSTER": lambda info: info.upstream_cluster or None,
    "UPSTREAM_CLUSTER_RAW": lambda info: info.upstream_cluster or None,
    "UPSTREAM_LOCAL_ADDRESS": lambda info: info.upstream_local_address or None,
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda info: host_of(info.upstream_local_address),
    "UPSTREAM_LOCAL_PORT": lambda info: port_of(info.upstream_local_address),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda info: info.attempt_count,
    "UPSTREAM_TLS_VERSION": lambda info: info.upstream_tls_version or None,
    "UPSTREAM_PEER_SUBJECT": certificate_operator(
        lambda info: info.upstream_certificate, lambda found: found.subject
    ),
    "UPSTREAM_PEER_URI_SAN": certificate_operator(
        lambda info: info.upstream_certificate, lambda found: ",".join(found.uri_sans)
    ),
    "DOWNSTREAM_LOCAL_ADDRESS": lambda info: info.connection.local_address or None,
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda info: host_of(info.connection.local_address),
    "DOWNSTREAM_LOCAL_PORT": lambda info: port_of(info.connection.local_address),
    "DOWNSTREAM_REMOTE_ADDRESS": lambda info: info.downstream_remote_address or None,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda info: host_of(info.downstream_remote_address),
    "DOWNSTREAM_REMOTE_PORT": lambda info: port_of(info.downstream_remote_address),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": lambda info: info.connection.remote_address or None,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": (
        lambda info: host_of(info.connection.remote_address)
    ),
    "DOWNSTREAM_DIRECT_REMOTE_PORT": lambda info: port_of(info.connection.remote_address),
    "REQUESTED_SERVER_NAME": lambda info: info.connection.requested_server_name or None,
    "ROUTE_NAME": lambda info: info.route_name or None,
    "VIRTUAL_HOST_NAME": lambda info: info.virtual_host or None,
    "CONNECTION_ID": lambda info: info.connection.id,
    "STREAM_ID": lambda info: text_of(info.request_id) or None,
    "DOWNSTREAM_TLS_VERSION": lambda info: info.connection.tls_version or None,
    "DOWNSTREAM_TLS_CIPHER": lambda info: info.connection.tls_cipher or None,
    "DOWNSTREAM_PEER_SUBJECT": certificate_operator(peer, lambda found: found.subject),
    "DOWNSTREAM_PEER_ISSUER": certificate_operator(peer, lambda found: found.issuer),
    "DOWNSTREAM_PEER_SERIAL": certificate_operator(peer, lambda found: found.serial),
    "DOWNSTREAM_PEER_FINGERPRINT_256": certificate_operator(peer, lambda found: found.sha256),
    "DOWNSTREAM_PEER_URI_SAN": certificate_operator(peer, lambda found: ",".join(found.uri_sans)),
    "DOWNSTREAM_PEER_DNS_SAN": certificate_operator(peer, lambda found: ",".join(found.dns_sans)),
    "DOWNSTREAM_PEER_CERT": certificate_operator(peer, lambda found: found.pem),
    "DOWNSTREAM_LOCAL_SUBJECT": certificate_operator(
        lambda info: info.connection.local_certificate, lambda found: found.subject
    ),
    "DOWNSTREAM_LOCAL_URI_SAN": certificate_operator(
        lambda info: info.connection.local_certificate, lambda found: ",".join(found.uri_sans)
    ),
}

METADATA: dict[str, Callable[[StreamInfo], Mapping[str, Mapping[str, object]] | None]] = {
    "ROUTE": lambda info: info.route_metadata,
    "CLUSTER": lambda info: info.upstream_cluster_metadata,
    "UPSTREAM_HOST": lambda info: info.upstream_host_metadata,
}


def metadata_operator(source: str, argument: str, spelled: str) -> Operator:
    read = METADATA.get(source)
    if read is None:
        raise ConfigError("unknown source of metadata", found=spelled, allowed=", ".join(METADATA))
    path = argument.split(":")
    return lambda info: metadata_value(read(info), path)


def operator(name: str, argument: str | None, spelled: str) -> Operator:
    """Return the function behind `%NAME(ARGUMENT)%`.

    Raises:
        ConfigError: an operator that is not known.
    """
    if argument is None or name == "START_TIME":
        if name == "START_TIME":
            return start_time_in(argument) if argument else start_time
        if name in SIMPLE:
            return SIMPLE[name]
    elif name == "REQ":
        return header_operator(request_header, argument)
    elif name == "RESP":
        return header_operator(response_header, argument)
    elif name == "TRAILER":
        return header_operator(trailer, argument)
    elif name == "METADATA":
        source, _, rest = argument.partition(":")
        return metadata_operator(source, rest, spelled)
    elif name in ("CLUSTER_METADATA", "UPSTREAM_METADATA"):
        source = "CLUSTER" if name == "CLUSTER_METADATA" else "UPSTREAM_HOST"
        return metadata_operator(source, argument, spelled)
    raise ConfigError("unknown operator in a format", found=spelled)


def cut(value: Operator, length: int) -> Operator:
    def render(info: StreamInfo) -> Value:
        found = value(info)
        return found[:length] if isinstance(found, str) else found

    return render


def parse(text: str) -> list[str | Operator]:
    """Return the parts of a format: literal text, and operators as functions.

    Raises:
        ConfigError: an operator that is not known, a lone `%`.
    """
    parts: list[str | Operator] = []
    at = 0
    for match in _OPERATOR.finditer(text):
        parts.append(text[at : match.start()])
        at = match.end()
        if match[0] == "%%":
            parts.append("%")
            continue
        found = operator(match[1], match[2], match[0])
        parts.append(cut(found, int(match[3])) if match[3] else found)
    parts.append(text[at:])
    for part in parts:
        if isinstance(part, str) and part != "%" and "%" in part:
            raise ConfigError("lone % in a format; %% is a percent sign", found=text)
    return [part for part in parts if part != ""]


def compile_text(text: str, *, empty: str = "-") -> Callable[[StreamInfo], str]:
    """Return the format as one function; `empty` stands for what is not known."""
    parts = parse(text)
    if not any(callable(part) for part in parts):
        constant = "".join(part for part in parts if isinstance(part, str))
        return lambda info: constant
    template = "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in parts)
    operators = [part for part in parts if not isinstance(part, str)]

    def render(info: StreamInfo) -> str:
        return template % tuple(
            [empty if (value := read(info)) is None else value for read in operators]
        )

    return render

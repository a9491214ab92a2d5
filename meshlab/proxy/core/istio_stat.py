"""Istio's standard metrics (`istio_requests_total` and so on) with their 25 labels."""

from collections.abc import Mapping

from meshlab.proxy.core.http_connection_manager import IstioStats
from meshlab.proxy.core.metadata_exchange import from_endpoint, from_metadata, spiffe_namespace
from meshlab.proxy.core.snapshot import Node
from meshlab.proxy.core.stat import Counter, Histogram, Labels, StatRegistry
from meshlab.proxy.core.stream_info import (
    PeerCertificate,
    PeerMetadata,
    StreamInfo,
    flag_names,
)

UNKNOWN = "unknown"
NOBODY = PeerMetadata()


def principal(certificate: PeerCertificate | None) -> str:
    return certificate.uri_sans[0] if certificate and certificate.uri_sans else UNKNOWN


def workload_labels(side: str, peer: PeerMetadata, namespace: str, identity: str) -> Labels:
    """Return the eight labels of one end, `side` being source or destination."""
    return (
        (f"{side}_workload", peer.workload or UNKNOWN),
        (f"{side}_workload_namespace", namespace or peer.namespace or UNKNOWN),
        (f"{side}_principal", identity),
        (f"{side}_app", peer.app or UNKNOWN),
        (f"{side}_version", peer.version or UNKNOWN),
        (f"{side}_canonical_service", peer.canonical_service or UNKNOWN),
        (f"{side}_canonical_revision", peer.canonical_revision or "latest"),
        (f"{side}_cluster", peer.cluster or UNKNOWN),
    )


def destination_service(
    info: StreamInfo, *, host_fallback: bool, namespace: str
) -> tuple[str, str, str]:
    """Return (host, name, namespace) of the service that was called."""
    metadata = info.upstream_cluster_metadata
    services = metadata.get("istio", {}).get("services") if metadata else None
    if isinstance(services, list | tuple) and services and isinstance(services[0], Mapping):
        found = services[0]
        return (
            str(found.get("host") or UNKNOWN),
            str(found.get("name") or UNKNOWN),
            str(found.get("namespace") or UNKNOWN),
        )
    host = UNKNOWN
    if host_fallback and info.authority:
        host = info.authority.decode("latin-1").lower()
    name = host
    if info.virtual_host == "block_all" or info.upstream_cluster == "BlackHoleCluster":
        name = "BlackHoleCluster"
    elif info.virtual_host == "allow_any" or info.upstream_cluster == "PassthroughCluster":
        name = "PassthroughCluster"
    return host, name, namespace or UNKNOWN


class _RequestStats:
    """The four objects that one set of labels counts in."""

    __slots__ = ("duration", "request_bytes", "response_bytes", "total")

    def __init__(self, registry: StatRegistry, labels: Labels) -> None:
        self.total: Counter = registry.counter("istio_requests_total", labels)
        self.duration: Histogram = registry.histogram("istio_request_duration_milliseconds", labels)
        self.request_bytes: Histogram = registry.histogram("istio_request_bytes", labels)
        self.response_bytes: Histogram = registry.histogram("istio_response_bytes", labels)


class TcpStats:
    """The four counters of TCP for one set of labels."""

    __slots__ = ("closed", "opened", "received", "sent")

    def __init__(self, registry: StatRegistry, labels: Labels) -> None:
        self.opened: Counter = registry.counter("istio_tcp_connections_opened_total", labels)
        self.closed: Counter = registry.counter("istio_tcp_connections_closed_total", labels)
        self.received: Counter = registry.counter("istio_tcp_received_bytes_total", labels)
        self.sent: Counter = registry.counter("istio_tcp_sent_bytes_total", labels)


class IstioReporter:
    """One `istio.stats` filter: from a finished stream to its counters, by one look-up."""

    __slots__ = ("_by_key", "_config", "_own", "_own_namespace", "_registry")

    def __init__(self, config: IstioStats, node: Node, registry: StatRegistry) -> None:
        self._config = config
        self._registry = registry
        self._own = from_metadata(node.metadata, node.id)
        self._own_namespace = self._own.namespace
        self._by_key: dict[object, _RequestStats] = {}

    def record_request(self, info: StreamInfo) -> None:
        connection = info.connection
        host_metadata = info.upstream_host_metadata
        # Objects that live as long as configuration and connections stand for their contents.
        key = (
            info.response_code,
            info.flags,
            info.upstream_cluster,
            info.virtual_host,
            info.authority if info.upstream_cluster_metadata is None else b"",
            info.downstream_peer,
            info.upstream_peer,
            info.downstream_peer is None and host_metadata is not None and workload_of(info),
            principal(connection.peer_certificate),
            principal(info.upstream_certificate),
            is_grpc(info),
        )
        stats = self._by_key.get(key)
        if stats is None:
            stats = self._by_key[key] = _RequestStats(self._registry, self.request_labels(info))
        stats.total.value += 1
        stats.duration.record(int((info.end - info.start) * 1000))
        stats.request_bytes.record(info.request_headers_bytes + info.bytes_received)
        stats.response_bytes.record(info.response_headers_bytes + info.bytes_sent)

    def request_labels(self, info: StreamInfo) -> Labels:
        """Return all labels of `istio_requests_total`, in Istio's order."""
        grpc = is_grpc(info)
        return (
            *self.connection_labels(info, "grpc" if grpc else "http"),
            ("response_code", str(info.response_code)),
            ("grpc_response_status", grpc_status(info) if grpc else ""),
            ("response_flags", flag_names(info.flags)),
            ("connection_security_policy", self._security(info)),
        )

    def tcp(self, info: StreamInfo) -> TcpStats:
        labels = (
            *self.connection_labels(info, "tcp"),
            ("response_flags", flag_names(info.flags)),
            ("connection_security_policy", self._security(info)),
        )
        return TcpStats(self._registry, labels)

    def _security(self, info: StreamInfo) -> str:
        if self._config.reporter == "source":
            return UNKNOWN
        both = info.connection.peer_certificate and info.connection.local_certificate
        return "mutual_tls" if both else "none"

    def connection_labels(self, info: StreamInfo, protocol: str) -> Labels:
        connection = info.connection
        if self._config.reporter == "source":
            peer = info.upstream_peer or endpoint_peer(info) or NOBODY
            peer_namespace = spiffe_namespace(info.upstream_certificate) or peer.namespace
            source = workload_labels(
                "source",
                self._own,
                self._own_namespace,
                principal(info.upstream_own_certificate),
            )
            destination = workload_labels(
                "destination", peer, peer_namespace, principal(info.upstream_certificate)
            )
            service_namespace = peer_namespace
        else:
            peer = info.downstream_peer or NOBODY
            peer_namespace = spiffe_namespace(connection.peer_certificate) or peer.namespace
            source = workload_labels(
                "source", peer, peer_namespace, principal(connection.peer_certificate)
            )
            destination = workload_labels(
                "destination",
                self._own,
                self._own_namespace,
                principal(connection.local_certificate) if connection.peer_certificate else UNKNOWN,
            )
            service_namespace = self._own_namespace
        host, name, namespace = destination_service(
            info,
            host_fallback=(
                self._config.reporter == "source" and not self._config.disable_host_header_fallback
            ),
            namespace=service_namespace,
        )
        return (
            ("reporter", self._config.reporter),
            *source,
            *destination,
            ("destination_service", host),
            ("destination_service_name", name),
            ("destination_service_namespace", namespace),
            ("request_protocol", protocol),
        )


def workload_of(info: StreamInfo) -> str:
    metadata = info.upstream_host_metadata
    found = metadata.get("istio", {}).get("workload") if metadata else None
    return found if isinstance(found, str) else ""


def endpoint_peer(info: StreamInfo) -> PeerMetadata | None:
    workload = workload_of(info)
    return from_endpoint(workload) if workload else None


def is_grpc(info: StreamInfo) -> bool:
    headers = info.request_headers
    if headers is None or b"content-type" not in headers.names:
        return False
    return (headers.get(b"content-type") or b"").startswith(b"application/grpc")


def grpc_status(info: StreamInfo) -> str:
    for headers in (info.response_trailers, info.response_headers):
        value = headers.get(b"grpc-status") if headers is not None else None
        if value is not None:
            return value.decode("latin-1")
    return ""

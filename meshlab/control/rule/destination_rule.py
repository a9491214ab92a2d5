"""What is wrong with a DestinationRule, as Istio's admission judges it."""

from meshlab.api.field import Problems, child, item
from meshlab.api.istio.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    HTTPSettings,
    OutlierDetection,
    PortTrafficPolicy,
    TCPSettings,
    TrafficPolicy,
)
from meshlab.control.rule import check


def check_destination_rule(problems: Problems, spec: DestinationRule) -> None:
    check.host(problems, "spec.host", spec.host)
    check.export_to(problems, "spec.exportTo", spec.export_to)
    if spec.traffic_policy is not None:
        _check_policy(problems, "spec.trafficPolicy", spec.traffic_policy)
    check.unique(problems, "spec.subsets", [subset.name for subset in spec.subsets])
    for i, subset in enumerate(spec.subsets):
        place = item("spec.subsets", i)
        check.label(problems, child(place, "name"), subset.name)
        check.labels(problems, child(place, "labels"), subset.labels.items())
        if subset.traffic_policy is not None:
            _check_policy(problems, child(place, "trafficPolicy"), subset.traffic_policy)


def _check_policy(problems: Problems, path: str, policy: TrafficPolicy) -> None:
    _check_blocks(problems, path, policy)
    numbers = []
    for i, each in enumerate(policy.port_level_settings):
        place = item(child(path, "portLevelSettings"), i)
        if each.port is None or not each.port.number:
            problems.refuse(child(place, "port.number"), "is missing", "nothing", "1 to 65535")
        else:
            check.port(problems, child(place, "port.number"), each.port.number)
            numbers.append(each.port.number)
        _check_blocks(problems, place, each)
    check.unique(problems, child(path, "portLevelSettings"), numbers)


def _check_blocks(problems: Problems, path: str, policy: TrafficPolicy | PortTrafficPolicy) -> None:
    if policy.connection_pool is not None:
        _check_pool(problems, child(path, "connectionPool"), policy.connection_pool)
    if policy.outlier_detection is not None:
        _check_outlier(problems, child(path, "outlierDetection"), policy.outlier_detection)
    if policy.tls is not None:
        _check_tls(problems, child(path, "tls"), policy.tls)


def _check_pool(problems: Problems, path: str, pool: ConnectionPoolSettings) -> None:
    if pool.tcp is None and pool.http is None:
        problems.refuse(path, "limits nothing", "nothing", "tcp or http")
    if pool.tcp is not None:
        _check_tcp(problems, child(path, "tcp"), pool.tcp)
    if pool.http is not None:
        _check_http(problems, child(path, "http"), pool.http)


def _check_tcp(problems: Problems, path: str, tcp: TCPSettings) -> None:
    check.not_negative(problems, child(path, "maxConnections"), tcp.max_connections)
    check.duration(problems, child(path, "connectTimeout"), tcp.connect_timeout)
    check.duration(problems, child(path, "maxConnectionDuration"), tcp.max_connection_duration)
    if tcp.tcp_keepalive is not None:
        check.duration(problems, child(path, "tcpKeepalive.time"), tcp.tcp_keepalive.time)
        check.duration(problems, child(path, "tcpKeepalive.interval"), tcp.tcp_keepalive.interval)


def _check_http(problems: Problems, path: str, http: HTTPSettings) -> None:
    for name, value in (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
    ):
        check.not_negative(problems, child(path, name), value)
    check.duration(problems, child(path, "idleTimeout"), http.idle_timeout)


def _check_outlier(problems: Problems, path: str, outlier: OutlierDetection) -> None:
    check.duration(problems, child(path, "interval"), outlier.interval)
    check.duration(problems, child(path, "baseEjectionTime"), outlier.base_ejection_time)
    check.percent(problems, child(path, "maxEjectionPercent"), outlier.max_ejection_percent)
    check.percent(problems, child(path, "minHealthPercent"), outlier.min_health_percent)
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        problems.refuse(
            child(path, "consecutiveLocalOriginFailures"),
            "counts only where local errors are told apart",
            outlier.consecutive_local_origin_failures,
            "",
            "Set splitExternalLocalOriginErrors: true",
        )


def _check_tls(problems: Problems, path: str, tls: ClientTLSSettings) -> None:
    files = {
        "clientCertificate": tls.client_certificate,
        "privateKey": tls.private_key,
        "caCertificates": tls.ca_certificates,
    }
    if tls.mode == "MUTUAL" and not tls.credential_name:
        for name in ("clientCertificate", "privateKey"):
            if not files[name]:
                problems.refuse(
                    child(path, name), "is missing", "nothing", "a file of the proxy's container"
                )
    if tls.mode == "ISTIO_MUTUAL":
        for name, value in files.items():
            if value:
                problems.refuse(
                    child(path, name),
                    "has no meaning with ISTIO_MUTUAL, which uses the mesh's own certificates",
                    value,
                    "",
                    "Remove it, or use mode MUTUAL",
                )

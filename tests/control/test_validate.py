"""Admission: what is refused, by which path, and what is taken."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from meshlab.api.registry import documents, supports
from meshlab.control.validate import validate

MANIFESTS = Path(__file__).parents[2] / "labs" / "manifests"
EVERYTHING = Path(__file__).parents[1] / "fixtures" / "everything.yaml"

GROUPS = {"PeerAuthentication": "security.istio.io"}


def refused(kind: str, spec: str) -> list[tuple[str, str]]:
    """Return path and sentence of each problem of an object."""
    document = {
        "apiVersion": f"{GROUPS.get(kind, 'networking.istio.io')}/v1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": yaml.safe_load(spec),
    }
    errors = validate(document)
    assert {each.object for each in errors} <= {f"{kind} shop/x"}
    return [(each.field, each.what) for each in errors]


def paths(kind: str, spec: str) -> list[str]:
    return [path for path, _ in refused(kind, spec)]


def test_manifests_are_taken() -> None:
    checked = 0
    for path in [EVERYTHING, *sorted(MANIFESTS.rglob("*.yaml"))]:
        for document in documents(path.read_text()):
            assert [str(each) for each in validate(document)] == [], path
            checked += supports(document)
    assert checked > 10


def test_other_kinds_are_none_of_our_business() -> None:
    assert validate({"apiVersion": "v1", "kind": "Service", "spec": {"ports": "?"}}) == []


TO = "route: [{destination: {host: a}}]"


def rule(fields: str) -> str:
    return f"{{hosts: [a], http: [{{{fields}}}]}}"


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        pytest.param("{}", ["spec.hosts", "spec"], id="empty"),
        pytest.param(f"{{hosts: [a, a], http: [{{{TO}}}]}}", ["spec.hosts[1]"], id="twice"),
        pytest.param(f"{{hosts: ['*'], http: [{{{TO}}}]}}", ["spec.hosts[0]"], id="* on the mesh"),
        pytest.param(f"{{hosts: ['*'], gateways: [g], http: [{{{TO}}}]}}", [], id="* on a gateway"),
        pytest.param(
            f"{{hosts: [a], gateways: [ns/], http: [{{{TO}}}]}}", ["spec.gateways[0]"], id="gateway"
        ),
        pytest.param(rule("name: n"), ["spec.http[0]"], id="does nothing"),
        pytest.param(rule(f"{TO}, redirect: {{uri: /b}}"), ["spec.http[0]"], id="does two things"),
        pytest.param(
            rule("redirect: {uri: /b}, rewrite: {uri: /c}, fault: {abort: {httpStatus: 500}}"),
            ["spec.http[0].rewrite", "spec.http[0].fault"],
            id="redirect with rewrite and fault",
        ),
        pytest.param(rule("redirect: {}"), ["spec.http[0].redirect"], id="redirect to nowhere"),
        pytest.param(
            rule("redirect: {uri: /b, redirectCode: 304}"),
            ["spec.http[0].redirect.redirectCode"],
            id="no redirect code",
        ),
        pytest.param(
            rule("redirect: {scheme: ftp}"), ["spec.http[0].redirect.scheme"], id="scheme"
        ),
        pytest.param(
            rule("directResponse: {status: 99}"),
            ["spec.http[0].directResponse.status"],
            id="status",
        ),
        pytest.param(rule(f"{TO}, rewrite: {{}}"), ["spec.http[0].rewrite"], id="rewrites nothing"),
        pytest.param(
            rule(f"{TO}, rewrite: {{uriRegexRewrite: {{match: '(', rewrite: ''}}}}"),
            [
                "spec.http[0].rewrite.uriRegexRewrite.match",
                "spec.http[0].rewrite.uriRegexRewrite.rewrite",
            ],
            id="regex rewrite",
        ),
        pytest.param(
            rule(
                "route: [{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: 1}]"
            ),
            ["spec.http[0].route[0].weight", "spec.http[0].route"],
            id="negative weight",
        ),
        pytest.param(
            rule("route: [{destination: {host: a}}, {destination: {host: b}}]"),
            ["spec.http[0].route"],
            id="no weight at all",
        ),
        pytest.param(
            rule(
                "route: [{destination: {host: a}, weight: 75}, {destination: {host: b}, weight: 1}]"
            ),
            [],
            id="weights are relative",
        ),
        pytest.param(
            rule("route: [{destination: {host: 'http://a', subset: V_1, port: {number: 70000}}}]"),
            [
                "spec.http[0].route[0].destination.host",
                "spec.http[0].route[0].destination.subset",
                "spec.http[0].route[0].destination.port.number",
            ],
            id="destination",
        ),
        pytest.param(rule(f"{TO}, timeout: 0s"), [], id="time-out off"),
        pytest.param(rule(f"{TO}, timeout: 100us"), ["spec.http[0].timeout"], id="too short"),
        pytest.param(rule(f"{TO}, timeout: 5"), ["spec.http[0].timeout"], id="no unit"),
        pytest.param(rule(f"{TO}, retries: {{attempts: 0}}"), [], id="retries off"),
        pytest.param(
            rule(f"{TO}, retries: {{retryOn: 5xx}}"),
            ["spec.http[0].retries.attempts"],
            id="policy of no retries",
        ),
        pytest.param(
            rule(
                f"{TO}, retries: {{attempts: -1, perTryTimeout: 0s, retryOn: 'gateway-eror,503'}}"
            ),
            [
                "spec.http[0].retries.attempts",
                "spec.http[0].retries.perTryTimeout",
                "spec.http[0].retries.retryOn",
            ],
            id="retries",
        ),
        pytest.param(
            rule(
                f"{TO}, fault: {{delay: {{percentage: {{value: 101}}}}, "
                "abort: {httpStatus: 700}}"
            ),
            [
                "spec.http[0].fault.delay.percentage.value",
                "spec.http[0].fault.delay",
                "spec.http[0].fault.abort.httpStatus",
            ],
            id="fault",
        ),
        pytest.param(
            rule(f"{TO}, fault: {{abort: {{grpcStatus: GONE}}}}"),
            ["spec.http[0].fault.abort.grpcStatus"],
            id="gRPC status",
        ),
        pytest.param(
            rule(
                f"{TO}, match: [{{uri: {{prefix: ''}}, method: {{regex: '(?=a)'}}, port: 70000, "
                "headers: {'a b': {exact: c}, '@request.auth.claims.x': {exact: y}}, "
                "sourceLabels: {a: '*'}, gateways: ['/g']}]"
            ),
            [
                "spec.http[0].match[0].uri.prefix",
                "spec.http[0].match[0].method.regex",
                "spec.http[0].match[0].headers[a b]",
                "spec.http[0].match[0].headers[@request.auth.claims.x]",
                "spec.http[0].match[0].port",
                "spec.http[0].match[0].sourceLabels.a",
                "spec.http[0].match[0].gateways[0]",
            ],
            id="match",
        ),
        pytest.param(
            rule(f"{TO}, match: [{{uri: {{exact: /a, prefix: /b}}}}]"),
            ["spec.http[0].match[0].uri"],
            id="exclusive fields",
        ),
        pytest.param(
            rule(f"{TO}, headers: {{request: {{set: {{'a b': c, ':authority': x}}}}}}"),
            ["spec.http[0].headers.request.set[a b]"],
            id="header names",
        ),
        pytest.param(
            rule(f"{TO}, match: [{{headers: {{Foo: {{exact: bar}}}}}}]"),
            [],
            id="a header's name in any case",
        ),
    ],
)
def test_virtual_service(spec: str, where: list[str]) -> None:
    assert paths("VirtualService", spec) == where


NOT_YET = "is not supported yet"


def policy(blocks: str) -> str:
    return f"{{host: a, trafficPolicy: {{{blocks}}}}}"


@pytest.mark.parametrize(
    ("kind", "spec", "where"),
    [
        (
            "VirtualService",
            rule(
                f"{TO}, mirror: {{host: b}}, mirrorPercentage: {{value: 1}}, "
                "corsPolicy: {allowMethods: [GET]}"
            ),
            ["spec.http[0].mirror", "spec.http[0].mirrorPercentage", "spec.http[0].corsPolicy"],
        ),
        (
            "VirtualService",
            rule(f"{TO}, mirrors: [{{destination: {{host: b}}}}]"),
            ["spec.http[0].mirrors"],
        ),
        ("VirtualService", rule("delegate: {name: d}"), ["spec.http[0].delegate"]),
        (
            "VirtualService",
            "{hosts: [a], tcp: [{route: [{destination: {host: a}}]}], "
            "tls: [{match: [{sniHosts: [a]}], route: [{destination: {host: a}}]}]}",
            ["spec.tls", "spec.tcp"],
        ),
        (
            "DestinationRule",
            "{host: a, workloadSelector: {matchLabels: {a: b}}, "
            "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}",
            ["spec.workloadSelector", "spec.trafficPolicy.loadBalancer.consistentHash"],
        ),
        (
            "DestinationRule",
            "{host: a, subsets: [{name: s, "
            "trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}]}",
            ["spec.subsets[0].trafficPolicy.connectionPool.http.h2UpgradePolicy"],
        ),
        (
            "DestinationRule",
            policy(
                "portLevelSettings: [{port: {number: 1}, tls: {mode: SIMPLE, credentialName: c}}]"
            ),
            ["spec.trafficPolicy.portLevelSettings[0].tls.credentialName"],
        ),
        (
            "Gateway",
            "{servers: [{port: {number: 443, name: s, protocol: HTTPS}, hosts: ['*'], "
            "tls: {mode: SIMPLE, credentialName: c}}]}",
            ["spec.servers[0].tls", "spec.servers[0].port.protocol"],
        ),
    ],
)
def test_not_supported_yet(kind: str, spec: str, where: list[str]) -> None:
    assert refused(kind, spec) == [(path, NOT_YET) for path in where]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (
            "VirtualService",
            rule(f"{TO}, mirrors: [], retries: {{attempts: 1, retryRemoteLocalities: false}}"),
        ),
        (
            "DestinationRule",
            policy("connectionPool: {http: {useClientProtocol: false, h2UpgradePolicy: DEFAULT}}"),
        ),
    ],
)
def test_saying_nothing_is_supported(kind: str, spec: str) -> None:
    assert refused(kind, spec) == []


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        pytest.param("{}", ["spec.host"], id="no host"),
        pytest.param(
            "{host: a, subsets: [{name: V1}, {name: b}, {name: b}]}",
            ["spec.subsets[2]", "spec.subsets[0].name"],
            id="subset names",
        ),
        pytest.param(
            policy("connectionPool: {}"),
            ["spec.trafficPolicy.connectionPool"],
            id="empty pool",
        ),
        pytest.param(
            policy(
                "connectionPool: {tcp: {maxConnections: -1, connectTimeout: 0s}, "
                "http: {maxRetries: -1, idleTimeout: 1us}}"
            ),
            [
                "spec.trafficPolicy.connectionPool.tcp.maxConnections",
                "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
                "spec.trafficPolicy.connectionPool.http.maxRetries",
                "spec.trafficPolicy.connectionPool.http.idleTimeout",
            ],
            id="pool",
        ),
        pytest.param(
            policy(
                "outlierDetection: {interval: 0s, maxEjectionPercent: 101, "
                "consecutiveLocalOriginFailures: 3}"
            ),
            [
                "spec.trafficPolicy.outlierDetection.interval",
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
            ],
            id="outlier detection",
        ),
        pytest.param(
            policy("tls: {mode: MUTUAL}"),
            ["spec.trafficPolicy.tls.clientCertificate", "spec.trafficPolicy.tls.privateKey"],
            id="MUTUAL without files",
        ),
        pytest.param(
            policy("tls: {mode: ISTIO_MUTUAL, privateKey: /k}"),
            ["spec.trafficPolicy.tls.privateKey"],
            id="ISTIO_MUTUAL with files",
        ),
        pytest.param(
            policy("loadBalancer: {simple: FASTEST}"),
            ["spec.trafficPolicy.loadBalancer.simple"],
            id="load balancer",
        ),
        pytest.param(
            policy("portLevelSettings: [{}, {port: {number: 1}}, {port: {number: 1}}]"),
            [
                "spec.trafficPolicy.portLevelSettings[0].port.number",
                "spec.trafficPolicy.portLevelSettings[1]",
            ],
            id="ports",
        ),
    ],
)
def test_destination_rule(spec: str, where: list[str]) -> None:
    assert paths("DestinationRule", spec) == where


def server(fields: str) -> str:
    return f"{{servers: [{{{fields}}}]}}"


HTTP = "port: {number: 80, name: http, protocol: HTTP}"


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        pytest.param("{}", ["spec.servers"], id="no server"),
        pytest.param(server(f"{HTTP}, hosts: ['*', ns/*.test, ./a, '*/b']"), [], id="hosts"),
        pytest.param(server(f"{HTTP}, hosts: []"), ["spec.servers[0].hosts"], id="no hosts"),
        pytest.param(
            server(f"{HTTP}, hosts: [NS/a, 'a:80']"),
            ["spec.servers[0].hosts[0]", "spec.servers[0].hosts[1]"],
            id="no hosts' names",
        ),
        pytest.param(
            server("port: {number: 0, name: '', protocol: SPDY}, hosts: [a], bind: here"),
            [
                "spec.servers[0].port.number",
                "spec.servers[0].port.name",
                "spec.servers[0].port.protocol",
                "spec.servers[0].bind",
            ],
            id="port",
        ),
        pytest.param(
            f"{{servers: [{{{HTTP}, hosts: [a]}}, {{{HTTP}, hosts: [b]}}]}}",
            ["spec.servers[1].port.name"],
            id="names are unique",
        ),
    ],
)
def test_gateway(spec: str, where: list[str]) -> None:
    assert paths("Gateway", spec) == where


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        pytest.param("{}", [], id="empty"),
        pytest.param("{mtls: {mode: STRICT}}", [], id="mode"),
        pytest.param("{mtls: {mode: HARD}}", ["spec.mtls.mode"], id="no mode"),
        pytest.param(
            "{portLevelMtls: {80: {mode: STRICT}}}", ["spec.portLevelMtls"], id="needs a selector"
        ),
        pytest.param(
            "{selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}",
            ["spec.portLevelMtls[http]"],
            id="ports are numbers",
        ),
    ],
)
def test_peer_authentication(spec: str, where: list[str]) -> None:
    assert paths("PeerAuthentication", spec) == where


def test_an_error_says_how_to_go_on() -> None:
    spec: dict[str, Any] = {
        "hosts": ["a"],
        "http": [{"route": [{"destination": {"host": "a:80"}}]}],
    }
    (error,) = validate(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "x", "namespace": "shop"},
            "spec": spec,
        }
    )
    assert str(error) == (
        "VirtualService shop/x: spec.http[0].route[0].destination.host: is not a host name "
        "(found a:80; allowed: such as reviews or www.example.com). Leave out the port"
    )

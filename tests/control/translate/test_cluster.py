"""Outbound clusters: which DestinationRule and policy hold, TLS, endpoints."""

from typing import Any

import pytest
from fixtures.world import sidecar, world
from fixtures.xds import plain

from meshlab.control.snapshot import World
from meshlab.control.translate.resources import CLUSTER, ENDPOINT, resources

WORLD = """
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90}]
---
kind: Service
metadata: {name: pods, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: tcp, port: 7000}]}
---
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web, version: v1, security.istio.io/tlsMode: istio}}
    spec: {serviceAccountName: web, containers: [{name: app}]}
---
kind: Deployment
metadata: {name: client, namespace: client}
spec:
  template:
    metadata: {labels: {app: client}}
    spec: {containers: [{name: app}]}
"""
HTTP = "outbound|80||web.shop.svc.cluster.local"
TCP = "outbound|90||web.shop.svc.cluster.local"
V1 = "outbound|80|v1|web.shop.svc.cluster.local"
PODS = "outbound|7000||pods.shop.svc.cluster.local"
HOST = "web.shop.svc.cluster.local"


def rule(spec: str, *, namespace: str = "shop", name: str = "web", created: str = "") -> str:
    meta = f"name: {name}, namespace: {namespace}, creationTimestamp: '{created}'"
    kind = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
    return f"{kind}metadata: {{{meta}}}\nspec: {spec}\n"


def clusters(snapshot: World, workload: str = "client", *extensions: str) -> dict[str, Any]:
    made = resources(snapshot, sidecar(snapshot, workload, extensions=extensions))
    return {name: plain(each.message) for name, each in made[CLUSTER].items()}


def lb(simple: str) -> str:
    return f"trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}"


@pytest.mark.parametrize(
    ("rules", "policy"),
    [
        pytest.param([], "LEAST_REQUEST", id="none"),
        pytest.param([rule(f"{{host: web, {lb('RANDOM')}}}")], "RANDOM", id="the service's"),
        pytest.param(
            [
                rule(f"{{host: web, {lb('RANDOM')}}}"),
                rule(f"{{host: {HOST}, {lb('ROUND_ROBIN')}}}", namespace="client"),
            ],
            "ROUND_ROBIN",
            id="the client's namespace first",
        ),
        pytest.param(
            [rule(f"{{host: '*.cluster.local', {lb('RANDOM')}}}", namespace="istio-system")],
            "RANDOM",
            id="the root namespace last",
        ),
        pytest.param(
            [rule(f"{{host: web, {lb('RANDOM')}, exportTo: [.]}}")],
            "LEAST_REQUEST",
            id="not exported",
        ),
        pytest.param(
            [
                rule(f"{{host: '*.shop.svc.cluster.local', {lb('RANDOM')}}}", name="a"),
                rule(f"{{host: web, {lb('ROUND_ROBIN')}}}", name="b"),
            ],
            "ROUND_ROBIN",
            id="the more specific host",
        ),
        pytest.param(
            [
                rule(f"{{host: web, {lb('RANDOM')}}}", name="a", created="2"),
                rule(f"{{host: web, {lb('ROUND_ROBIN')}}}", name="b", created="1"),
            ],
            "ROUND_ROBIN",
            id="the older policy of two",
        ),
        pytest.param([rule(f"{{host: web, {lb('LEAST_CONN')}}}")], "LEAST_REQUEST", id="old name"),
    ],
)
def test_which_rule_holds(rules: list[str], policy: str) -> None:
    made = clusters(world(WORLD, *rules))[HTTP]
    assert made.get("lb_policy", "ROUND_ROBIN") == policy  # what JSON leaves out is ROUND_ROBIN


def test_subsets_of_two_rules_merge() -> None:
    snapshot = world(
        WORLD,
        rule("{host: web, subsets: [{name: v1, labels: {version: v1}}]}", name="a"),
        rule("{host: web, subsets: [{name: v2, labels: {version: v2}}]}", name="b"),
    )
    made = resources(snapshot, sidecar(snapshot, "client"))[ENDPOINT]
    v2 = V1.replace("v1", "v2")
    assert {name: "endpoints" in plain(made[name].message) for name in (HTTP, V1, v2)} == {
        HTTP: True,
        V1: True,
        v2: False,
    }


def test_ports_replace_and_subsets_overlay() -> None:
    spec = """
    host: web
    trafficPolicy:
      loadBalancer: {simple: RANDOM}
      connectionPool: {tcp: {maxConnections: 7}}
      portLevelSettings: [{port: {number: 90}, loadBalancer: {simple: ROUND_ROBIN}}]
    subsets:
    - {name: v1, labels: {version: v1}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
    """.replace("\n    ", "\n  ")
    made = clusters(world(WORLD, rule(spec)))

    def told(name: str) -> tuple[str, int]:
        (thresholds,) = made[name]["circuit_breakers"]["thresholds"]
        return made[name].get("lb_policy", "ROUND_ROBIN"), thresholds["max_connections"]

    assert told(HTTP) == ("RANDOM", 7)
    assert told(TCP) == ("ROUND_ROBIN", 4294967295)
    assert told(V1) == ("RANDOM", 3)
    assert told(V1.replace("|80|", "|90|")) == ("ROUND_ROBIN", 3)


def test_passthrough_goes_where_the_client_dialled() -> None:
    snapshot = world(WORLD, rule(f"{{host: web, {lb('PASSTHROUGH')}}}"))
    made = clusters(snapshot)[HTTP]
    assert (made["type"], made["lb_policy"]) == ("ORIGINAL_DST", "CLUSTER_PROVIDED")
    assert HTTP not in resources(snapshot, sidecar(snapshot, "client"))[ENDPOINT]


def tls(text: str) -> str:
    return rule(f"{{host: web, trafficPolicy: {{tls: {text}}}}}")


def test_a_rules_tls_replaces_the_automatic() -> None:
    made = clusters(world(WORLD, tls("{mode: DISABLE}")))[HTTP]
    assert not {"transport_socket", "transport_socket_matches"} & made.keys()


def test_istio_mutual() -> None:
    made = clusters(world(WORLD, tls("{mode: ISTIO_MUTUAL, subjectAltNames: [other.test]}")))[HTTP]
    context = made["transport_socket"]["typed_config"]
    assert context["sni"] == f"outbound_.80_._.{HOST}"
    validation = context["common_tls_context"]["combined_validation_context"]
    assert validation["default_validation_context"] == {
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "other.test"}}]
    }


VERSIONS = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}


@pytest.mark.parametrize(
    ("text", "context"),
    [
        pytest.param(
            "{mode: SIMPLE, sni: a.test, subjectAltNames: [a.test]}",
            {
                "sni": "a.test",
                "common_tls_context": {
                    "tls_params": VERSIONS,
                    "validation_context": {
                        "trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": "a.test"}}
                        ],
                    },
                },
            },
            id="SIMPLE",
        ),
        pytest.param(
            "{mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a}",
            {
                "common_tls_context": {
                    "tls_params": VERSIONS,
                    "tls_certificates": [
                        {"certificate_chain": {"filename": "/c"}, "private_key": {"filename": "/k"}}
                    ],
                    "validation_context": {"trusted_ca": {"filename": "/a"}},
                }
            },
            id="MUTUAL",
        ),
        pytest.param(
            "{mode: SIMPLE, insecureSkipVerify: true}",
            {"common_tls_context": {"tls_params": VERSIONS}},
            id="not verified",
        ),
    ],
)
def test_tls_to_elsewhere(text: str, context: dict[str, Any]) -> None:
    made = clusters(world(WORLD, tls(text)))[HTTP]["transport_socket"]["typed_config"]
    made.pop("@type")
    assert made == context


def test_without_sni_the_host_header_gives_it() -> None:
    made = clusters(world(WORLD, tls("{mode: SIMPLE}")))
    options = made[HTTP]["typed_extension_protocol_options"]
    (settings,) = options.values()
    assert settings["upstream_http_protocol_options"] == {
        "auto_sni": True,
        "auto_san_validation": True,
    }
    assert "typed_extension_protocol_options" not in made[TCP]


def offered(made: dict[str, Any]) -> list[str]:
    socket = made["transport_socket_matches"][0]["transport_socket"]
    alpn: list[str] = socket["typed_config"]["common_tls_context"]["alpn_protocols"]
    return alpn


def test_what_is_offered() -> None:
    snapshot = world(WORLD)
    plain_envoy = clusters(snapshot, "client")
    ours = clusters(snapshot, "client", "istio.alpn")
    assert offered(plain_envoy[HTTP]) == ["istio-http/1.1", "istio", "http/1.1"]
    assert offered(plain_envoy[TCP]) == ["istio-peer-exchange", "istio"]
    assert offered(ours[HTTP]) == ["istio-peer-exchange", "istio"]


@pytest.mark.parametrize(
    ("manifest", "sockets", "headless"),
    [
        pytest.param("", ["tlsMode-istio", "tlsMode-disabled"], True, id="automatic"),
        pytest.param(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
            "metadata: {name: d, namespace: shop}\nspec: {mtls: {mode: DISABLE}}\n",
            [],
            False,
            id="disabled in the namespace",
        ),
    ],
)
def test_automatic_tls(manifest: str, sockets: list[str], headless: bool) -> None:
    made = clusters(world(WORLD, manifest))
    matches = made[HTTP].get("transport_socket_matches", [])
    assert [each["name"] for each in matches] == sockets
    # Nobody tells the endpoints of a headless service apart: TLS only if all have a sidecar.
    assert ("transport_socket" in made[PODS]) is headless


def test_headless_is_plain_when_one_has_no_sidecar() -> None:
    second = """
kind: Deployment
metadata: {name: bare, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app}]}
"""
    assert "transport_socket" not in clusters(world(WORLD, second))[PODS]


def test_endpoints() -> None:
    snapshot = world(WORLD)
    made = resources(snapshot, sidecar(snapshot, "client"))[ENDPOINT][HTTP]
    assert plain(made.message) == {
        "cluster_name": HTTP,
        "endpoints": [
            {
                "locality": {},
                "load_balancing_weight": 1,
                "lb_endpoints": [
                    {
                        "endpoint": {
                            "address": {
                                "socket_address": {"address": "10.244.0.10", "port_value": 8080}
                            }
                        },
                        "load_balancing_weight": 1,
                        "metadata": {
                            "filter_metadata": {
                                "envoy.transport_socket_match": {"tlsMode": "istio"},
                                "istio": {"workload": "web;shop;web;v1;Kubernetes"},
                            }
                        },
                    }
                ],
            }
        ],
    }


def test_a_port_that_takes_no_tls_says_so() -> None:
    policy = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: DISABLE}}}
"""
    snapshot = world(WORLD, policy)
    made = resources(snapshot, sidecar(snapshot, "client"))[ENDPOINT]
    facts = {}
    for name in (HTTP, TCP):
        (group,) = plain(made[name].message)["endpoints"]
        (endpoint,) = group["lb_endpoints"]
        facts[name] = "envoy.transport_socket_match" in endpoint["metadata"]["filter_metadata"]
    assert facts == {HTTP: False, TCP: True}

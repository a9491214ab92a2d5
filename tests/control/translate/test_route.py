"""Which virtual hosts a sidecar has, and which VirtualService decides for each."""

from typing import Any

import pytest
from fixtures.world import sidecar, world
from fixtures.xds import plain

from meshlab.control.snapshot import Mesh, World
from meshlab.control.translate.resources import ROUTE, resources

SERVICES = """
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
kind: Service
metadata: {name: ratings, namespace: other}
spec: {ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}
---
kind: Service
metadata: {name: pods, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
kind: Service
metadata: {name: sniffed, namespace: shop}
spec: {ports: [{port: 9000}]}
---
kind: Deployment
metadata: {name: reviews, namespace: shop}
spec:
  template:
    metadata: {labels: {app: reviews, version: v1}}
    spec: {containers: [{name: app}]}
"""


def virtual_service(name: str, spec: str, *, namespace: str = "shop", created: str = "") -> str:
    meta = f"name: {name}, namespace: {namespace}, creationTimestamp: '{created}'"
    kind = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    return f"{kind}metadata: {{{meta}}}\nspec: {spec}\n"


def routes(snapshot: World, name: str = "80", workload: str = "reviews") -> dict[str, Any]:
    """Return virtual host → itself."""
    made = resources(snapshot, sidecar(snapshot, workload))[ROUTE][name]
    return {each["name"]: each for each in plain(made.message)["virtual_hosts"]}


def clusters(host: dict[str, Any]) -> list[str]:
    return [route["route"]["cluster"] for route in host["routes"]]


def test_domains() -> None:
    made = routes(world(SERVICES))
    assert {name: host["domains"] for name, host in made.items()} == {
        "reviews.shop.svc.cluster.local:80": [
            "reviews.shop.svc.cluster.local",
            "reviews.shop.svc.cluster.local.",
            "reviews.shop.svc",
            "reviews.shop",
            "reviews",
            "10.96.0.10",
        ],
        "ratings.other.svc.cluster.local:80": [
            "ratings.other.svc.cluster.local",
            "ratings.other.svc.cluster.local.",
            "ratings.other.svc",
            "ratings.other",
            "10.96.0.11",
        ],
        "pods.shop.svc.cluster.local:80": [
            "pods.shop.svc.cluster.local",
            "pods.shop.svc.cluster.local.",
            "pods.shop.svc",
            "pods.shop",
            "pods",
            "*.pods.shop.svc.cluster.local",
            "*.pods.shop.svc.cluster.local.",
            "*.pods.shop.svc",
            "*.pods.shop",
            "*.pods",
        ],
        "allow_any": ["*"],
    }


def test_a_configuration_each_port() -> None:
    snapshot = world(SERVICES)
    made = resources(snapshot, sidecar(snapshot, "reviews"))[ROUTE]
    assert list(made) == ["80", "81", "sniffed.shop.svc.cluster.local:9000"]
    (host,) = routes(snapshot, "sniffed.shop.svc.cluster.local:9000").values()
    assert host["domains"] == ["*"]
    assert clusters(host) == ["outbound|9000||sniffed.shop.svc.cluster.local"]


def test_registry_only_blocks_unknown_hosts() -> None:
    made = routes(world(SERVICES, mesh=Mesh(outbound_traffic_policy="REGISTRY_ONLY")))
    assert made["block_all"] == {
        "name": "block_all",
        "domains": ["*"],
        "routes": [
            {"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}
        ],
        "include_request_attempt_count": True,
    }
    assert "allow_any" not in made


def to(host: str) -> str:
    return f"[{{route: [{{destination: {{host: {host}}}}}]}}]"


V1, V2 = "outbound|80||v1.shop.svc.cluster.local", "outbound|80||v2.shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("objects", "decides"),
    [
        pytest.param([], "outbound|80||reviews.shop.svc.cluster.local", id="none"),
        pytest.param(
            [virtual_service("a", f"{{hosts: [reviews], http: {to('v1')}}}")], V1, id="short host"
        ),
        pytest.param(
            [
                virtual_service("a", f"{{hosts: [reviews], http: {to('v1')}}}", created="2024-02"),
                virtual_service("b", f"{{hosts: [reviews], http: {to('v2')}}}", created="2024-01"),
            ],
            V2,
            id="the oldest owns the host",
        ),
        pytest.param(
            [
                virtual_service(
                    "a", f"{{hosts: ['*.shop.svc.cluster.local'], http: {to('v1')}}}", created="1"
                ),
                virtual_service("b", f"{{hosts: [reviews], http: {to('v2')}}}", created="2"),
            ],
            V2,
            id="the more specific host wins",
        ),
        pytest.param(
            [virtual_service("a", f"{{hosts: [reviews], gateways: [g], http: {to('v1')}}}")],
            "outbound|80||reviews.shop.svc.cluster.local",
            id="bound to a gateway only",
        ),
        pytest.param(
            [virtual_service("a", f"{{hosts: [reviews], gateways: [g, mesh], http: {to('v1')}}}")],
            V1,
            id="bound to both",
        ),
        pytest.param(
            [
                virtual_service(
                    "a",
                    f"{{hosts: [reviews.shop.svc.cluster.local], exportTo: [.], http: {to('v1')}}}",
                    namespace="other",
                )
            ],
            "outbound|80||reviews.shop.svc.cluster.local",
            id="not exported here",
        ),
    ],
)
def test_who_decides(objects: list[str], decides: str) -> None:
    made = routes(world(SERVICES, *objects))
    assert clusters(made["reviews.shop.svc.cluster.local:80"]) == [decides]


def test_hosts_that_no_service_has_are_routed_on_port_80() -> None:
    snapshot = world(
        SERVICES, virtual_service("a", f"{{hosts: [api.example.com], http: {to('reviews')}}}")
    )
    made = routes(snapshot)["api.example.com:80"]
    assert made["domains"] == ["api.example.com"]
    assert clusters(made) == ["outbound|80||reviews.shop.svc.cluster.local"]
    assert "api.example.com:81" not in routes(snapshot, "81")


@pytest.mark.parametrize(
    ("destination", "cluster"),
    [
        pytest.param(
            "{host: reviews}", "outbound|80||reviews.shop.svc.cluster.local", id="its only port"
        ),
        pytest.param(
            "{host: ratings.other.svc.cluster.local}",
            "outbound|80||ratings.other.svc.cluster.local",
            id="the listener's of several",
        ),
        pytest.param(
            "{host: ratings.other.svc.cluster.local, port: {number: 81}}",
            "outbound|81||ratings.other.svc.cluster.local",
            id="asked for",
        ),
        pytest.param(
            "{host: sniffed}",
            "outbound|9000||sniffed.shop.svc.cluster.local",
            id="only port, other",
        ),
        pytest.param(
            "{host: reviews, subset: nobody}",
            "outbound|80|nobody|reviews.shop.svc.cluster.local",
            id="a subset that nobody defines",
        ),
        pytest.param("{host: no.where}", "outbound|80||no.where", id="an unknown host"),
    ],
)
def test_destination(destination: str, cluster: str) -> None:
    snapshot = world(
        SERVICES,
        virtual_service(
            "a", f"{{hosts: [reviews], http: [{{route: [{{destination: {destination}}}]}}]}}"
        ),
    )
    assert clusters(routes(snapshot)["reviews.shop.svc.cluster.local:80"]) == [cluster]


def test_rules_end_at_the_first_that_takes_everything() -> None:
    spec = """
    {hosts: [reviews], http: [
      {name: a, match: [{name: m, uri: {prefix: /a}}, {uri: {prefix: /}}, {uri: {prefix: /c}}],
       route: [{destination: {host: v1}}]},
      {name: never, route: [{destination: {host: v2}}]}]}
    """
    made = routes(world(SERVICES, virtual_service("a", spec)))["reviews.shop.svc.cluster.local:80"]
    assert [(r["name"], r["match"]["prefix"]) for r in made["routes"]] == [
        ("a.m", "/a"),
        ("a", "/"),
    ]


def test_source_labels_decide_who_gets_a_rule() -> None:
    spec = """
    {hosts: [ratings.other.svc.cluster.local], http: [
      {match: [{sourceLabels: {version: v1}}], route: [{destination: {host: v1}}]},
      {route: [{destination: {host: v2}}]}]}
    """
    second = """
kind: Deployment
metadata: {name: second, namespace: shop}
spec:
  template:
    metadata: {labels: {app: reviews, version: v2}}
    spec: {containers: [{name: app}]}
"""
    snapshot = world(SERVICES, second, virtual_service("a", spec))
    host = "ratings.other.svc.cluster.local:80"
    # For callers with the label the first rule takes everything.
    assert clusters(routes(snapshot)[host]) == [V1]
    assert clusters(routes(snapshot, workload="second")[host]) == [V2]


def test_everything_a_rule_may_say() -> None:
    spec = """
    {hosts: [reviews], http: [
      {name: full, match: [{uri: {prefix: /api}}],
       rewrite: {uri: /v2, authority: inner.test},
       timeout: 2s,
       retries: {attempts: 0},
       headers: {request: {set: {b: "2", a: "1", Host: lost.test}, add: {c: "3"}, remove: [d]},
                 response: {add: {e: "5"}}},
       route: [
         {destination: {host: v1}, weight: 9,
          headers: {request: {set: {":authority": share.test}}}},
         {destination: {host: v2}, weight: 1},
         {destination: {host: v3}, weight: 0}]}]}
    """
    made = routes(world(SERVICES, virtual_service("a", spec)))["reviews.shop.svc.cluster.local:80"]
    overwrite = {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    path = "/apis/networking.istio.io/v1alpha3/namespaces/shop/virtual-service/a"
    assert made["routes"] == [
        {
            "name": "full",
            "match": {"prefix": "/api", "case_sensitive": True},
            "metadata": {"filter_metadata": {"istio": {"config": path}}},
            "decorator": {"operation": "a:80/api*"},
            "request_headers_to_add": [
                {"header": {"key": "a", "value": "1"}} | overwrite,
                {"header": {"key": "b", "value": "2"}} | overwrite,
                {"header": {"key": "c", "value": "3"}},
            ],
            "request_headers_to_remove": ["d"],
            "response_headers_to_add": [{"header": {"key": "e", "value": "5"}}],
            "route": {
                "weighted_clusters": {
                    "clusters": [
                        {"name": V1, "weight": 9, "host_rewrite_literal": "share.test"},
                        {"name": V2, "weight": 1},
                    ]
                },
                "prefix_rewrite": "/v2",
                "host_rewrite_literal": "inner.test",
                "timeout": "2s",
            },
        }
    ]


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        pytest.param(
            "redirect: {uri: /new, authority: new.test, scheme: https, redirectCode: 302}",
            {
                "redirect": {
                    "path_redirect": "/new",
                    "host_redirect": "new.test",
                    "scheme_redirect": "https",
                    "response_code": "FOUND",
                }
            },
            id="redirect",
        ),
        pytest.param(
            "redirect: {prefixRewrite: /b, port: 8443}",
            {"redirect": {"prefix_rewrite": "/b", "port_redirect": 8443}},
            id="redirect of a prefix",
        ),
        pytest.param(
            "redirect: {scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}",
            {"redirect": {"scheme_redirect": "https", "port_redirect": 443}},
            id="the scheme's port",
        ),
        pytest.param(
            "directResponse: {status: 503, body: {string: away}}",
            {"direct_response": {"status": 503, "body": {"inline_string": "away"}}},
            id="direct response",
        ),
        pytest.param(
            "directResponse: {status: 200, body: {bytes: aGk=}}",
            {"direct_response": {"status": 200, "body": {"inline_bytes": "aGk="}}},
            id="bytes",
        ),
    ],
)
def test_answers_by_itself(rule: str, answer: dict[str, Any]) -> None:
    snapshot = world(SERVICES, virtual_service("a", f"{{hosts: [reviews], http: [{{{rule}}}]}}"))
    (route,) = routes(snapshot)["reviews.shop.svc.cluster.local:80"]["routes"]
    kept = {k: v for k, v in route.items() if k not in ("match", "metadata", "decorator")}
    assert kept == answer

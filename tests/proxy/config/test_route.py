"""RouteConfiguration in, core objects out."""

import pytest
from fixtures.envoy import Json, extension, message

from meshlab.errors import ConfigError
from meshlab.proxy.config.route import compile_route_configuration
from meshlab.proxy.core.fault import Fault
from meshlab.proxy.core.header_mutation import HeaderMutation, HeaderValue
from meshlab.proxy.core.matcher import Fraction, HeaderMatch, QueryMatch, StringMatch
from meshlab.proxy.core.retry import RetryPolicy
from meshlab.proxy.core.route import (
    DirectResponse,
    PathMatch,
    Redirect,
    RegexRewrite,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from meshlab.proxy.core.weighted_cluster import WeightedCluster

ANY = RouteMatch(path=PathMatch(kind="prefix", value=b"/"))


def table(*routes: Json, **host: object) -> Json:
    return {
        "name": "t",
        "virtual_hosts": [{"name": "h", "domains": ["*"], "routes": list(routes), **host}],
    }


def compiled(value: Json) -> RouteConfiguration:
    return compile_route_configuration(message("config.route.v3.RouteConfiguration", value))


def one_route(**fields: object) -> Route:
    value = {"match": {"prefix": "/"}, **fields}
    return compiled(table(value)).virtual_hosts[0].routes[0]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        pytest.param({"prefix": "/a"}, PathMatch(kind="prefix", value=b"/a"), id="prefix"),
        pytest.param(
            {"path": "/a", "case_sensitive": False},
            PathMatch(kind="exact", value=b"/a", case_sensitive=False),
            id="path",
        ),
        pytest.param(
            {"safe_regex": {"google_re2": {}, "regex": "/[a-z]+"}},
            PathMatch(kind="regex", value=b"/[a-z]+"),
            id="regex",
        ),
        pytest.param(
            {"path_separated_prefix": "/a"},
            PathMatch(kind="separated_prefix", value=b"/a"),
            id="segments",
        ),
    ],
)
def test_path(value: Json, match: PathMatch) -> None:
    route = one_route(match=value, direct_response={"status": 200})
    assert route.match == RouteMatch(path=match)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        pytest.param(
            {"name": "X-A", "string_match": {"exact": "v", "ignore_case": True}},
            HeaderMatch(name=b"x-a", value=StringMatch(kind="exact", value=b"v", ignore_case=True)),
            id="string_match",
        ),
        pytest.param(
            {"name": "a", "prefix_match": "v", "invert_match": True},
            HeaderMatch(name=b"a", value=StringMatch(kind="prefix", value=b"v"), invert=True),
            id="older form",
        ),
        pytest.param(
            {"name": "a", "range_match": {"start": "-1", "end": "5"}},
            HeaderMatch(name=b"a", int_range=(-1, 5)),
            id="range",
        ),
        pytest.param({"name": "a"}, HeaderMatch(name=b"a"), id="present by default"),
        pytest.param({"name": "a", "present_match": True}, HeaderMatch(name=b"a"), id="present"),
        pytest.param(
            {"name": "a", "present_match": False},
            HeaderMatch(name=b"a", invert=True),
            id="absent",
        ),
        pytest.param(
            {"name": "a", "present_match": False, "invert_match": True},
            HeaderMatch(name=b"a"),
            id="not absent",
        ),
    ],
)
def test_header_match(value: Json, match: HeaderMatch) -> None:
    route = one_route(match={"prefix": "/", "headers": [value]}, direct_response={"status": 200})
    assert route.match.headers == (match,)


def test_match_all_of() -> None:
    route = one_route(
        match={
            "prefix": "/",
            "query_parameters": [
                {"name": "q", "string_match": {"prefix": "x"}},
                {"name": "r", "present_match": True},
            ],
            "runtime_fraction": {
                "default_value": {"numerator": 5, "denominator": "TEN_THOUSAND"},
                "runtime_key": "k",
            },
            "grpc": {},
        },
        direct_response={"status": 200},
    )
    assert route.match == RouteMatch(
        path=PathMatch(kind="prefix", value=b"/"),
        query_parameters=(
            QueryMatch(name=b"q", value=StringMatch(kind="prefix", value=b"x")),
            QueryMatch(name=b"r"),
        ),
        runtime_fraction=Fraction(5, 10_000),
        grpc=True,
    )


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        pytest.param({"route": {"cluster": "c"}}, RouteAction(cluster="c"), id="defaults"),
        pytest.param(
            {
                "route": {
                    "weighted_clusters": {
                        "clusters": [
                            {"name": "a", "weight": 1, "host_rewrite_literal": "h"},
                            {
                                "name": "b",
                                "weight": 0,
                                "response_headers_to_remove": ["X-Gone"],
                            },
                        ]
                    },
                    "timeout": "0s",
                    "idle_timeout": "1.5s",
                    "priority": "HIGH",
                }
            },
            RouteAction(
                weighted_clusters=(
                    WeightedCluster(name="a", weight=1, host_rewrite=b"h"),
                    WeightedCluster(
                        name="b", weight=0, response_headers=HeaderMutation(remove=(b"x-gone",))
                    ),
                ),
                timeout=0.0,
                idle_timeout=1.5,
                priority="high",
            ),
            id="shares",
        ),
        pytest.param(
            {
                "route": {
                    "cluster_header": "X-Cluster",
                    "cluster_not_found_response_code": "NOT_FOUND",
                    "prefix_rewrite": "/new",
                    "host_rewrite_header": "X-Host",
                    "append_x_forwarded_host": True,
                    "upgrade_configs": [
                        {"upgrade_type": "WebSocket"},
                        {"upgrade_type": "foo", "enabled": False},
                    ],
                }
            },
            RouteAction(
                cluster_header=b"x-cluster",
                cluster_not_found_code=404,
                prefix_rewrite=b"/new",
                host_rewrite_header=b"x-host",
                append_x_forwarded_host=True,
                upgrades={b"websocket": True, b"foo": False},
            ),
            id="rewrites and upgrades",
        ),
        pytest.param(
            {
                "route": {
                    "cluster": "c",
                    "auto_host_rewrite": True,
                    "regex_rewrite": {"pattern": {"regex": "a(.)"}, "substitution": "\\1"},
                }
            },
            RouteAction(
                cluster="c",
                auto_host_rewrite=True,
                regex_rewrite=RegexRewrite(pattern=b"a(.)", substitution=b"\\1"),
            ),
            id="regex rewrite",
        ),
        pytest.param(
            {"redirect": {"https_redirect": True, "response_code": "FOUND", "strip_query": True}},
            Redirect(response_code=302, scheme=b"https", strip_query=True),
            id="redirect to https",
        ),
        pytest.param(
            {"redirect": {"host_redirect": "h", "port_redirect": 8080, "path_redirect": "/p"}},
            Redirect(host=b"h", port=8080, path=b"/p"),
            id="redirect elsewhere",
        ),
        pytest.param(
            {"direct_response": {"status": 404, "body": {"inline_string": "no"}}},
            DirectResponse(status=404, body=b"no"),
            id="direct response",
        ),
    ],
)
def test_action(fields: Json, action: RouteAction | Redirect | DirectResponse) -> None:
    assert one_route(**fields).action == action


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        pytest.param(
            {"retry_on": "5xx, reset"},
            RetryPolicy(retry_on=frozenset(("5xx", "reset"))),
            id="defaults",
        ),
        pytest.param(
            {
                "retry_on": "retriable-status-codes",
                "num_retries": 0,
                "per_try_timeout": "1s",
                "retriable_status_codes": [503],
                "retry_host_predicate": [
                    {
                        "name": "previous",
                        "typed_config": extension(
                            "retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        ),
                    }
                ],
                "host_selection_retry_max_attempts": "5",
                "retry_back_off": {"base_interval": "0.1s"},
            },
            RetryPolicy(
                retry_on=frozenset(("retriable-status-codes",)),
                num_retries=0,
                per_try_timeout=1.0,
                retriable_status_codes=frozenset((503,)),
                previous_hosts=True,
                host_selection_attempts=5,
                base_interval=0.1,
                max_interval=1.0,
            ),
            id="all",
        ),
    ],
)
def test_retry_policy(value: Json, policy: RetryPolicy) -> None:
    action = one_route(route={"cluster": "c", "retry_policy": value}).action
    assert isinstance(action, RouteAction)
    assert action.retry == policy


def test_header_mutation() -> None:
    route = one_route(
        direct_response={"status": 200},
        request_headers_to_remove=["X-A"],
        request_headers_to_add=[
            {"header": {"key": "X-B", "value": "%PROTOCOL%"}},
            {"header": {"key": "c", "value": "1"}, "append_action": "ADD_IF_ABSENT"},
            {"header": {"key": "d", "value": "1"}, "append": False, "keep_empty_value": True},
        ],
    )
    assert route.request_headers == HeaderMutation(
        remove=(b"x-a",),
        add=(
            HeaderValue(name=b"x-b", value="%PROTOCOL%"),
            HeaderValue(name=b"c", value="1", action="add_if_absent"),
            HeaderValue(
                name=b"d", value="1", action="overwrite_if_exists_or_add", keep_empty_value=True
            ),
        ),
    )


def test_whole_table() -> None:
    fault = extension(
        "filters.http.fault.v3.HTTPFault",
        abort={"http_status": 503, "percentage": {"numerator": 10}},
        delay={
            "fixed_delay": "2s",
            "percentage": {"numerator": 1, "denominator": "MILLION"},
        },
        headers=[{"name": "end-user", "string_match": {"exact": "jason"}}],
    )
    value = table(
        {
            "match": {"prefix": "/"},
            "name": "r",
            "direct_response": {"status": 200},
            "decorator": {"operation": "op", "propagate": False},
            "metadata": {"filter_metadata": {"istio": {"config": "/x"}}},
            "typed_per_filter_config": {"envoy.filters.http.fault": fault},
        },
        require_tls="ALL",
        include_request_attempt_count=True,
    )
    value.update(
        ignore_port_in_host_matching=True, internal_only_headers=["X-In"], validate_clusters=False
    )
    value["virtual_hosts"][0]["domains"] = ["A.test", "*.b"]
    assert compiled(value) == RouteConfiguration(
        name="t",
        virtual_hosts=(
            VirtualHost(
                name="h",
                domains=(b"a.test", b"*.b"),
                require_tls="all",
                include_request_attempt_count=True,
                routes=(
                    Route(
                        match=ANY,
                        name="r",
                        action=DirectResponse(status=200),
                        metadata={"istio": {"config": "/x"}},
                        fault=Fault(
                            abort_status=503,
                            abort_share=Fraction(10),
                            delay=2.0,
                            delay_share=Fraction(1, 1_000_000),
                            headers=(
                                HeaderMatch(
                                    name=b"end-user",
                                    value=StringMatch(kind="exact", value=b"jason"),
                                ),
                            ),
                        ),
                    ),
                ),
            ),
        ),
        ignore_port_in_host_matching=True,
        internal_only_headers=(b"x-in",),
    )


HOST = "virtual_hosts[0]"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param(
            {"virtual_hosts": [{"name": "a", "domains": ["x", "X"]}]},
            f"{HOST}.domains[1]",
            id="domain twice",
        ),
        pytest.param(
            {
                "virtual_hosts": [
                    {"name": "a", "domains": ["x"]},
                    {"name": "a", "domains": ["y"]},
                ]
            },
            "virtual_hosts[1].name",
            id="name twice",
        ),
        pytest.param(
            {"virtual_hosts": [{"name": "a", "domains": ["a.*.b"]}]},
            f"{HOST}.domains[0]",
            id="wildcard inside",
        ),
        pytest.param({"virtual_hosts": [{"name": "a"}]}, f"{HOST}.domains", id="no domain"),
        pytest.param(table({"match": {"prefix": "/"}}), f"{HOST}.routes[0]", id="no action"),
        pytest.param(
            table({"match": {}, "direct_response": {"status": 200}}),
            f"{HOST}.routes[0].match",
            id="no path",
        ),
        pytest.param(
            table({"match": {"safe_regex": {"regex": "("}}, "direct_response": {"status": 200}}),
            f"{HOST}.routes[0].match.safe_regex.regex",
            id="bad expression",
        ),
        pytest.param(
            table({"match": {"prefix": "/"}, "direct_response": {"status": 99}}),
            f"{HOST}.routes[0].direct_response.status",
            id="bad status",
        ),
        pytest.param(
            table({"match": {"prefix": "/"}, "route": {"weighted_clusters": {}}}),
            f"{HOST}.routes[0].route.weighted_clusters.clusters",
            id="no weight",
        ),
        pytest.param(
            table(
                {
                    "match": {"prefix": "/"},
                    "route": {"cluster": "c", "retry_policy": {"retry_on": "5xx,typo"}},
                }
            ),
            f"{HOST}.routes[0].route.retry_policy.retry_on",
            id="unknown condition",
        ),
        pytest.param(
            table(
                {
                    "match": {"prefix": "/"},
                    "direct_response": {"status": 200},
                    "request_headers_to_remove": ["Host"],
                }
            ),
            f"{HOST}.routes[0].request_headers_to_remove[0]",
            id="host may not go",
        ),
        pytest.param(
            table({"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "-1s"}}),
            f"{HOST}.routes[0].route.timeout",
            id="negative",
        ),
        pytest.param(
            table(typed_per_filter_config={"lua": extension("filters.http.router.v3.Router")}),
            f"{HOST}.typed_per_filter_config['lua']",
            id="settings of another filter",
        ),
    ],
)
def test_refused(value: Json, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(value)
    assert caught.value.field == field

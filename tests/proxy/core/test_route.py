import pytest

from meshlab.errors import ConfigError
from meshlab.proxy.core.http1 import parse_request
from meshlab.proxy.core.matcher import Fraction, HeaderMatch, QueryMatch, StringMatch
from meshlab.proxy.core.redirect import location
from meshlab.proxy.core.route import (
    PathMatch,
    Redirect,
    RegexRewrite,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    RouteTable,
    VirtualHost,
)
from meshlab.proxy.core.weighted_cluster import WeightedCluster, WeightTable


def request(path=b"/", host=b"a", *lines):
    return parse_request(b"\r\n".join((b"GET %b HTTP/1.1" % path, b"Host: " + host, *lines)))


def path(kind, value, **settings):
    return RouteMatch(path=PathMatch(kind=kind, value=value), **settings)


def table(*matches, **settings):
    routes = tuple(
        Route(name=str(place), match=match, action=RouteAction(cluster="c"))
        for place, match in enumerate(matches)
    )
    host = VirtualHost(name="v", domains=(b"*",), routes=routes)
    return RouteTable(RouteConfiguration(name="r", virtual_hosts=(host,), **settings))


def chosen(routes, head, draw=0.5):
    found = routes.route(head, draw)
    return None if found is None else int(found.config.name)


HOSTS = (
    ("exact", b"web.test"),
    ("suffix", b"*.test"),
    ("longer suffix", b"*.b.test"),
    ("prefix", b"web.*"),
    ("port", b"web.test:81"),
    ("any", b"*"),
)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"web.test", "exact"),
        (b"WEB.Test", "exact"),
        (b"x.test", "suffix"),
        (b".test", "any"),
        (b"x.b.test", "longer suffix"),
        (b"web.other", "prefix"),
        (b"web.test:81", "port"),
        (b"web.test:82", "prefix"),
        (b"other", "any"),
        (b"", "any"),
    ],
)
def test_domain(authority, host):
    routes = RouteTable(
        RouteConfiguration(
            name="r",
            virtual_hosts=tuple(VirtualHost(name=n, domains=(d,)) for n, d in HOSTS),
        )
    )
    found = routes.virtual_host(authority)
    assert found is not None
    assert found.config.name == host


def test_port_is_ignored_where_configured():
    routes = RouteTable(
        RouteConfiguration(
            name="r",
            virtual_hosts=(VirtualHost(name="v", domains=(b"web.test",)),),
            ignore_port_in_host_matching=True,
        )
    )
    assert routes.virtual_host(b"web.test:8080") is not None
    assert routes.virtual_host(b"other:80") is None


def test_domain_of_two_hosts_is_refused():
    with pytest.raises(ConfigError) as caught:
        RouteTable(
            RouteConfiguration(
                name="http.80",
                virtual_hosts=(
                    VirtualHost(name="a", domains=(b"x.test",)),
                    VirtualHost(name="b", domains=(b"X.test",)),
                ),
            )
        )
    assert str(caught.value) == (
        "RouteConfiguration http.80: virtual_hosts[1].domains[0]: is 'x.test', already in virtual "
        "host 'a'; a domain has one. Remove either."
    )


@pytest.mark.parametrize(
    ("match", "target", "taken"),
    [
        (path("exact", b"/a"), b"/a?q", True),
        (path("exact", b"/a"), b"/a/", False),
        (path("prefix", b"/a"), b"/ab", True),
        (path("prefix", b"/a"), b"/A", False),
        (
            RouteMatch(path=PathMatch(kind="prefix", value=b"/a", case_sensitive=False)),
            b"/AB",
            True,
        ),
        (path("separated_prefix", b"/a"), b"/a/b", True),
        (path("separated_prefix", b"/a"), b"/a", True),
        (path("separated_prefix", b"/a"), b"/ab", False),
        (path("regex", b"/[0-9]+"), b"/12?x", True),
        (path("regex", b"/[0-9]+"), b"/12x", False),
        (path("prefix", b"/", query_parameters=(QueryMatch(name=b"q"),)), b"/?a&q=1", True),
        (path("prefix", b"/", query_parameters=(QueryMatch(name=b"q"),)), b"/?qq=1", False),
        (path("prefix", b"/", runtime_fraction=Fraction(50)), b"/", False),
        (path("prefix", b"/", runtime_fraction=Fraction(51)), b"/", True),
        (path("prefix", b"/", grpc=True), b"/", False),
    ],
)
def test_match(match, target, taken):
    assert (chosen(table(match), request(target)) == 0) is taken


def header(name, kind=None, value=b"", **settings):
    test = StringMatch(kind=kind, value=value) if kind else None
    return HeaderMatch(name=name, value=test, **settings)


@pytest.mark.parametrize(
    ("match", "taken"),
    [
        pytest.param(header(b"x"), True, id="present"),
        pytest.param(header(b"y"), False, id="not present"),
        pytest.param(header(b"y", invert=True), True, id="absent wanted"),
        pytest.param(header(b"x", "exact", b"one"), True, id="exact"),
        pytest.param(header(b"x", "exact", b"two"), False, id="other value"),
        pytest.param(header(b"x", "exact", b"two", invert=True), True, id="inverted"),
        pytest.param(header(b"y", "exact", b"two", invert=True), False, id="inverted, missing"),
        pytest.param(
            header(b"y", "exact", b"two", invert=True, treat_missing_as_empty=True),
            True,
            id="missing is empty",
        ),
        pytest.param(header(b"x", "contains", b"n"), True, id="contains"),
        pytest.param(header(b"x", "regex", b"o.e"), True, id="regex"),
        pytest.param(header(b"many", "exact", b"2"), True, id="one of several"),
        pytest.param(header(b"many", "exact", b"2", invert=True), False, id="none of several"),
        pytest.param(header(b":method", "exact", b"GET"), True, id="method"),
        pytest.param(header(b":authority", "exact", b"a"), True, id="authority"),
        pytest.param(HeaderMatch(name=b"n", int_range=(1, 10)), True, id="range"),
        pytest.param(HeaderMatch(name=b"n", int_range=(1, 9)), False, id="end excluded"),
        pytest.param(HeaderMatch(name=b"x", int_range=(1, 9)), False, id="no number"),
    ],
)
def test_header_match(match, taken):
    head = request(b"/", b"a", b"x: one", b"many: 1", b"many: 2", b"n: 9")
    assert (chosen(table(path("prefix", b"/", headers=(match,))), head) == 0) is taken


def test_first_route_that_matches():
    routes = table(path("exact", b"/a"), path("prefix", b"/a"), path("prefix", b"/"))
    assert [chosen(routes, request(target)) for target in (b"/a", b"/ab", b"/b")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("kind", "value", "rewrite", "new"),
    [
        ("prefix", b"/a", {"prefix_rewrite": b"/b"}, b"/b/x"),
        ("prefix", b"/a/", {"prefix_rewrite": b"/"}, b"/x"),
        ("exact", b"/a/x", {"prefix_rewrite": b"/b"}, b"/b"),
        ("regex", b"/a/.*", {"prefix_rewrite": b"/b"}, b"/b"),
        (
            "prefix",
            b"/",
            {"regex_rewrite": RegexRewrite(pattern=b"/(.)/(.)", substitution=rb"/\2-\1\0")},
            b"/x-a/a/x",
        ),
    ],
)
def test_rewrite(kind, value, rewrite, new):
    route = Route(match=path(kind, value), action=RouteAction(cluster="c", **rewrite))
    host = VirtualHost(name="v", domains=(b"*",), routes=(route,))
    found = RouteTable(RouteConfiguration(name="r", virtual_hosts=(host,))).route(
        request(b"/a/x"), 0
    )
    assert found is not None
    assert found.rewrite is not None
    assert found.rewrite(b"/a/x") == new


@pytest.mark.parametrize(
    ("redirect", "where"),
    [
        (Redirect(path=b"/n"), b"http://a:80/n?q"),
        (Redirect(path=b"/n?z"), b"http://a:80/n?z"),
        (Redirect(scheme=b"https"), b"https://a/p?q"),
        (Redirect(scheme=b"https", port=8443), b"https://a:8443/p?q"),
        (Redirect(host=b"b", strip_query=True), b"http://b/p"),
        (Redirect(port=80), b"http://a/p?q"),
    ],
)
def test_redirect(redirect, where):
    assert location(redirect, None, request(b"/p?q", b"a:80"), b"http") == where


def test_weights():
    names = (("a", 20), ("none", 0), ("b", 80))
    shares = WeightTable(tuple(WeightedCluster(name=n, weight=w) for n, w in names))
    assert [shares.pick(draw).name for draw in (0.0, 0.1999, 0.2, 0.9999)] == ["a", "a", "b", "b"]
    with pytest.raises(ConfigError):
        WeightTable((WeightedCluster(name="a", weight=0),))


@pytest.mark.parametrize(
    "match",
    [path("regex", b"("), path("prefix", b"/", headers=(header(b"x", "regex", b"["),))],
)
def test_expression_that_does_not_compile(match):
    with pytest.raises(ConfigError) as caught:
        table(match)
    assert caught.value.field.startswith("virtual_hosts[0].routes[0].match.")

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.errors import ConfigError
from meshlab.proxy.core.head import Headers
from meshlab.proxy.core.path import (
    compile_regex_rewrite,
    has_escaped_slash,
    merge_slashes,
    normalize,
    split,
    unescape_slashes,
)
from meshlab.proxy.core.timeout import timeouts


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/a/b", b"/a/b"),
        (b"/a/./b", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/a/..", b"/"),
        (b"/a/.", b"/a/"),
        (b"/../../a", b"/a"),
        (b"/%61%2e%2E/b", b"/a../b"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/a\\..\\b", b"/b"),
        (b"/a//b", b"/a//b"),
    ],
)
def test_normalize(path, normal):
    assert normalize(path) == normal


@given(st.lists(st.sampled_from([b"a", b"..", b".", b"", b"%2e", b"%2f", b"\\"])))
def test_normal_form_is_stable(segments):
    once = normalize(b"/" + b"/".join(segments))
    assert normalize(once) == once
    assert b".." not in once.split(b"/")


def test_slashes():
    assert merge_slashes(b"/a//b///c") == b"/a/b/c"
    assert has_escaped_slash(b"/a%2Fb")
    assert has_escaped_slash(b"/a%5cb")
    assert not has_escaped_slash(b"/a%20b")
    assert unescape_slashes(b"/a%2fb%5Cc") == b"/a/b\\c"


@pytest.mark.parametrize(
    ("target", "parts"),
    [(b"/a?b#c", (b"/a", b"?b#c")), (b"/a#b?c", (b"/a", b"#b?c")), (b"/a", (b"/a", b""))],
)
def test_split(target, parts):
    assert split(target) == parts


def test_regex_rewrite():
    assert compile_regex_rewrite(b"/v([0-9])", rb"/version/\1")(b"/v1/v2") == (
        b"/version/1/version/2"
    )
    with pytest.raises(ConfigError):
        compile_regex_rewrite(b"/a", rb"\1")


@pytest.mark.parametrize(
    ("route", "per_try", "headers", "found"),
    [
        (15.0, 0.0, {}, (15.0, 0.0)),
        (15.0, 2.0, {}, (15.0, 2.0)),
        (2.0, 5.0, {}, (2.0, 0.0)),
        (0.0, 5.0, {}, (0.0, 5.0)),
        (15.0, 0.0, {b"x-envoy-upstream-rq-timeout-ms": b"100"}, (0.1, 0.0)),
        (15.0, 0.0, {b"x-envoy-upstream-rq-timeout-ms": b"x"}, (15.0, 0.0)),
        (15.0, 0.0, {b"x-envoy-upstream-rq-per-try-timeout-ms": b"50"}, (15.0, 0.05)),
    ],
)
def test_timeouts(route, per_try, headers, found):
    assert timeouts(route, per_try, Headers.of(*headers.items())) == found

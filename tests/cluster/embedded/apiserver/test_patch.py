from typing import Any

import pytest

from meshlab.cluster.embedded.apiserver.json_object import copy
from meshlab.cluster.embedded.apiserver.patch import (
    json_patch,
    merge_patch,
    strategic_merge,
)
from meshlab.cluster.embedded.apiserver.schema import builtin_schema
from meshlab.cluster.embedded.apiserver.status import ApiError


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux"}],
            {"baz": "qux", "foo": "bar"},
            id="A.1 add member",
        ),
        pytest.param(
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "qux"}],
            {"foo": ["bar", "qux", "baz"]},
            id="A.2 add element",
        ),
        pytest.param(
            {"baz": "qux", "foo": "bar"},
            [{"op": "remove", "path": "/baz"}],
            {"foo": "bar"},
            id="A.3 remove member",
        ),
        pytest.param(
            {"foo": ["bar", "qux", "baz"]},
            [{"op": "remove", "path": "/foo/1"}],
            {"foo": ["bar", "baz"]},
            id="A.4 remove element",
        ),
        pytest.param(
            {"baz": "qux"},
            [{"op": "replace", "path": "/baz", "value": "boo"}],
            {"baz": "boo"},
            id="A.5 replace",
        ),
        pytest.param(
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
            id="A.6 move",
        ),
        pytest.param(
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
            id="A.7 move element",
        ),
        pytest.param(
            {"baz": "qux", "foo": ["a", 2, "c"]},
            [{"op": "test", "path": "/baz", "value": "qux"}],
            {"baz": "qux", "foo": ["a", 2, "c"]},
            id="A.8 test",
        ),
        pytest.param(
            {"foo": ["bar"]},
            [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
            {"foo": ["bar", ["abc", "def"]]},
            id="A.16 append",
        ),
        pytest.param(
            {"/": 9, "~1": 10},
            [{"op": "test", "path": "/~01", "value": 10}],
            {"/": 9, "~1": 10},
            id="A.14 escapes",
        ),
        pytest.param(
            {"a": {"b": 1}},
            [{"op": "copy", "from": "/a", "path": "/c"}],
            {"a": {"b": 1}, "c": {"b": 1}},
            id="copy",
        ),
        pytest.param(
            {"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}, id="whole"
        ),
    ],
)
def test_json_patch(target: Any, operations: Any, result: Any) -> None:
    assert json_patch(target, operations) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "/missing/below", "value": 1},
        {"op": "add", "path": "a", "value": 1},
        {"op": "remove", "path": "/list/-1"},
        {"op": "remove", "path": "/list/01"},
        {"op": "fly", "path": "/a"},
        {"op": "add", "path": "/a/b", "value": 1},
        {"path": "/a"},
        "nothing",
    ],
)
def test_json_patch_that_does_not_fit(operation: Any) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({"a": 1, "list": [1]}, [operation])
    assert caught.value.status_code == 422


POD: dict[str, Any] = {
    "spec": {
        "containers": [
            {"name": "a", "image": "one", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "image": "two"},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "nodeSelector": {"disk": "ssd"},
    },
    "metadata": {"finalizers": ["x/y"], "labels": {"app": "web"}},
}


def patched(patch: Any) -> Any:
    return strategic_merge(copy(POD), patch, builtin_schema("Pod"))


def test_strategic_merges_lists_by_key() -> None:
    result = patched({"spec": {"containers": [{"name": "b", "image": "three"}, {"name": "c"}]}})
    assert [(c["name"], c.get("image")) for c in result["spec"]["containers"]] == [
        ("a", "one"),
        ("b", "three"),
        ("c", None),
    ]


def test_strategic_merges_below_lists() -> None:
    env = [{"name": "Y", "value": "2"}]
    result = patched({"spec": {"containers": [{"name": "a", "env": env}]}})
    assert result["spec"]["containers"][0] == {
        "name": "a",
        "image": "one",
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
    }


def test_strategic_deletes_an_entry() -> None:
    result = patched({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})
    assert result["spec"]["containers"] == [{"name": "b", "image": "two"}]


def test_strategic_replaces_a_list() -> None:
    result = patched({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}})
    assert result["spec"]["containers"] == [{"name": "z"}]


def test_strategic_replaces_a_map() -> None:
    result = patched({"spec": {"nodeSelector": {"$patch": "replace", "zone": "a"}}})
    assert result["spec"]["nodeSelector"] == {"zone": "a"}


def test_strategic_retains_keys() -> None:
    """A volume has one source: the new one must take the old one's place."""
    volume = {"name": "v", "configMap": {"name": "c"}, "$retainKeys": ["name", "configMap"]}
    result = patched({"spec": {"volumes": [volume]}})
    assert result["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "c"}}]


def test_strategic_orders() -> None:
    patch = {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "x"}],
    }
    result = patched({"spec": patch})
    assert [c["name"] for c in result["spec"]["containers"]] == ["c", "b", "a"]


def test_strategic_order_keeps_strangers_in_place() -> None:
    """What a webhook put there (a sidecar) is in nobody's order."""
    patch = {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "b"}]}
    result = patched({"spec": patch})
    assert [c["name"] for c in result["spec"]["containers"]] == ["a", "b"]


def test_strategic_adds_and_takes_plain_values() -> None:
    result = patched({"metadata": {"finalizers": ["a/b"]}})
    assert result["metadata"]["finalizers"] == ["x/y", "a/b"]
    result = patched({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/y"]}})
    assert result["metadata"]["finalizers"] == []


def test_strategic_null_removes() -> None:
    result = patched({"spec": {"nodeSelector": None}, "metadata": {"labels": {"app": None}}})
    assert "nodeSelector" not in result["spec"]
    assert result["metadata"]["labels"] == {}


def test_strategic_list_without_key_is_replaced() -> None:
    command = {"spec": {"containers": [{"name": "a", "command": ["x"]}]}}
    once = patched(command)
    again = strategic_merge(
        once,
        {"spec": {"containers": [{"name": "a", "command": ["y"]}]}},
        builtin_schema("Pod"),
    )
    assert again["spec"]["containers"][0]["command"] == ["y"]


def test_strategic_needs_its_key() -> None:
    with pytest.raises(ApiError, match="does not contain declared merge key: name"):
        patched({"spec": {"containers": [{"image": "x"}]}})

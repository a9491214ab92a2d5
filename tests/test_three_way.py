from typing import Any

import pytest

from meshlab.three_way import merge_patch, strategic_patch


@pytest.mark.parametrize(
    ("last", "wanted", "patch"),
    [
        pytest.param({}, {"a": 1}, {"a": 1}, id="set"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b": None}, id="gone: deleted"),
        pytest.param({"s": {"a": 1}}, {"s": {}}, {"s": {"a": None}}, id="gone below"),
        pytest.param({"s": 1}, {"s": {"a": 1}}, {"s": {"a": 1}}, id="became an object"),
    ],
)
def test_fields(last: Any, wanted: Any, patch: Any) -> None:
    assert merge_patch(last, wanted) == patch
    assert strategic_patch(last, wanted) == patch


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


@pytest.mark.parametrize(
    ("last", "wanted", "patch"),
    [
        pytest.param(
            {"containers": [container("a", image="x"), container("b")]},
            {"containers": [container("a")]},
            {"containers": [{"name": "a", "image": None}, {"$patch": "delete", "name": "b"}]},
            id="items by name",
        ),
        pytest.param(
            {},
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80}]},
            id="a Service's ports by number",
        ),
        pytest.param(
            {"ports": [{"containerPort": 1}]},
            {"ports": [{"containerPort": 2}]},
            {"ports": [{"containerPort": 2}, {"$patch": "delete", "containerPort": 1}]},
            id="a container's ports",
        ),
        pytest.param({}, {"args": ["a"]}, {"args": ["a"]}, id="plain lists whole"),
        pytest.param(
            {"strategy": {"type": "RollingUpdate"}},
            {"strategy": {"type": "Recreate"}},
            {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}},
            id="a union forgets the other choice",
        ),
        pytest.param(
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "configMap": {"name": "c"}}]},
            {
                "volumes": [
                    {
                        "name": "v",
                        "emptyDir": None,
                        "configMap": {"name": "c"},
                        "$retainKeys": ["configMap", "name"],
                    }
                ]
            },
            id="a volume of another kind",
        ),
    ],
)
def test_lists_of_built_in_kinds(last: Any, wanted: Any, patch: Any) -> None:
    assert strategic_patch(last, wanted) == patch


def test_custom_resources_change_lists_whole() -> None:
    last, wanted = {"ports": [{"port": 1}]}, {"ports": [{"port": 2}]}
    assert merge_patch(last, wanted) == wanted

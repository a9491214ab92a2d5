from typing import Any

import pytest

from meshlab.cluster.embedded.apiserver.crd import check_structural
from meshlab.cluster.embedded.apiserver.json_object import copy
from meshlab.cluster.embedded.apiserver.schema import (
    builtin,
    builtin_schema,
    check_builtin_types,
    fill_defaults,
    prune,
    validate,
)
from meshlab.cluster.embedded.apiserver.status import ApiError

Json = dict[str, Any]


def errors(schema: Json, value: Any) -> list[str]:
    return [f"{e.field}: {e.text}" for e in validate(schema, value, "x")]


NUMBER = {"type": "integer", "minimum": 1, "maximum": 5}
LIST_MAP = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {"type": "object", "properties": {"name": {"type": "string"}}},
}
EITHER = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
}


@pytest.mark.parametrize(
    ("schema", "value", "problems"),
    [
        ({"type": "string"}, "a", []),
        (
            {"type": "string"},
            1,
            ['x: Invalid value: "integer": x in body must be of type string: "integer"'],
        ),
        ({"type": "integer"}, 2.0, []),
        (
            {"type": "integer"},
            2.5,
            ['x: Invalid value: "number": x in body must be of type integer: "number"'],
        ),
        (
            {"type": "integer"},
            True,
            ['x: Invalid value: "boolean": x in body must be of type integer: "boolean"'],
        ),
        (
            {"type": "boolean"},
            "true",
            ['x: Invalid value: "string": x in body must be of type boolean: "string"'],
        ),
        (
            {"type": "object"},
            [],
            ['x: Invalid value: "array": x in body must be of type object: "array"'],
        ),
        (
            {"type": "string"},
            None,
            ['x: Invalid value: "null": x in body must be of type string: "null"'],
        ),
        ({"type": "string", "nullable": True}, None, []),
        (NUMBER, 3, []),
        (NUMBER, 0, ["x: Invalid value: 0: x in body should be greater than or equal to 1"]),
        (NUMBER, 6, ["x: Invalid value: 6: x in body should be less than or equal to 5"]),
        (
            {"type": "number", "minimum": 1, "exclusiveMinimum": True},
            1,
            ["x: Invalid value: 1: x in body should be greater than 1"],
        ),
        (
            {"type": "number", "multipleOf": 0.5},
            0.7,
            ["x: Invalid value: 0.7: x in body should be a multiple of 0.5"],
        ),
        (
            {"type": "string", "enum": ["a", "b"]},
            "c",
            ['x: Unsupported value: "c": supported values: "a", "b"'],
        ),
        (
            {"type": "string", "pattern": "^a+$"},
            "b",
            ["x: Invalid value: \"b\": x in body should match '^a+$'"],
        ),
        (
            {"type": "string", "minLength": 2},
            "a",
            ['x: Invalid value: "a": x in body should be at least 2 chars long'],
        ),
        (
            {"type": "string", "maxLength": 2},
            "abc",
            ["x: Too long: may not be more than 2 bytes"],
        ),
        ({"type": "string", "format": "date-time"}, "2026-01-02T03:04:05Z", []),
        (
            {"type": "string", "format": "date-time"},
            "tomorrow",
            ['x: Invalid value: "tomorrow": x in body must be of type date-time: "tomorrow"'],
        ),
        ({"x-kubernetes-int-or-string": True}, 80, []),
        ({"x-kubernetes-int-or-string": True}, "http", []),
        (
            {"x-kubernetes-int-or-string": True},
            [],
            ['x: Invalid value: "array": x in body must be of type integer,string: "array"'],
        ),
        ({"type": "object", "required": ["a"]}, {}, ["x.a: Required value"]),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"k": 1},
            ['x.k: Invalid value: "integer": x.k in body must be of type string: "integer"'],
        ),
        (
            {"type": "array", "items": {"type": "string"}, "maxItems": 1},
            ["a", "b"],
            ["x: Too many: must have at most 1 items"],
        ),
        (
            {"type": "array", "items": {"type": "string"}},
            ["a", 1],
            ['x[1]: Invalid value: "integer": x[1] in body must be of type string: "integer"'],
        ),
        (LIST_MAP, [{"name": "a"}, {"name": "b"}], []),
        (
            LIST_MAP,
            [{"name": "a"}, {"name": "a", "y": 1}],
            ['x[1]: Duplicate value: map[string]string{"name":"a"}'],
        ),
        (
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            ["a", "a"],
            ['x[1]: Duplicate value: "a"'],
        ),
        (EITHER, {"a": "1"}, []),
        (
            EITHER,
            {},
            [
                "x: Invalid value: map[string]string{}: x in body must validate one and only one "
                "schema (oneOf). Found none valid"
            ],
        ),
        (
            EITHER,
            {"a": "1", "b": "2"},
            [
                'x: Invalid value: map[string]string{"a":"1", "b":"2"}: x in body must validate '
                "one and only one schema (oneOf). Found 2 valid alternatives"
            ],
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            True,
            ["x: Invalid value: true: x in body must validate at least one schema (anyOf)"],
        ),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, 2, []),
        (
            {"not": {"enum": ["a"]}},
            "a",
            ['x: Invalid value: "a": x in body must not validate the schema (not)'],
        ),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"any": [1]}, []),
    ],
)
def test_validate(schema: Json, value: Any, problems: list[str]) -> None:
    assert errors(schema, value) == problems


SCHEMA: Json = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "default": 3},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "map": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "properties": {"on": {"type": "boolean", "default": True}},
                    },
                },
                "list": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"a": {"type": "string"}}},
                },
            },
        }
    },
}


def test_prune() -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "n"},
        "extra": 1,
        "spec": {
            "size": 1,
            "extra": 2,
            "free": {"any": {"thing": 1}},
            "map": {"k": {"on": False, "extra": 3}},
            "list": [{"a": "b", "extra": 4}],
        },
    }
    unknown = prune(SCHEMA, obj)
    assert unknown == ["extra", "spec.extra", "spec.map.k.extra", "spec.list[0].extra"]
    assert obj == {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "n"},
        "spec": {
            "size": 1,
            "free": {"any": {"thing": 1}},
            "map": {"k": {"on": False}},
            "list": [{"a": "b"}],
        },
    }


def test_defaults() -> None:
    obj: Json = {"spec": {"map": {"k": {}, "off": {"on": False}}, "size": None}}
    fill_defaults(SCHEMA, obj)
    assert obj == {"spec": {"map": {"k": {"on": True}, "off": {"on": False}}, "size": 3}}
    assert "spec" not in filled({}), "a default inside what is absent does not make it appear"


def filled(obj: Json) -> Json:
    fill_defaults(SCHEMA, obj)
    return obj


def test_defaults_are_copies() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "default": []}}}
    one: Json = {}
    fill_defaults(schema, one)
    one["a"].append(1)
    two: Json = {}
    fill_defaults(schema, two)
    assert two == {"a": []}


@pytest.mark.parametrize(
    ("schema", "problems"),
    [
        ({"type": "object"}, []),
        ({}, ["s.type: Required value: must not be empty for specified object fields"]),
        ({"x-kubernetes-int-or-string": True}, []),
        ({"x-kubernetes-preserve-unknown-fields": True}, []),
        (
            {"type": "array"},
            ["s.items: Required value: must be specified"],
        ),
        ({"type": "object", "$ref": "#/x"}, ["s.$ref: Forbidden: $ref is not supported"]),
        (
            {"type": "object", "properties": {"a": {}}},
            ["s.properties[a].type: Required value: must not be empty for specified object fields"],
        ),
        ({"type": "object", "anyOf": [{"required": ["a"]}]}, []),
        (
            {"type": "string", "pattern": "("},
            [
                's.pattern: Invalid value: "(": must be a valid regular expression: '
                "missing ), unterminated subpattern at position 0"
            ],
        ),
        (
            {
                "type": "array",
                "items": {"type": "object"},
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["n"],
            },
            [
                's.x-kubernetes-list-map-keys: Invalid value: "n": entries must all be names of '
                "item properties"
            ],
        ),
    ],
)
def test_structural(schema: Json, problems: list[str]) -> None:
    assert [f"{e.field}: {e.text}" for e in check_structural(schema, "s")] == problems


def test_builtin_types_in_gos_words() -> None:
    deployment = {"spec": {"template": {"spec": {"containers": [{"ports": "80"}]}}}}
    with pytest.raises(ApiError) as caught:
        check_builtin_types("Deployment", "v1", deployment)
    assert caught.value.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
        "string into Go struct field Container.spec.template.spec.containers.ports of type "
        "[]v1.ContainerPort"
    )


def test_every_builtin_reference_resolves() -> None:
    types = builtin()["types"]

    def refs(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*(refs(v) for v in value.values()))
        if isinstance(value, list):
            return set().union(*(refs(v) for v in value))
        return set()

    assert refs(types) <= types.keys()


def test_builtin_prune_keeps_a_crds_schema() -> None:
    schema = {"openAPIV3Schema": {"type": "object", "anything": {"goes": 1}}}
    crd = {"spec": {"versions": [{"name": "v1", "schema": schema}]}}
    before = copy(crd)
    assert prune(builtin_schema("CustomResourceDefinition"), crd) == []
    assert crd == before

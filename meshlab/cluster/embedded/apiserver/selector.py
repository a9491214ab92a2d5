"""Label and field selectors: parsed from a query string, or as objects carry them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import at, dotted
from meshlab.cluster.embedded.apiserver.status import ApiError, bad_request

Json = dict[str, Any]
Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]
Match = Callable[[Json], bool]
"""Says whether an object is selected."""

SET_BASED = re.compile(r"\s*([^\s,!=()]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
EXISTS = re.compile(r"\s*(!?)\s*([^\s,!=()]+)\s*")
EQUALITY = re.compile(r"\s*([^\s,!=()<>]+)\s*(==|=|!=)\s*([^\s,()=!]*)\s*")
COMPARISON = re.compile(r"\s*([^\s,!=()<>]+)\s*([<>])\s*(-?\d+)\s*")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def parse_labels(text: str) -> Requirement:
    """Return what `app in (a, b), tier!=web, !canary` asks of labels.

    Raises:
        ApiError: 400 with the part that cannot be read.
    """
    requirements = [_requirement(part) for part in _parts(text)]
    return lambda labels: all(holds(labels) for holds in requirements)


def _parts(text: str) -> list[str]:
    """Split at the commas outside parentheses."""
    parts = re.split(r",(?![^(]*\))", text)
    return [part for part in parts if part.strip()]


def _requirement(part: str) -> Requirement:
    if found := SET_BASED.fullmatch(part):
        key, operator, listed = found.groups()
        values = frozenset(value.strip() for value in listed.split(","))
        return _one_of(_checked(key), operator == "in", values)
    if found := EQUALITY.fullmatch(part):
        key, operator, value = found.groups()
        if not LABEL_VALUE.fullmatch(value):
            raise _unreadable(part)
        return _one_of(_checked(key), operator != "!=", frozenset({value}))
    if found := COMPARISON.fullmatch(part):
        return _compared(_checked(found[1]), found[2], int(found[3]))
    if found := EXISTS.fullmatch(part):
        key, wanted = _checked(found[2]), not found[1]
        return lambda labels: (key in labels) == wanted
    raise _unreadable(part)


def _one_of(key: str, wanted: bool, values: frozenset[str]) -> Requirement:
    if wanted:
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values  # also where the label is missing


def _compared(key: str, operator: str, bound: int) -> Requirement:
    def holds(labels: Labels) -> bool:
        try:
            value = int(labels.get(key, ""))
        except ValueError:
            return False
        return value > bound if operator == ">" else value < bound

    return holds


def _checked(key: str) -> str:
    if not LABEL_KEY.fullmatch(key):
        raise _unreadable(key)
    return key


def _unreadable(part: str) -> ApiError:
    return bad_request(f"unable to parse requirement: {part.strip()!r} is no label requirement")


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Say whether a `LabelSelector` (`matchLabels`, `matchExpressions`) selects; None: nothing."""
    if selector is None:
        return False
    equal = all(labels.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())
    return equal and all(_expressed(e, labels) for e in selector.get("matchExpressions") or ())


def _expressed(expression: Mapping[str, Any], labels: Labels) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def written(selector: Mapping[str, Any] | None) -> str:
    """Return a `LabelSelector` in the form of a query string (for `scale` and tables)."""
    if not selector:
        return ""
    parts = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        match expression["operator"]:
            case "In" | "NotIn" as operator:
                parts.append(f"{key} {operator.lower()} ({values})")
            case "Exists":
                parts.append(key)
            case _:
                parts.append(f"!{key}")
    return ",".join(parts)


EVERYWHERE = frozenset({"metadata.name", "metadata.namespace"})
FIELDS: dict[str, frozenset[str]] = {
    "pods": frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    "events": frozenset(
        {
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        }
    ),
    "namespaces": frozenset({"status.phase"}),
    "nodes": frozenset({"spec.unschedulable"}),
    "secrets": frozenset({"type"}),
    "services": frozenset({"spec.clusterIP", "spec.type"}),
    "replicasets.apps": frozenset({"status.replicas"}),
}
"""Resource → fields its objects can be selected by, as in Kubernetes."""


def parse_fields(text: str, resource: str) -> Match:
    """Return what `status.phase!=Running,metadata.name=a` asks of an object.

    Raises:
        ApiError: 400 for a field that this resource is not selected by.
    """
    allowed = EVERYWHERE | FIELDS.get(resource, frozenset())
    tests: list[tuple[list[str], bool, str]] = []
    for part in re.split(r"(?<!\\),", text):
        if not part.strip():
            continue
        found = re.fullmatch(r"\s*([^=!\s]+)\s*(==|=|!=)(.*)", part)
        if not found:
            raise bad_request(f"invalid field selector: {part!r}; can't understand it")
        field, operator, value = found.groups()
        if field not in allowed:
            raise bad_request(f"field label not supported: {field}")
        tests.append((dotted(field), operator != "!=", value.strip().replace("\\", "")))
    return lambda obj: all((_text(at(obj, *p)) == v) == wanted for p, wanted, v in tests)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def matcher(labels: str, fields: str, resource: str) -> Match | None:
    """Return the test for both selectors together; None when neither asks for anything."""
    if not labels and not fields:
        return None
    by_label = parse_labels(labels)
    by_field = parse_fields(fields, resource)
    return lambda obj: by_label(obj["metadata"].get("labels") or {}) and by_field(obj)

"""The three kinds of patch: JSON (RFC 6902), merge (RFC 7386) and Kubernetes' strategic merge."""

import re
from collections.abc import Mapping
from typing import Any

from meshlab.cluster.embedded.apiserver.json_object import copy
from meshlab.cluster.embedded.apiserver.schema import resolve
from meshlab.cluster.embedded.apiserver.status import ApiError, bad_request

Json = dict[str, Any]
Schema = Mapping[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
KINDS = {"json": JSON_PATCH, "merge": MERGE_PATCH, "strategic": STRATEGIC_MERGE_PATCH}
MAX_OPERATIONS = 10_000


def apply_patch(media_type: str, target: Json, patch: Any, schema: Schema | None) -> Json:
    """Return the patched object; `target` may be changed on the way.

    Args:
        media_type: one of the three constants above.
        target: the object; the caller's own copy.
        patch: the decoded patch.
        schema: the object's type, whose merge keys a strategic patch needs.

    Raises:
        ApiError: 400 for a patch that is none, 422 for one that does not fit the object.
    """
    if media_type == JSON_PATCH:
        result = json_patch(target, patch)
    elif not isinstance(patch, dict):
        raise bad_request("a merge patch is a JSON object")
    elif media_type == STRATEGIC_MERGE_PATCH and schema is not None:
        result = strategic_merge(target, patch, schema)
    else:
        result = merge_patch(target, patch)
    if not isinstance(result, dict):
        raise bad_request("the patched object is no JSON object")
    return result


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` changed as RFC 7386 §2 says."""
    if not isinstance(patch, dict):
        return copy(patch)
    result: Json = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


# --- JSON patch -------------------------------------------------------------------------------


def json_patch(target: Any, operations: Any) -> Any:
    """Return `target` after all operations, or refuse them together (RFC 6902)."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise ApiError(
            413, "RequestEntityTooLarge", f"a JSON patch has at most {MAX_OPERATIONS} operations"
        )
    holder = {"": target}
    for operation in operations:
        try:
            _operate(holder, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request: "
                f"{operation!r}: {error}",
            ) from error
    return holder[""]


def _operate(holder: Json, operation: Json) -> None:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            _add(holder, path, copy(operation["value"]))
        case "remove":
            _remove(holder, path)
        case "replace":
            _find(holder, path)
            parent, key = _place(holder, path)
            parent[key] = copy(operation["value"])
        case "move":
            _add(holder, path, _remove(holder, _pointer(operation["from"])))
        case "copy":
            _add(holder, path, copy(_find(holder, _pointer(operation["from"]))))
        case "test":
            if _find(holder, path) != operation.get("value"):
                raise ValueError(f"testing value {operation['path']} failed")
        case other:
            raise ValueError(f"unknown operation {other!r}")


def _pointer(text: str) -> list[str]:
    """Return the steps of a JSON pointer (RFC 6901), from the holder's one key on."""
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} is no JSON pointer")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")]


def _find(value: Any, path: list[str]) -> Any:
    for step in path:
        value = value[_index(step, len(value))] if isinstance(value, list) else value[step]
    return value


def _place(holder: Json, path: list[str]) -> tuple[Any, Any]:
    """Return the container and the key that a path ends in."""
    parent = _find(holder, path[:-1])
    if isinstance(parent, list):
        return parent, _index(path[-1], len(parent))
    if not isinstance(parent, dict):
        raise TypeError(f"{'/'.join(path[:-1])} holds no fields")
    return parent, path[-1]


def _index(step: str, length: int) -> int:
    if not re.fullmatch(r"0|[1-9]\d*", step) or int(step) >= length:
        raise IndexError(f"no element {step}")
    return int(step)


def _add(holder: Json, path: list[str], value: Any) -> None:
    parent = _find(holder, path[:-1])
    if isinstance(parent, list):
        index = len(parent) if path[-1] == "-" else _index(path[-1], len(parent) + 1)
        parent.insert(index, value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise TypeError(f"{'/'.join(path[:-1])} holds no fields")


def _remove(holder: Json, path: list[str]) -> Any:
    parent, key = _place(holder, path)
    return parent.pop(key)


# --- strategic merge patch --------------------------------------------------------------------

DIRECTIVE = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_VALUES = "$deleteFromPrimitiveList/"
ORDER = "$setElementOrder/"


def strategic_merge(target: Json, patch: Json, schema: Schema) -> Json:
    """Return `target` changed by a strategic merge patch; lists merge by the schema's keys."""
    schema = resolve(schema)
    if patch.get(DIRECTIVE) == "replace":
        return {key: copy(item) for key, item in patch.items() if key != DIRECTIVE}
    if patch.get(DIRECTIVE) == "delete":
        return {}
    result = dict(target)
    retained = patch.get(RETAIN_KEYS)
    if isinstance(retained, list):
        result = {key: item for key, item in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(DELETE_VALUES):
            field = key.removeprefix(DELETE_VALUES)
            result[field] = [item for item in result.get(field) or () if item not in value]
        elif not key.startswith("$"):
            _merge_field(result, key, value, _below(schema, key))
    for key, order in patch.items():
        if key.startswith(ORDER):
            field = key.removeprefix(ORDER)
            _reorder(result, field, order, _below(schema, field), patch.get(field))
    return result


def _below(schema: Schema, key: str) -> Schema:
    found = (schema.get("properties") or {}).get(key) or schema.get("additionalProperties")
    return found if isinstance(found, Mapping) else {}


def _merge_field(result: Json, key: str, value: Any, schema: Schema) -> None:
    present = result.get(key)
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        if value.get(DIRECTIVE) == "delete":
            result.pop(key, None)
            return
        result[key] = strategic_merge(present if isinstance(present, dict) else {}, value, schema)
    elif isinstance(value, list) and schema.get("x-kubernetes-patch-strategy", "").startswith(
        "merge"
    ):
        present = present if isinstance(present, list) else []
        merge_key = schema.get("x-kubernetes-patch-merge-key")
        if merge_key:
            result[key] = _merge_list(present, value, merge_key, schema["items"])
        else:
            result[key] = present + [item for item in value if item not in present]
    else:
        result[key] = copy(value)


def _merge_list(present: list[Any], patch: list[Any], key: str, schema: Schema) -> list[Json]:
    """Return a list of objects merged one by one, found by their merge key."""
    if any(isinstance(entry, dict) and entry.get(DIRECTIVE) == "replace" for entry in patch):
        return [copy(entry) for entry in patch if entry.get(DIRECTIVE) != "replace"]
    merged = list(present)
    for entry in patch:
        if not isinstance(entry, dict) or key not in entry:
            raise bad_request(f"map: {entry!r} does not contain declared merge key: {key}")
        places = [i for i, item in enumerate(merged) if item.get(key) == entry[key]]
        if entry.get(DIRECTIVE) == "delete":
            merged = [item for item in merged if item.get(key) != entry[key]]
        elif places:
            merged[places[0]] = strategic_merge(merged[places[0]], entry, schema)
        else:
            merged.append(strategic_merge({}, entry, schema))
    return merged


def _reorder(result: Json, field: str, order: list[Any], schema: Schema, patched: Any) -> None:
    """Sort a merged list as `$setElementOrder` says.

    Entries the order does not name (someone else put them there) keep their place after the
    entry they followed.
    """
    present = result.get(field)
    if not isinstance(present, list):
        return
    key = schema.get("x-kubernetes-patch-merge-key")
    wanted = [item.get(key) if key and isinstance(item, dict) else item for item in order]
    named: dict[Any, list[Any]] = {}
    before: list[Any] = []
    following: dict[Any, list[Any]] = {}
    last: Any = None
    for item in present:
        mark = item.get(key) if key and isinstance(item, dict) else item
        if mark in wanted:
            named.setdefault(mark, []).append(item)
            last = mark
        elif last is None:
            before.append(item)
        else:
            following.setdefault(last, []).append(item)
    ordered = before
    for mark in dict.fromkeys(wanted):
        ordered += named.get(mark, []) + following.get(mark, [])
    result[field] = ordered

"""Label selectors as objects carry them: `matchLabels` and `matchExpressions` (all must hold)."""

from collections.abc import Mapping
from typing import Any


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Say whether a `LabelSelector` selects these labels; an empty one does all, None nothing."""
    if selector is None:
        return False
    labels = labels or {}
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":  # also where the label is missing, as Kubernetes has it
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:  # DoesNotExist: the API server lets no other in
            return value is None

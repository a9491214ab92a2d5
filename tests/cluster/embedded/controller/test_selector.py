from typing import Any

import pytest

from meshlab.cluster.embedded.controller.selector import matches


def expression(operator: str, *values: str) -> dict[str, Any]:
    found: dict[str, Any] = {"key": "app", "operator": operator}
    return {"matchExpressions": [found | {"values": list(values)} if values else found]}


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        pytest.param(None, {"app": "a"}, False, id="none selects nothing"),
        pytest.param({}, None, True, id="an empty one selects all"),
        pytest.param({"matchLabels": {"app": "a"}}, {"app": "a", "v": "1"}, True, id="equal"),
        pytest.param({"matchLabels": {"app": "a", "v": "2"}}, {"app": "a"}, False, id="all must"),
        pytest.param(expression("In", "a", "b"), {"app": "b"}, True, id="In"),
        pytest.param(expression("In", "a"), {}, False, id="In without the label"),
        pytest.param(expression("NotIn", "a"), {}, True, id="NotIn without the label"),
        pytest.param(expression("NotIn", "a"), {"app": "a"}, False, id="NotIn"),
        pytest.param(expression("Exists"), {"app": ""}, True, id="Exists"),
        pytest.param(expression("DoesNotExist"), {"app": ""}, False, id="DoesNotExist"),
    ],
)
def test_matches(selector: Any, labels: Any, selected: bool) -> None:
    assert matches(selector, labels) is selected

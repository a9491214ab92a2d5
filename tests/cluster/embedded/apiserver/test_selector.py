import pytest

from meshlab.cluster.embedded.apiserver.selector import (
    matcher,
    parse_fields,
    parse_labels,
    selects,
    written,
)
from meshlab.cluster.embedded.apiserver.status import ApiError

WEB = {"app": "web", "tier": "front", "track": "3"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        pytest.param("", True, id="empty selects all"),
        pytest.param("app=web", True, id="equals"),
        pytest.param("app==web", True, id="equals twice"),
        pytest.param("app=api", False, id="other value"),
        pytest.param("app!=api", True, id="not equals"),
        pytest.param("missing!=x", True, id="not equals, label missing"),
        pytest.param("app", True, id="exists"),
        pytest.param("!app", False, id="not exists"),
        pytest.param("!missing", True, id="missing"),
        pytest.param("app in (web, api)", True, id="in"),
        pytest.param("app in (api)", False, id="in others"),
        pytest.param("app notin (api,db)", True, id="notin"),
        pytest.param("missing notin (a)", True, id="notin, label missing"),
        pytest.param("app in (web),tier=front", True, id="and"),
        pytest.param("app in (web,api),tier!=front", False, id="and, one fails"),
        pytest.param("track>2", True, id="greater"),
        pytest.param("track<3", False, id="less"),
        pytest.param("app>2", False, id="greater, no number"),
        pytest.param("app=", False, id="equals empty"),
        pytest.param(" app = web ", True, id="spaces"),
    ],
)
def test_labels(text: str, selected: bool) -> None:
    assert parse_labels(text)(WEB) is selected


@pytest.mark.parametrize("text", ["app in web", "=web", "app=a b", "a==b==c", "app in (a", "-x=1"])
def test_unreadable_labels(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels(text)
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("status.phase=Running", True),
        ("status.phase!=Running", False),
        ("spec.nodeName=", True),
        ("metadata.name=p,status.phase==Running", True),
        ("metadata.namespace=other", False),
        ("spec.hostNetwork=true", True),
    ],
)
def test_fields(text: str, selected: bool) -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"hostNetwork": True},
        "status": {"phase": "Running"},
    }
    assert parse_fields(text, "pods")(pod) is selected


def test_field_that_is_no_index() -> None:
    with pytest.raises(ApiError, match=r"field label not supported: spec\.replicas"):
        parse_fields("spec.replicas=1", "deployments.apps")


def test_no_selector_costs_nothing() -> None:
    assert matcher("", "", "pods") is None


@pytest.mark.parametrize(
    ("selector", "selected", "text"),
    [
        (None, False, ""),
        ({}, True, ""),
        ({"matchLabels": {"app": "web"}}, True, "app=web"),
        (
            {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]},
            True,
            "app in (api,web)",
        ),
        (
            {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]},
            False,
            "app notin (web)",
        ),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True, "app"),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False, "!app"),
    ],
)
def test_label_selector(selector: dict | None, selected: bool, text: str) -> None:
    assert selects(selector, WEB) is selected
    assert written(selector) == text
    if selector and text:
        assert parse_labels(text)(WEB) is selected

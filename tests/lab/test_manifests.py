"""The labs' files: usable with kubectl as they are, and the same where they say the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from meshlab.api import registry

MANIFESTS = Path(__file__).parents[2] / "labs" / "manifests"
FILES = sorted(MANIFESTS.rglob("*.yaml"))


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_every_object_says_where_it_goes(path: Path) -> None:
    """Applied from any kubectl context it must not land in `default`."""
    for obj in yaml.safe_load_all(path.read_text()):
        assert obj["kind"] == "Namespace" or obj["metadata"].get("namespace")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_every_mesh_object_is_one_that_we_take(path: Path) -> None:
    for obj in yaml.safe_load_all(path.read_text()):
        if registry.supports(obj):
            registry.decode(obj)


def test_labs_that_share_an_app_have_the_same() -> None:
    shift, gateway = (
        objects("04_traffic_shift/01-bluegreen.yaml"),
        objects("03_gateway/01-bluegreen.yaml"),
    )
    assert shift == gateway
    first = objects("01_two_versions/01-bluegreen.yaml")
    assert first[1:] == gateway[1:]
    assert "labels" not in first[0]["metadata"]
    assert objects("02_injection/01-bluegreen.yaml")[: len(first)] == first


def test_the_talks_gateway() -> None:
    (gateway,) = objects("04_traffic_shift/02-gateway.yaml")
    assert (gateway["metadata"]["name"], gateway["metadata"]["namespace"]) == (
        "bluegreen-gateway",
        "bluegreen",
    )
    assert gateway["spec"] == {
        "selector": {"istio": "ingressgateway"},
        "servers": [
            {
                "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                "hosts": ["bluegreen.example.com"],
            }
        ],
    }


def test_the_workshops_retry() -> None:
    (service,) = objects("09_retry/04-retry.yaml")
    (rule,) = service["spec"]["http"]
    assert rule["retries"] == {"attempts": 40, "perTryTimeout": "1s", "retryOn": "gateway-error"}
    assert (rule["timeout"], [r["weight"] for r in rule["route"]]) == ("60s", [50, 50])
    assert objects("workshop/lab11/04-Retry.yaml") == [service]


def test_the_2017_exercise_is_as_it_was() -> None:
    _, *deployments = objects("09_retry/exercise-2017/deployment.yaml")
    assert {d["apiVersion"] for d in deployments} == {"extensions/v1beta1"}
    assert all("selector" not in d["spec"] for d in deployments)

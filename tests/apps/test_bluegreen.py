import json
import random

import pytest

from meshlab.apps.bluegreen import BlueGreen, Settings
from meshlab.apps.server import Request, Response


def app(seed: int = 1, **environment: str) -> BlueGreen:
    names = {name.replace("_", "-"): value for name, value in environment.items()}
    return BlueGreen(Settings.from_environment(names), instance="pod-1", dice=random.Random(seed))


def get(service: BlueGreen, path: str, method: str = "GET", **more: object) -> Response:
    return service.handle(Request(method=method, path=path, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        pytest.param({}, Settings(color="undefined"), id="no colour"),
        pytest.param({"color": "blue"}, Settings(color="blue"), id="blue"),
        pytest.param(
            {"color": "red", "buggy": "True", "buggy-status": "503"},
            Settings(color="red", buggy=True, fail_percent=25, status=503),
            id="buggy in any case",
        ),
        pytest.param(
            {"buggy": "true", "buggy-status": "many"},
            Settings(buggy=True, fail_percent=25, status=502),
            id="a status that is none",
        ),
        pytest.param({"buggy": "yes", "delay": "0.5"}, Settings(delay=0.5), id="only true counts"),
    ],
)
def test_settings(environment: dict[str, str], settings: Settings) -> None:
    assert Settings.from_environment(environment) == settings


def test_color() -> None:
    assert get(app(color="blue"), "/api/color") == Response(
        body=b"blue",
        chunked=True,
        headers=(("x-instance", "pod-1"), ("x-request-count", "1")),
    )


def test_color_for_a_client_that_takes_only_json() -> None:
    answer = get(app(color="blue"), "/api/color", headers={"accept": "application/json"})
    assert (answer.content_type, answer.body) == ("application/json; charset=utf-8", b'"blue"')


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/color", 405),
        ("HEAD", "/api/color", 405),
        ("GET", "/api/colors", 404),
        ("GET", "/", 404),
    ],
)
def test_other_verbs_and_paths(method: str, path: str, status: int) -> None:
    service = app(color="blue")
    answer = get(service, path, method)
    assert (answer.status, answer.body, service.requests) == (status, b"", 0)


def test_buggy_fails_a_quarter_repeatably() -> None:
    first, second = (app(seed=7, color="red", buggy="true") for _ in range(2))
    statuses = [get(first, "/api/color").status for _ in range(4000)]
    assert statuses == [get(second, "/api/color").status for _ in range(4000)]
    # exact band of a fair 25 %: 4000 draws lie in 894..1108 but once in 10,000 seeds
    assert 894 <= statuses.count(502) <= 1108
    assert set(statuses) == {200, 502}
    assert (first.requests, first.failed) == (4000, statuses.count(502))


def test_problem_details() -> None:
    service = app(color="red", buggy="true")
    service.settings = Settings(color="red", fail_percent=100, status=502)
    answer = get(service, "/api/color")
    problem = json.loads(answer.body)
    assert answer.content_type == "application/problem+json; charset=utf-8"
    assert (problem["title"], problem["status"]) == ("Bad Gateway", 502)


@pytest.mark.parametrize(
    ("buggy", "status", "body"), [("", 200, b"Healthy"), ("true", 503, b"Unhealthy")]
)
def test_health(buggy: str, status: int, body: bytes) -> None:
    answer = get(app(buggy=buggy), "/health")
    assert (answer.status, answer.body) == (status, body)


def test_misbehave_and_behave() -> None:
    service = app(color="blue", buggy="false")
    get(service, "/misbehave", query={"status": "500", "delay": "0.2"})
    bad = get(service, "/api/color")
    assert (bad.status, bad.delay, get(service, "/health").status) == (500, 0.2, 200)
    get(service, "/behave")
    good = get(service, "/api/color")
    assert (good.status, good.delay, good.body) == (200, 0.0, b"blue")
    assert json.loads(get(service, "/counter").body) == {"requests": 2, "failed": 1}

import pytest

from meshlab.apps import echo
from meshlab.apps.server import Request, Response


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ({}, Response(body=b"in")),
        ({"status": "404"}, Response(status=404, body=b"in")),
        ({"status": "503:100"}, Response(status=503, body=b"in")),
        ({"status": "503:0"}, Response(status=200, body=b"in")),
        ({"status": "abc"}, Response(status=400, body=b"in")),
        ({"size": "3"}, Response(body=b"xxx")),
        ({"delay": "250ms"}, Response(body=b"in", delay=0.25)),
        ({"delay": "1h"}, Response(body=b"in", delay=1.5)),
        (
            {"header": "a: b", "close": "true"},
            Response(body=b"in", headers=(("a", "b"),), close=True),
        ),
    ],
)
def test_handle(query: dict[str, str], response: Response) -> None:
    assert echo.handle(Request(method="POST", path="/", query=query, body=b"in")) == response

import pytest

from meshlab.apps.flag import Flag, FlagError, boolean, parse

FLAGS = {
    "n": Flag(int, 0, "calls"),
    "quiet": Flag(boolean, False, "say less"),
    "keepalive": Flag(boolean, True, "keep"),
    "H": Flag(str, [], "header", repeated=True),
}


@pytest.mark.parametrize(
    ("line", "changed", "rest"),
    [
        pytest.param("-n 20 url", {"n": 20}, ["url"], id="value apart"),
        pytest.param("--n=20 url", {"n": 20}, ["url"], id="two dashes, equals"),
        pytest.param("-quiet url", {"quiet": True}, ["url"], id="a boolean takes no word"),
        pytest.param("-keepalive=false", {"keepalive": False}, [], id="a boolean off"),
        pytest.param("-H a:1 -H b:2", {"H": ["a:1", "b:2"]}, [], id="repeated"),
        pytest.param("url -n 2", {}, ["url", "-n", "2"], id="flags end at the first argument"),
        pytest.param("-- -n", {}, ["-n"], id="two dashes end them"),
    ],
)
def test_parse(line: str, changed: dict[str, object], rest: list[str]) -> None:
    values = {"n": 0, "quiet": False, "keepalive": True, "H": []}
    assert parse(line.split(), FLAGS) == (values | changed, rest)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-m 2", "flag provided but not defined: -m"),
        ("-n", "flag needs an argument: -n"),
        ("-n x", 'invalid value "x" for flag -n'),
        ("-quiet=maybe", 'invalid value "maybe" for flag -quiet'),
    ],
)
def test_refuses(line: str, message: str) -> None:
    with pytest.raises(FlagError, match=message):
        parse(line.split(), FLAGS)

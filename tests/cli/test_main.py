import argparse
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from meshlab.cli import main
from meshlab.errors import ConfigError


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 0
    shown = capsys.readouterr().out
    assert [v for v in main.VERBS if f"\n  {v} " not in shown] == []


def test_help_is_quick_since_it_imports_no_verb() -> None:
    code = (
        "import sys; from meshlab.cli.main import main; main(['--help']); "
        "print([m for m in ('httpx', 'yaml', 'kubernetes', 'meshlab.mesh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([verb, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "example:\n  " in shown
    assert f"meshlab {verb}" in shown
    assert verb == "completion" or "--name CLUSTER" in shown


@pytest.mark.parametrize(
    ("word", "line"),
    [
        pytest.param("dwon", "meshlab: no verb 'dwon'; did you mean `down`?", id="near"),
        pytest.param("xyzzy", "meshlab: no verb 'xyzzy'; see `meshlab --help`.", id="far"),
    ],
)
def test_an_unknown_verb(word: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([word]) == 2
    assert capsys.readouterr().err == f"{line}\n"


ERROR = ConfigError(
    "is negative",
    object="VirtualService shop/blue",
    field="spec.http[0].route[1].weight",
    found="-1",
    allowed="0 to 100",
    fix="Give a share.",
)
LINE = (
    "error: VirtualService shop/blue: spec.http[0].route[1].weight: is negative "
    "(found -1; allowed: 0 to 100). Give a share."
)


class SeveralError(ConfigError):
    problems = (ERROR, ERROR)


@pytest.mark.parametrize(
    ("raised", "code", "lines"),
    [
        pytest.param(ERROR, 1, [LINE], id="one line"),
        pytest.param(SeveralError("both"), 1, [LINE, LINE], id="a line a problem"),
        pytest.param(KeyboardInterrupt(), 130, [], id="interrupted"),
    ],
)
def test_errors(
    raised: BaseException,
    code: int,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(_args: argparse.Namespace) -> int:
        raise raised

    module = SimpleNamespace(__doc__="d", EXAMPLE="e", arguments=lambda _: None, run=run)
    monkeypatch.setattr(main.importlib, "import_module", lambda _: module)
    assert main.main(["down"]) == code
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    ("given", "own", "rest"),
    [
        pytest.param(
            ["-qps", "5", "--name", "two", "http://x"],
            ["--name", "two"],
            ["-qps", "5", "http://x"],
            id="ours among fortio's",
        ),
        pytest.param(["--name=two", "-n", "3"], ["--name=two"], ["-n", "3"], id="with ="),
        pytest.param(["-offset", "1s"], [], ["-offset", "1s"], id="not our -o"),
        pytest.param(["-o", "json", "u"], ["-o", "json"], ["u"], id="our -o"),
        pytest.param(["-h"], ["-h"], [], id="help takes no value"),
    ],
)
def test_split(given: list[str], own: list[str], rest: list[str]) -> None:
    parser: Any = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--name")
    parser.add_argument("-o", "--output")
    assert main.split(given, parser) == (own, rest)

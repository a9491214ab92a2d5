"""The verbs' own pure parts; what needs a cluster is in tests/e2e."""

import argparse
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from meshlab.change import Acknowledged, Change, Changes
from meshlab.cli import apply, completion, doctor, load, main, proxy_config, status, up
from meshlab.errors import ConfigError
from meshlab.observe.config_dump import VIEWS, Row
from meshlab.summary import Summary


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_verbs_and_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.run(argparse.Namespace(shell=shell)) == 0
    script = capsys.readouterr().out
    assert 'words="up down stop status' in script
    assert "--no-mesh" in completion.words_of(main.VERBS["up"])
    assert {"routes", "all", "--fqdn"} <= set(completion.words_of(main.VERBS["proxy-config"]))


def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    completion.run(argparse.Namespace(shell="bash"))
    script = capsys.readouterr().out + (
        'complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _meshlab; '
        'echo "${COMPREPLY[@]}"; }\n'
        "complete_line meshlab proxy-s\ncomplete_line meshlab up --no\n"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["proxy-status", "--no-mesh"]


@pytest.mark.parametrize(
    ("pairs", "settings"),
    [
        pytest.param([], {}, id="none"),
        pytest.param(["a=b", "c=d=e"], {"a": "b", "c": "d=e"}, id="two"),
    ],
)
def test_settings(pairs: list[str], settings: dict[str, str]) -> None:
    assert up.settings(pairs) == settings


def test_a_setting_without_a_value() -> None:
    with pytest.raises(ConfigError, match=r"--set: is not KEY=VALUE \(found 'dataplane'\)"):
        up.settings(["dataplane"])


def test_status_table() -> None:
    rows = [
        Summary(name="a", state="running", pods="2/2", mesh="3 proxies", ingress="http://x"),
        Summary(name="b", state="broken", problems="no watchdog"),
    ]
    assert status.table(rows).text() == (
        "NAME   STATE     PODS READY   MESH        INGRESS    SERVER\n"
        "a      running   2/2          3 proxies   http://x   -\n"
        "b      broken    -            -           -          -\n"
        "b: no watchdog"
    )


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("bluegreen.example.com", False)],
)
def test_hosts_that_are_dialled_as_they_are(host: str, here: bool) -> None:
    assert load.is_here(host) is here


def test_memory_available() -> None:
    assert doctor.memory_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n") == 2 << 20


def test_doctor_runs_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.run(argparse.Namespace(output="json"))
    shown = capsys.readouterr().out
    for name in ("Linux", "namespaces", "nft", "ip", "kubectl", "memory", "inotify"):
        assert f'"what": "{name}"' in shown


ROWS = [
    Row(("blue", "80", "v1", "outbound", "EDS", ""), {"name": "blue"}),
    Row(("green", "80", "-", "outbound", "EDS", ""), {"name": "green"}),
]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        pytest.param([], ["blue", "green"], id="all"),
        pytest.param(["--fqdn", "blue"], ["blue"], id="one"),
        pytest.param(["--route", "80"], [], id="a column of another view"),
    ],
)
def test_proxy_config_flags(flags: list[str], names: list[str]) -> None:
    parser = argparse.ArgumentParser()
    proxy_config.arguments(parser)
    args = parser.parse_args(["clusters", "pod", *flags])
    found = proxy_config.chosen(VIEWS["clusters"], ROWS, args)
    assert [row.source["name"] for row in found] == names


@pytest.mark.parametrize("form", ["table", "json"])
def test_apply(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Acknowledged(synced=False, seconds=5.0, proxies=["a"], pending={"b": "waits"})
    changes = Changes(
        changes=[Change(reference="virtualservice/x", verb="created", acknowledged=told)],
        command="kubectl apply -f x.yaml",
    )
    seen: list[Any] = []

    def applied(source: str, namespace: str | None) -> Changes:
        seen.append((source, namespace))
        return changes

    monkeypatch.setattr("meshlab.mesh.attach", lambda _: SimpleNamespace(apply=applied))
    args = argparse.Namespace(name="m", filename="x.yaml", namespace="shop", output=form)
    assert apply.run(args) == 1  # not in force everywhere
    assert seen == [("x.yaml", "shop")]
    shown = capsys.readouterr().out
    if form == "table":
        assert shown == changes.text() + "\n"
    else:
        assert '"pending": [\n        "b"\n      ]' in shown

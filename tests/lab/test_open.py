import json
import socket
from pathlib import Path

from meshlab.lab.open import SET_ASIDE, copy_labs, free_port, jupyter_command


def labs_with(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_an_edited_copy_is_kept_and_an_untouched_one_follows_its_original(tmp_path: Path) -> None:
    labs, copies = labs_with(tmp_path / "labs", a="one", b="one"), tmp_path / "my-labs"
    assert copy_labs(labs, copies) == []
    (copies / "a.ipynb").write_text("mine")
    labs_with(labs, a="two", b="two")
    assert copy_labs(labs, copies) == ["a.ipynb"]
    assert (copies / "a.ipynb").read_text() == "mine"
    assert (copies / "b.ipynb").read_text() == "two"


def test_fresh_restores_and_sets_the_edit_aside(tmp_path: Path) -> None:
    labs, copies = labs_with(tmp_path / "labs", a="one"), tmp_path / "my-labs"
    copy_labs(labs, copies)
    (copies / "a.ipynb").write_text("mine")
    assert copy_labs(labs, copies, fresh=True) == []
    assert (copies / "a.ipynb").read_text() == "one"
    assert [path.read_text() for path in (copies / SET_ASIDE).rglob("a.ipynb")] == ["mine"]


def test_a_busy_port_means_the_next_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_jupyter_asks_nothing_of_the_network(tmp_path: Path) -> None:
    command = jupyter_command(tmp_path, 8890, browser=False)
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in command
    assert "--ServerApp.ip=127.0.0.1" in command
    assert json.dumps(command).count("8890") == 1

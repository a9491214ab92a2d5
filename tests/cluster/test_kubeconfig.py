"""Kubeconfig files."""

from pathlib import Path

from meshlab.cluster import kubeconfig

CONFIG = {
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)
    kubeconfig.write(path, CONFIG)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["kubeconfig"]
    assert kubeconfig.server(path) == "https://127.0.0.1:1"


def test_no_file_no_server(tmp_path: Path) -> None:
    assert kubeconfig.server(tmp_path / "kubeconfig") == ""

from pathlib import Path
from typing import Any

import pytest

from meshlab import manifest
from meshlab.errors import ConfigError
from meshlab.route import Route


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


TEXT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\n" + (
    "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n"
)

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]\n" for i in range(1, 10)
)
MERGE_BOMB = "a0: &a0 {x: y}\n" + "".join(
    f"a{i}: &a{i} {{<<: [" + ", ".join([f"*a{i - 1}"] * 10) + "]}\n" for i in range(1, 10)
)


def test_text_file_folder_and_objects_are_alike(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(TEXT)
    (tmp_path / "notes.txt").write_text("not ours")
    both = [config_map("a"), config_map("b")]
    for source in (TEXT, tmp_path, tmp_path / "1.yaml", str(tmp_path / "1.yaml"), both):
        assert manifest.read(source) == both
    route = Route(host="x", name="x", namespace="shop").to("x")
    assert manifest.read(route) == [route.manifest]
    assert manifest.read(config_map("a")) == [config_map("a")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("a: [\n", "the text line 2: is not YAML", id="not YAML"),
        pytest.param(
            BOMB, "the text: becomes too large once its aliases are written out", id="bomb"
        ),
        pytest.param(MERGE_BOMB, "the text: becomes too large", id="bomb of merge keys"),
        pytest.param("a: &a [*a]\n", "the text: becomes too large", id="alias inside itself"),
        pytest.param("[" * 5000 + "\n", "the text: is nested too deeply", id="deep"),
        pytest.param("a: 1\n", "the text: apiVersion: is not a Kubernetes object", id="no object"),
        pytest.param("- 1\n", "the text: apiVersion: is not a Kubernetes object", id="no mapping"),
        pytest.param(
            "apiVersion: v1\nkind: Pod\n",
            "the text: Pod: metadata.name: has no name",
            id="no name",
        ),
        pytest.param("nowhere.yaml", "nowhere.yaml: cannot be read: No such file", id="no file"),
    ],
)
def test_what_is_wrong_is_named(source: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        manifest.read(source)
    assert str(caught.value).startswith(message)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no \.yaml"):
        manifest.read(tmp_path)

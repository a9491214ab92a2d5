"""Contents of volumes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshlab.cluster.embedded.node.environment import ConfigMissing
from meshlab.cluster.embedded.node.volume import File, Sources, Volumes, write_atomically

CONFIG = {
    "kind": "ConfigMap",
    "metadata": {"name": "cm", "namespace": "shop"},
    "data": {"a": "1", "b": "2"},
}


TOKEN = {"path": "t", "audience": "istio-ca", "expirationSeconds": 600}
LABELS = {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}


def volumes(directory: Path, *specs: dict[str, Any]) -> Volumes:
    pod = {
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"volumes": list(specs), "containers": [{"name": "app"}]},
    }

    def fetch(resource: str, name: str) -> dict[str, Any] | None:
        return CONFIG if (resource, name) == ("configmaps", "cm") else None

    async def token(audiences: list[str], seconds: int) -> tuple[str, float]:
        return f"token for {audiences} {seconds}", 1000.0 + seconds

    return Volumes(directory, Sources(pod=pod, fetch=fetch, token=token, capacity={"cpu": "2"}))


def files(directory: Path, spec: dict[str, Any]) -> dict[str, File]:
    return asyncio.run(volumes(directory).files({"name": "v", **spec}))


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        pytest.param(
            {"configMap": {"name": "cm"}},
            {"a": File(b"1", 0o644), "b": File(b"2", 0o644)},
            id="all keys",
        ),
        pytest.param(
            {"configMap": {"name": "cm", "items": [{"key": "a", "path": "x/y", "mode": 0o600}]}},
            {"x/y": File(b"1", 0o600)},
            id="one key elsewhere",
        ),
        pytest.param(
            {"configMap": {"name": "no", "optional": True}}, {}, id="optional and not there"
        ),
        pytest.param(
            {
                "projected": {
                    "defaultMode": 0o400,
                    "sources": [
                        {"serviceAccountToken": TOKEN},
                        {"configMap": {"name": "cm", "items": [{"key": "b", "path": "b"}]}},
                        {"downwardAPI": {"items": [LABELS]}},
                    ],
                }
            },
            {
                "t": File(b"token for ['istio-ca'] 600", 0o400),
                "b": File(b"2", 0o400),
                "l": File(b'app="web"', 0o400),
            },
            id="projected",
        ),
    ],
)
def test_files(tmp_path: Path, spec: dict[str, Any], found: dict[str, File]) -> None:
    assert files(tmp_path, spec) == found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        (
            {"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}},
            "references non-existent configmap key: z",
        ),
        ({"hostPath": {"path": "/"}}, "of kind hostPath, which the embedded cluster does not have"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigMissing, match=message):
        files(tmp_path, spec)


def test_files_change_all_at_once(tmp_path: Path) -> None:
    write_atomically(tmp_path, {"a": File(b"1"), "d/b": File(b"1")}, None)
    first = (tmp_path / "..data").readlink()
    write_atomically(tmp_path, {"a": File(b"2", 0o600)}, None)
    assert (tmp_path / "a").read_bytes() == b"2"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / first).exists()
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a"]


def test_a_token_is_renewed_after_four_fifths_of_its_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshlab.cluster.embedded.node.volume.time.time", lambda: 1000.0)
    source = {"serviceAccountToken": {"path": "t", "expirationSeconds": 600}}
    found = volumes(tmp_path, {"name": "v", "projected": {"sources": [source]}})
    asyncio.run(found.files(found.specs[0]))
    assert found.refresh_at == {"v": 1480.0}
    assert asyncio.run(found.refresh(1000.0)) == 1480.0


def test_a_volume_knows_what_it_uses(tmp_path: Path) -> None:
    source = {"secret": {"name": "s"}}
    found = volumes(tmp_path, {"name": "v", "projected": {"sources": [source]}})
    assert found.uses("secrets", "s")
    assert not found.uses("configmaps", "s")


def test_mounts(tmp_path: Path) -> None:
    found = volumes(
        tmp_path, {"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cm"}}
    )
    (tmp_path / "e").mkdir()
    container = {
        "volumeMounts": [
            {"name": "e", "mountPath": "/a/b/", "subPathExpr": "$(X)/y"},
            {"name": "c", "mountPath": "/c"},
        ]
    }
    assert found.mounts(container, {"X": "x"}) == [
        {"source": str(tmp_path / "c"), "target": "/c", "read_only": True},
        {"source": str(tmp_path / "e/x/y"), "target": "/a/b", "read_only": False},
    ]
    with pytest.raises(ConfigMissing, match="leads out of its volume"):
        found.below(tmp_path / "e", "../..")

"""The Kubernetes client, against the real API server."""

import base64
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshlab.errors import ClusterError
from meshlab.kube import Kube, KubeError, Result, access, exit_code

Object = dict[str, Any]


@pytest.fixture
def space(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test."""
    name = request.node.name.partition("[")[0].replace("_", "-")[:60].rstrip("-")
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    kube.delete("namespaces", name)


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, *images: str, **spec: Any) -> Object:
    labels = {"app": name}
    containers = [{"name": f"c{n}", "image": image} for n, image in enumerate(images)]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            **spec,
        },
    }


def test_apply_get_list_delete(kube: Kube, space: str) -> None:
    made, verb = kube.apply(config_map("a", x="1", y="2"), namespace=space)
    assert (verb, made["data"]) == ("created", {"x": "1", "y": "2"})
    assert kube.apply(config_map("a", x="1", y="2"), namespace=space)[1] == "unchanged"
    kube.patch("configmaps", "a", {"data": {"z": "theirs"}}, space)
    changed, verb = kube.apply(config_map("a", x="3"), namespace=space)
    assert (verb, changed["data"]) == ("configured", {"x": "3", "z": "theirs"})
    assert kube.get("configmaps", "a", space) == changed
    assert kube.get_like(config_map("a"), space) == changed
    names = [c["metadata"]["name"] for c in kube.list("configmaps", space)]
    assert "a" in names
    assert kube.delete("configmaps", "a", space)
    assert not kube.delete_like(config_map("a"), space)
    assert kube.get("configmaps", "a", space) is None


def test_built_in_lists_are_merged_by_name(kube: Kube, space: str) -> None:
    kube.apply(deployment("web", "one", "two", replicas=0), namespace=space)
    after, verb = kube.apply(deployment("web", "other", replicas=0), namespace=space)
    assert verb == "configured"
    containers = after["spec"]["template"]["spec"]["containers"]
    assert [(c["name"], c["image"]) for c in containers] == [("c0", "other")]
    strategy = {"strategy": {"type": "Recreate"}}
    after, _ = kube.apply(deployment("web", "other", replicas=0, **strategy), namespace=space)
    assert after["spec"]["strategy"] == {"type": "Recreate"}


def test_custom_resources_appear_as_soon_as_they_are_defined(kube: Kube, space: str) -> None:
    widget = {"apiVersion": "test.meshlab.io/v1", "kind": "Widget", "metadata": {"name": "w"}}
    assert kube.list("widgets.test.meshlab.io", space) == []
    assert kube.get("widgets.test.meshlab.io", "w", space) is None
    with pytest.raises(KubeError, match='no matches for kind "Widget"'):
        kube.apply(widget, namespace=space)
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    kube.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.test.meshlab.io"},
            "spec": {
                "group": "test.meshlab.io",
                "names": {"kind": "Widget", "plural": "widgets"},
                "scope": "Namespaced",
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }
    )
    kube.apply({**widget, "spec": {"parts": [1, 2], "x": 1}}, namespace=space)
    after, verb = kube.apply({**widget, "spec": {"parts": [3]}}, namespace=space)
    assert (verb, after["spec"]) == ("configured", {"parts": [3]})
    assert kube.plural(widget) == "widgets"


def test_what_kubectl_applied_we_can_go_on_with(
    kube: Kube, kubeconfig: Path, space: str, tmp_path: Path
) -> None:
    def kubectl(data: Object) -> str:
        file = tmp_path / "a.yaml"
        file.write_text(yaml.safe_dump(data))
        line = ["kubectl", f"--kubeconfig={kubeconfig}", "-n", space, "apply", "-f", str(file)]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    assert kubectl(config_map("a", x="1", y="2")) == "configmap/a created\n"
    after, _ = kube.apply(config_map("a", x="1"), namespace=space)
    assert after["data"] == {"x": "1"}
    assert kubectl(config_map("a", z="3")) == "configmap/a configured\n"
    assert (kube.get("configmaps", "a", space) or {})["data"] == {"z": "3"}


def test_the_servers_words(kube: Kube) -> None:
    with pytest.raises(KubeError) as caught:
        kube.apply(config_map("A B"))
    assert caught.value.status == 422
    assert caught.value.reason == "Invalid"
    assert str(caught.value).startswith("Error from server (Invalid): ConfigMap")
    with pytest.raises(KubeError, match='doesn\'t have a resource type "nonsense"'):
        kube.delete("nonsense", "x")


def test_table(kube: Kube, space: str) -> None:
    kube.apply(config_map("a", x="1"), namespace=space)
    table = kube.table("configmaps", space)
    assert list(table.headers) == ["NAME", "DATA", "AGE"]
    assert ["a", 1] in [list(row[:2]) for row in table.rows]
    assert table.note == f"$ kubectl get configmaps -n {space}"


@pytest.fixture
def pod(kube: Kube, space: str) -> str:
    container = {"name": "c", "image": "busybox"}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    kube.apply({**made, "spec": {"containers": [container]}}, namespace=space)
    return space


def test_logs(kube: Kube, pod: str) -> None:
    assert list(kube.logs("p", pod, container="c")) == ["c 0", "c 1", "c 2"]
    assert list(kube.logs("p", pod, container="c", tail=1)) == ["c 2"]
    with pytest.raises(KubeError, match="not found"):
        list(kube.logs("nobody", pod))


@pytest.mark.parametrize(
    ("argv", "stdin", "result"),
    [
        pytest.param(["echo", "a b"], None, Result("echo a b", "", 0), id="output"),
        pytest.param(["false"], None, Result("false", "", 3), id="exit code"),
        pytest.param(["cat"], "in\n", Result("cat", "in\n", 0), id="input, then its end"),
    ],
)
def test_exec(kube: Kube, pod: str, argv: list[str], stdin: str | None, result: Result) -> None:
    assert kube.exec("p", pod, argv, container="c", stdin=stdin) == result


def test_exec_in_a_pod_that_is_not_there(kube: Kube, space: str) -> None:
    with pytest.raises(KubeError, match="not found"):
        kube.exec("nobody", space, ["true"])


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(b'{"status": "Success"}', 0, id="success"),
        pytest.param(
            b'{"details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}',
            7,
            id="exit code",
        ),
    ],
)
def test_exit_code(status: bytes, code: int) -> None:
    assert exit_code(status) == code


@pytest.mark.parametrize("status", [b"", b'{"status": "Failure", "message": "no such file"}'])
def test_a_command_that_did_not_run(status: bytes) -> None:
    with pytest.raises(KubeError, match=r"the connection broke|no such file"):
        exit_code(status)


def test_a_server_that_is_away(kubeconfig: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    away = Kube(tmp_path / "config")
    with pytest.raises(ClusterError, match=r"https://127\.0\.0\.1:1 cannot be reached"):
        away.list("pods")
    away.close()


def write(path: Path, user: Object, cluster: Object, context: str = "one") -> Path:
    config = {
        "current-context": context,
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("user", "headers"),
    [
        pytest.param({}, {}, id="nobody"),
        pytest.param({"token": "t"}, {"authorization": "Bearer t"}, id="token"),
        pytest.param({"tokenFile": "token"}, {"authorization": "Bearer t2"}, id="file beside"),
        pytest.param(
            {"username": "a", "password": "b"},
            {"authorization": "Basic " + base64.b64encode(b"a:b").decode()},
            id="password",
        ),
    ],
)
def test_access(user: Object, headers: Object, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t2\n")
    found = access(write(tmp_path / "config", user, {"server": "http://c:1/"}))
    assert (found.server, found.ssl, found.headers) == ("http://c:1", None, headers)


def test_access_without_verification(tmp_path: Path) -> None:
    cluster = {"server": "https://c", "insecure-skip-tls-verify": True}
    found = access(write(tmp_path / "config", {}, cluster)).ssl
    assert found is not None
    assert found.verify_mode == ssl.CERT_NONE


def test_access_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="cannot be read"):
        access(tmp_path / "none")
    path = write(tmp_path / "config", {}, {}, context="two")
    with pytest.raises(ClusterError, match="has no context 'two'"):
        access(path)

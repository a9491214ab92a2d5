"""The official Python client against the served API."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

kubernetes = pytest.importorskip("kubernetes")


@pytest.fixture
def api(served: Any) -> Iterator[Any]:
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_kube_config(str(served.kubeconfig), client_configuration=configuration)
    made = client.ApiClient(configuration)
    yield made
    made.rest_client.pool_manager.clear()
    made.close()


def test_typed(api: Any, space: str) -> None:
    from kubernetes import client

    core = client.CoreV1Api(api)
    metadata = client.V1ObjectMeta(name="c")
    made = core.create_namespaced_config_map(
        space, client.V1ConfigMap(metadata=metadata, data={"a": "b"})
    )
    assert made.data == {"a": "b"}
    found = core.list_namespaced_config_map(space, limit=1)
    assert [item.metadata.name for item in found.items] == ["c"]
    with pytest.raises(client.ApiException) as caught:
        core.read_namespaced_config_map("none", space)
    assert (caught.value.status, caught.value.reason) == (404, "Not Found")


def test_watch(api: Any, space: str) -> None:
    from kubernetes import client, watch

    core = client.CoreV1Api(api)
    core.create_namespaced_config_map(space, {"metadata": {"name": "first"}})
    start = core.list_namespaced_config_map(space).metadata.resource_version

    def change() -> None:
        core.create_namespaced_config_map(space, {"metadata": {"name": "second"}})
        core.patch_namespaced_config_map("second", space, {"data": {"a": "b"}})
        core.delete_namespaced_config_map("second", space)

    changer = threading.Thread(target=change)
    changer.start()
    seen = []
    watcher = watch.Watch()
    stream = watcher.stream(
        core.list_namespaced_config_map, space, resource_version=start, timeout_seconds=10
    )
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    changer.join()
    assert seen == [("ADDED", "second"), ("MODIFIED", "second"), ("DELETED", "second")]


def test_watch_from_the_past(api: Any, space: str) -> None:
    from kubernetes import client, watch

    core = client.CoreV1Api(api)
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, space, resource_version="1", timeout_seconds=2
    )
    # A revision before this server's memory: the client is told 410 and lists again.
    assert all(event["type"] in {"ADDED", "MODIFIED", "DELETED"} for event in stream)


def test_exec_and_log(api: Any, space: str) -> None:
    from kubernetes import client
    from kubernetes.stream import stream

    core = client.CoreV1Api(api)
    containers = [{"name": "c", "image": "busybox"}]
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": containers}}
    core.create_namespaced_pod(space, pod)
    session = stream(
        core.connect_get_namespaced_pod_exec,
        "p",
        space,
        command=["sh", "-c", "read line; echo got $line; exit 3"],
        _preload_content=False,
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
    )
    session.write_stdin("this\n")
    session.run_forever(timeout=5)
    assert session.read_stdout() == "got this\n"
    assert session.returncode == 3
    session.sock.shutdown()  # the client leaves it open when the server closed first
    assert '"c"' in core.read_namespaced_pod_log("p", space)


def test_tokens(api: Any, space: str) -> None:
    from kubernetes import client

    core, authentication = client.CoreV1Api(api), client.AuthenticationV1Api(api)
    core.create_namespaced_service_account(space, {"metadata": {"name": "robot"}})
    spec = {"audiences": ["istio-ca"], "expirationSeconds": 900}
    token = core.create_namespaced_service_account_token("robot", space, {"spec": spec})
    review = {"spec": {"token": token.status.token, "audiences": ["istio-ca", "other"]}}
    status = authentication.create_token_review(review).status
    assert status.authenticated
    assert status.audiences == ["istio-ca"]
    assert status.user.username == f"system:serviceaccount:{space}:robot"
    assert f"system:serviceaccounts:{space}" in status.user.groups
    status = authentication.create_token_review({"spec": {"token": token.status.token}}).status
    assert not status.authenticated
    core.delete_namespaced_service_account("robot", space)
    assert not authentication.create_token_review(review).status.authenticated


def test_dynamic(api: Any, space: str) -> None:
    from kubernetes import dynamic

    deployments = dynamic.DynamicClient(api).resources.get(api_version="apps/v1", kind="Deployment")
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    deployments.create({"metadata": {"name": "d"}, "spec": spec}, namespace=space)
    patch = {"spec": {"replicas": 2}}
    kind = "application/merge-patch+json"
    changed = deployments.patch(patch, name="d", namespace=space, content_type=kind)
    assert changed.spec.replicas == 2
    listed = deployments.get(namespace=space, label_selector="x=y")
    assert listed.items == []

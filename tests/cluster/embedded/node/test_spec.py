"""What the shim is told."""

from typing import Any

import pytest

from meshlab.cluster.embedded.linux import CAPABILITIES
from meshlab.cluster.embedded.node.environment import ConfigMissing
from meshlab.cluster.embedded.node.image import Image
from meshlab.cluster.embedded.node.spec import (
    DOCKER_CAPABILITIES,
    capability_mask,
    capability_names,
    container_spec,
    groups_of,
    host_namespaces,
    hosts_file,
    resolv_conf,
    user_of,
)

IMAGE = Image(name="i", user=1000, group=3000, entrypoint=("serve",))


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web-1", "namespace": "shop"}, "spec": {"containers": [], **spec}}


@pytest.mark.parametrize(
    ("context", "ids"),
    [
        pytest.param({}, (1000, 3000), id="the image's"),
        pytest.param({"runAsUser": 7}, (7, 0), id="another user is in group 0"),
        pytest.param({"runAsUser": 7, "runAsGroup": 8}, (7, 8), id="as asked for"),
        pytest.param({"runAsGroup": 8}, (1000, 8), id="only the group"),
    ],
)
def test_user_of(context: dict[str, Any], ids: tuple[int, int]) -> None:
    assert user_of(context, IMAGE) == ids


def test_run_as_non_root_refuses_root() -> None:
    with pytest.raises(ConfigMissing, match="runAsNonRoot and image will run as root"):
        user_of({"runAsUser": 0, "runAsNonRoot": True}, IMAGE)


def test_groups() -> None:
    context = {"supplementalGroups": [9, 5], "fsGroup": 1337}
    assert groups_of(pod(securityContext=context), 5) == [5, 9, 1337]


@pytest.mark.parametrize(
    ("context", "names"),
    [
        pytest.param({}, DOCKER_CAPABILITIES, id="Docker's default"),
        pytest.param(
            {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}, {"NET_ADMIN"}, id="only one"
        ),
        pytest.param(
            {"capabilities": {"drop": ["CAP_MKNOD"]}},
            DOCKER_CAPABILITIES - {"MKNOD"},
            id="with or without CAP_",
        ),
        pytest.param({"privileged": True}, set(CAPABILITIES), id="privileged"),
    ],
)
def test_capability_names(context: dict[str, Any], names: set[str]) -> None:
    assert capability_names(context) == names


def test_capabilities_that_the_machine_lacks_are_left_out() -> None:
    assert capability_mask(["CHOWN", "KILL"], permitted=1 << 5) == 1 << 5


def test_resolv_conf() -> None:
    assert resolv_conf(pod()) == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 10.96.0.10\n"
        "options ndots:5\n"
    )


def test_dns_config_is_added_or_stands_alone() -> None:
    options = [{"name": "ndots", "value": "2"}]
    config = {"nameservers": ["1.2.3.4"], "searches": ["x"], "options": options}
    assert resolv_conf(pod(dnsConfig=config, dnsPolicy="None")) == (
        "search x\nnameserver 1.2.3.4\noptions ndots:2\n"
    )
    assert "options ndots:2\n" in resolv_conf(pod(dnsConfig=config))


def test_hosts_file_with_subdomain_and_aliases() -> None:
    aliases = [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}]
    text = hosts_file(pod(subdomain="db", hostname="db-0", hostAliases=aliases), "10.244.0.2")
    assert "10.244.0.2\tdb-0.db.shop.svc.cluster.local db-0\n" in text
    assert text.endswith("10.0.0.1\ta b\n")


def make(container: dict[str, Any]) -> dict[str, Any]:
    return container_spec(
        pod(),
        container,
        IMAGE,
        environment={"PORT": "80"},
        mounts=[],
        network="/n",
        address="10.244.0.2",
        hidden=["/state"],
        permitted=-1,
    )


def test_arguments_are_expanded_and_the_environment_wins() -> None:
    spec = make({"name": "app", "args": ["--port=$(PORT)", "$(NO)"], "workingDir": "/srv"})
    assert spec["argv"] == ["serve", "--port=80", "$(NO)"]
    assert (spec["cwd"], spec["hidden"], spec["env"]["PORT"]) == ("/srv", ["/state"], "80")
    assert spec["files"]["/etc/hostname"] == "web-1\n"


def test_namespaces_of_the_host_that_a_pod_asks_for_in_vain() -> None:
    assert host_namespaces(pod()) == []
    asks = pod(hostNetwork=True, hostPID=False, hostIPC=True)
    assert host_namespaces(asks) == ["spec.hostNetwork", "spec.hostIPC"]


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(ConfigMissing, match="no command specified"):
        container_spec(
            pod(),
            {"name": "app"},
            Image(name="empty"),
            environment={},
            mounts=[],
            network="/n",
            address="",
            hidden=[],
            permitted=-1,
        )

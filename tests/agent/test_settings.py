"""What the agent reads from its environment."""

from pathlib import Path

import pytest

from meshlab.agent.bootstrap import bootstrap, node
from meshlab.agent.settings import Settings, downward, duration, settings
from meshlab.errors import ConfigError

POD = {
    "POD_NAME": "web-1",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "10.244.0.7",
    "SERVICE_ACCOUNT": "web",
}


def test_the_node_says_what_istiod_wants_to_know(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text('app="web"\nversion="v1"')
    (tmp_path / "annotations").write_text('note="says \\"hi\\""')
    environ = {**POD, "ISTIO_META_WORKLOAD_NAME": "web", "PROXY_CONFIG": '{"statusPort": 15099}'}
    made = settings("sidecar", {}, environ, tmp_path)
    assert made.ports.status == 15099
    assert node(made) == {
        "id": "sidecar~10.244.0.7~web-1.shop~shop.svc.cluster.local",
        "cluster": "web.shop",
        "metadata": {
            "NAME": "web-1",
            "NAMESPACE": "shop",
            "SERVICE_ACCOUNT": "web",
            "INSTANCE_IPS": "10.244.0.7",
            "ISTIO_VERSION": "1.28.0",
            "WORKLOAD_NAME": "web",
            "LABELS": {"app": "web", "version": "v1"},
            "ANNOTATIONS": {"note": 'says "hi"'},
            "PROXY_CONFIG": {"statusPort": 15099},
            "CLUSTER_ID": "Kubernetes",
            "ENVOY_STATUS_PORT": 15021,
            "ENVOY_PROMETHEUS_PORT": 15090,
        },
    }


def test_a_pod_without_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="POD_NAMESPACE, INSTANCE_IP"):
        settings("sidecar", {}, {"POD_NAME": "x"}, tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h0m0s", 86400.0), ("5s", 5.0), ("250ms", 0.25), ("1m30s", 90.0)]
)
def test_duration(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError):
        duration(text)


def test_downward_files_are_go_quoted() -> None:
    assert downward('a="1"\nb.c/d="x\\ny"\n\n') == {"a": "1", "b.c/d": "x\ny"}


def test_sockets_are_the_agents_own() -> None:
    made = Settings(type="router", pod="g", namespace="n", ip="1.2.3.4", directory=Path("/d"))
    clusters = {c["name"]: c for c in bootstrap(made)["static_resources"]["clusters"]}
    pipes = {
        name: cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        for name, cluster in clusters.items()
        if name.endswith("-grpc")
    }
    assert pipes == {
        "xds-grpc": {"pipe": {"path": "/d/XDS"}},
        "als-grpc": {"pipe": {"path": "/d/XDS"}},
        "sds-grpc": {"pipe": {"path": "/var/run/secrets/workload-spiffe-uds/socket"}},
    }

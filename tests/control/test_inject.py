"""Who gets a sidecar, and what the pod looks like with it."""

import copy
import json
from typing import Any

import pytest

from meshlab.control.inject import (
    STATUS,
    InjectSettings,
    capture_flags,
    decide,
    inject,
    inject_manifest,
    json_patch,
    overlay,
)
from meshlab.errors import ConfigError

Json = dict[str, Any]
SETTINGS = InjectSettings()


def pod(labels: Json | None = None, annotations: Json | None = None, **spec: Any) -> Json:
    containers = [
        {"name": "web", "image": "web", "ports": [{"name": "http", "containerPort": 8080}]}
    ]
    return {
        "metadata": {
            "generateName": "web-5d4f8-",
            "labels": {"app": "web", "pod-template-hash": "5d4f8", **(labels or {})},
            "annotations": annotations or {},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "web-5d4f8",
                    "controller": True,
                }
            ],
        },
        "spec": {"containers": containers, **spec},
    }


ENABLED = {"istio-injection": "enabled"}
YES, NO = {"sidecar.istio.io/inject": "true"}, {"sidecar.istio.io/inject": "false"}


@pytest.mark.parametrize(
    ("namespace_labels", "given", "expected"),
    [
        pytest.param(ENABLED, pod(), True, id="namespace enabled"),
        pytest.param(ENABLED, pod(labels=NO), False, id="pod label says no"),
        pytest.param(ENABLED, pod(annotations=NO), False, id="annotation says no"),
        pytest.param(
            ENABLED, pod(labels=YES, annotations=NO), True, id="the label outranks the annotation"
        ),
        pytest.param(
            ENABLED,
            pod(labels={"sidecar.istio.io/inject": "maybe"}),
            True,
            id="a value that is neither is the policy's",
        ),
        pytest.param({}, pod(), False, id="nobody asks"),
        pytest.param({}, pod(labels=YES), True, id="the pod asks by label"),
        pytest.param({}, pod(annotations=YES), False, id="an annotation selects no webhook"),
        pytest.param(
            {"istio-injection": "disabled"}, pod(labels=YES), False, id="namespace disabled"
        ),
        pytest.param(
            {"istio.io/rev": "canary"}, pod(labels=YES), False, id="another revision's namespace"
        ),
        pytest.param(
            {"istio-injection": "enabled", "istio.io/rev": "canary"},
            pod(),
            True,
            id="istio-injection outranks istio.io/rev",
        ),
        pytest.param(
            {},
            pod(labels={**YES, "istio.io/rev": "canary"}),
            False,
            id="the pod asks another revision",
        ),
        pytest.param(ENABLED, pod(hostNetwork=True), False, id="host network"),
        pytest.param(ENABLED, pod(annotations={STATUS: "{}"}), False, id="injected already"),
        pytest.param(None, pod(), True, id="by hand, without labels"),
        pytest.param(None, pod(labels=NO), False, id="by hand, the pod says no"),
    ],
)
def test_decision(namespace_labels: Json | None, given: Json, *, expected: bool) -> None:
    assert decide(given, "shop", namespace_labels, SETTINGS).inject is expected


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "istio-system"])
def test_namespaces_left_alone(namespace: str) -> None:
    assert not decide(pod(), namespace, ENABLED, SETTINGS).inject


def containers(made: Json, field: str = "containers") -> list[str]:
    return [c["name"] for c in made["spec"].get(field, [])]


def proxy_of(made: Json) -> Json:
    both = made["spec"].get("initContainers", []) + made["spec"]["containers"]
    found: Json = next(c for c in both if c["name"] == "istio-proxy")
    return found


def env(made: Json) -> dict[str, str]:
    return {e["name"]: e["value"] for e in proxy_of(made)["env"] if "value" in e}


def test_a_native_sidecar_starts_before_everything_of_the_user() -> None:
    made = inject(pod(initContainers=[{"name": "migrate"}]), "shop", SETTINGS)
    assert containers(made, "initContainers") == ["istio-init", "istio-proxy", "migrate"]
    assert containers(made) == ["web"]
    assert proxy_of(made)["restartPolicy"] == "Always"


def test_on_older_clusters_the_app_is_held_until_the_proxy_is_ready() -> None:
    settings = InjectSettings(native=False)
    made = inject(pod(initContainers=[{"name": "migrate"}]), "shop", settings)
    assert containers(made, "initContainers") == ["migrate", "istio-init"]
    assert containers(made) == ["istio-proxy", "web"]
    hook = proxy_of(made)["lifecycle"]["postStart"]["exec"]["command"]
    assert hook == ["pilot-agent", "wait"]


def test_a_pod_may_choose_against_the_default() -> None:
    made = inject(pod(annotations={"sidecar.istio.io/nativeSidecar": "false"}), "shop", SETTINGS)
    assert containers(made) == ["istio-proxy", "web"]


def test_the_argument_is_left_as_it_is() -> None:
    given = pod(livenessProbe=None)
    before = copy.deepcopy(given)
    inject(given, "shop", SETTINGS)
    assert given == before


def test_labels_and_annotations() -> None:
    made = inject(pod(labels={"version": "v2"}), "shop", SETTINGS)
    labels, annotations = made["metadata"]["labels"], made["metadata"]["annotations"]
    assert labels["security.istio.io/tlsMode"] == "istio"
    assert labels["service.istio.io/canonical-name"] == "web"
    assert labels["service.istio.io/canonical-revision"] == "v2"
    assert json.loads(annotations[STATUS]) == {
        "initContainers": ["istio-init", "istio-proxy"],
        "containers": [],
        "volumes": [
            "workload-socket",
            "istio-envoy",
            "istio-podinfo",
            "istio-token",
            "istiod-ca-cert",
        ],
        "imagePullSecrets": None,
        "revision": "default",
    }
    assert annotations["kubectl.kubernetes.io/default-container"] == "web"


def test_the_proxy_knows_its_workload() -> None:
    known = env(inject(pod(), "shop", SETTINGS))
    assert known["ISTIO_META_WORKLOAD_NAME"] == "web"
    assert known["ISTIO_META_OWNER"] == "kubernetes://apis/apps/v1/namespaces/shop/deployments/web"
    assert json.loads(known["ISTIO_META_POD_PORTS"]) == [{"name": "http", "containerPort": 8080}]


def test_probes_are_asked_of_the_agent() -> None:
    given = pod()
    web = given["spec"]["containers"][0]
    web["readinessProbe"] = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    web["livenessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 3}
    web["startupProbe"] = {"exec": {"command": ["true"]}}
    made = inject(given, "shop", SETTINGS)
    rewritten = made["spec"]["containers"][0]
    assert rewritten["readinessProbe"] == {
        "httpGet": {"path": "/app-health/web/readyz", "port": 15020},
        "timeoutSeconds": 5,
    }
    assert rewritten["livenessProbe"] == {
        "httpGet": {"path": "/app-health/web/livez", "port": 15020},
        "periodSeconds": 3,
    }
    assert rewritten["startupProbe"] == {"exec": {"command": ["true"]}}
    assert json.loads(env(made)["ISTIO_KUBE_APP_PROBERS"]) == {
        "/app-health/web/readyz": {
            "httpGet": {"path": "/health", "port": 8080},
            "timeoutSeconds": 5,
        },
        "/app-health/web/livez": {"tcpSocket": {"port": 8080}},
    }


def test_probes_stay_where_the_pod_says_so() -> None:
    given = pod(annotations={"sidecar.istio.io/rewriteAppHTTPProbers": "false"})
    probe = {"httpGet": {"path": "/", "port": 80}}
    given["spec"]["containers"][0]["readinessProbe"] = probe
    made = inject(given, "shop", SETTINGS)
    assert made["spec"]["containers"][0]["readinessProbe"] == probe


@pytest.mark.parametrize(
    ("annotations", "port", "scrape"),
    [
        pytest.param({}, "15020", None, id="the app has no metrics"),
        pytest.param(
            {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
            "15020",
            {"scrape": "true", "path": "", "port": "9090"},
            id="the app's are merged",
        ),
        pytest.param({"prometheus.io/scrape": "false"}, None, None, id="not scraped at all"),
        pytest.param(
            {"prometheus.istio.io/merge-metrics": "false", "prometheus.io/port": "9090"},
            "9090",
            None,
            id="merging refused",
        ),
    ],
)
def test_metrics(annotations: Json, port: str | None, scrape: Json | None) -> None:
    made = inject(pod(annotations=annotations), "shop", SETTINGS)
    told = env(made).get("ISTIO_PROMETHEUS_ANNOTATIONS")
    assert made["metadata"]["annotations"].get("prometheus.io/port") == port
    assert (json.loads(told) if told else None) == scrape


@pytest.mark.parametrize(
    ("annotations", "flags"),
    [
        pytest.param(
            {},
            ["-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"],
            id="everything",
        ),
        pytest.param(
            {
                "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.1.0.0/16",
                "traffic.sidecar.istio.io/includeInboundPorts": "80",
                "traffic.sidecar.istio.io/excludeInboundPorts": "9000",
                "traffic.sidecar.istio.io/excludeOutboundPorts": "3306",
            },
            [
                *("-i", "*", "-x", "10.1.0.0/16", "-b", "80"),
                *("-d", "15090,15021,15020,9000", "-o", "3306"),
            ],
            id="exceptions",
        ),
    ],
)
def test_capture_flags(annotations: Json, flags: list[str]) -> None:
    assert capture_flags(annotations, 15020)[8:] == flags


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        pytest.param("excludeOutboundPorts", "80,http", "http", id="name of a port"),
        pytest.param("excludeInboundPorts", "0", "0", id="port 0"),
        pytest.param("includeInboundPorts", "*,80", "*", id="all and some"),
        pytest.param("excludeOutboundPorts", "*", "*", id="all left out"),
        pytest.param("includeOutboundIPRanges", "10.0.0.0/33", "10.0.0.0/33", id="no range"),
        pytest.param("excludeOutboundIPRanges", "reviews", "reviews", id="name of a host"),
    ],
)
def test_ports_and_ranges_that_are_none(name: str, value: str, found: str) -> None:
    annotation = f"traffic.sidecar.istio.io/{name}"
    with pytest.raises(ConfigError) as refused:
        inject(pod(annotations={annotation: value}), "shop", SETTINGS)
    assert refused.value.field == f"metadata.annotations[{annotation}]"
    assert refused.value.found == found


def test_a_mode_that_is_not_supported_is_refused_by_its_annotation() -> None:
    with pytest.raises(ConfigError) as refused:
        inject(pod(annotations={"sidecar.istio.io/interceptionMode": "TPROXY"}), "shop", SETTINGS)
    assert refused.value.field == "metadata.annotations[sidecar.istio.io/interceptionMode]"


def test_a_pod_overrides_fields_of_its_proxy() -> None:
    given = pod()
    given["spec"]["containers"].append(
        {
            "name": "istio-proxy",
            "image": "auto",
            "env": [{"name": "X", "value": "1"}],
            "resources": {"requests": {"cpu": "1"}},
        }
    )
    made = inject(given, "shop", SETTINGS)
    assert containers(made) == ["web"]
    assert proxy_of(made)["image"] == "meshlab/proxy:latest"
    assert proxy_of(made)["resources"]["requests"] == {"cpu": "1", "memory": "40Mi"}
    assert env(made)["X"] == "1"


def test_the_data_plane_of_one_pod() -> None:
    config = "proxyMetadata:\n  MESHLAB_DATAPLANE: envoy\n"
    made = inject(pod(annotations={"proxy.istio.io/config": config}), "shop", SETTINGS)
    assert env(made)["MESHLAB_DATAPLANE"] == "envoy"


def _apply(document: Any, operations: list[Json]) -> Any:
    made = copy.deepcopy(document)
    for operation in operations:
        *way, last = [
            step.replace("~1", "/").replace("~0", "~")
            for step in operation["path"].removeprefix("/").split("/")
        ]
        place = made
        for step in way:
            place = place[step]
        if operation["op"] == "remove":
            del place[last]
        else:
            place[last] = operation["value"]
    return made


def test_the_patch_makes_the_injected_pod() -> None:
    given = pod(annotations={"a/b~c": "1"})
    made = inject(given, "shop", SETTINGS)
    assert _apply(given, json_patch(given, made)) == made


def test_overlay_keeps_what_both_have() -> None:
    ours = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "x": 1}
    theirs = {"env": [{"name": "B", "value": "3"}], "args": ["y"]}
    assert overlay(ours, theirs) == {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}],
        "x": 1,
        "args": ["y"],
    }


def _workload(kind: str) -> Json:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}
    spec: Json = {"template": template}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}


@pytest.mark.parametrize(
    "kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"]
)
def test_every_pod_template_is_injected(kind: str) -> None:
    made = inject_manifest(_workload(kind), "shop", SETTINGS)
    spec = made["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else made["spec"]
    assert containers(spec["template"], "initContainers") == ["istio-init", "istio-proxy"]
    assert env(spec["template"])["ISTIO_META_WORKLOAD_NAME"] == "web"


def test_other_documents_pass_and_lists_are_opened() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    made = inject_manifest(
        {"kind": "List", "items": [service, {"kind": "Pod", **pod()}]}, "shop", SETTINGS
    )
    assert made["items"][0] == service
    assert containers(made["items"][1], "initContainers") == ["istio-init", "istio-proxy"]

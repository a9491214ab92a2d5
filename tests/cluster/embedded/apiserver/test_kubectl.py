"""What a learner types: unmodified kubectl against the served API."""

import json
import subprocess
import time
from typing import Any

import pytest

Json = dict[str, Any]


def deployment(space: str, name: str = "web", replicas: int = 0, api: str = "apps/v1") -> Json:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [
                {"name": "a", "image": "busybox", "env": [{"name": "X", "value": "1"}]},
                {"name": "b", "image": "busybox"},
            ]
        },
    }
    spec: Json = {"replicas": replicas, "template": template}
    if api == "apps/v1":
        spec["selector"] = {"matchLabels": {"app": name}}
    return {
        "apiVersion": api,
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": spec,
    }


def pod(space: str, name: str = "p", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"app": name}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "busybox"}], **spec},
    }


def columns(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def unverified(served: Any) -> Any:
    """Return an HTTP client that takes the server's certificate as it is."""
    import ssl

    import httpx

    context = ssl._create_unverified_context()
    url = f"https://127.0.0.1:{served.port}"
    return httpx.Client(base_url=url, verify=context, trust_env=False)


# --- without a token --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/apis",
        "/version",
        "/healthz",
        "/readyz",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/api/v1/namespaces",
        "/api/v1/namespaces/default/pods/p/exec",
        "/api/v1/namespaces/default/pods/p:80/proxy/",
        "/no/such/path",
    ],
)
@pytest.mark.parametrize("token", ["", "Bearer wrong", "Bearer a.b.c", "Basic YTpi", "Bearer \xff"])
def test_nobody_gets_in_without_a_token(served: Any, path: str, token: str) -> None:
    headers = {"authorization": token.encode("latin-1")} if token else {}
    with unverified(served) as client:
        answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")


def test_certificate_is_for_the_clusters_names(served: Any) -> None:
    import base64
    import ssl

    cluster = served.config["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    import socket

    for name in ("localhost", "127.0.0.1", "10.96.0.1", "kubernetes.default.svc.cluster.local"):
        with (
            socket.create_connection(("127.0.0.1", served.port)) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert secure.version() == "TLSv1.3"


# --- applying ---------------------------------------------------------------------------------


def test_apply_three_ways(served: Any, space: str) -> None:
    wish = deployment(space)
    assert served.apply(wish) == "deployment.apps/web created\n"
    assert served.apply(wish) == "deployment.apps/web unchanged\n"
    served.ok("label", "deployment", "web", "-n", space, "by=hand")
    wish["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "Y", "value": "2"}]
    wish["spec"]["template"]["spec"]["containers"][1]["name"] = "c"
    assert served.apply(wish) == "deployment.apps/web configured\n"
    found = json.loads(served.ok("get", "deployment", "web", "-n", space, "-o", "json"))
    containers = found["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in containers] == ["a", "c"]
    assert containers[0]["env"] == [{"name": "Y", "value": "2"}]
    assert found["metadata"]["labels"] == {"by": "hand"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"replicaz": 1},
            'strict decoding error: unknown field "spec.replicaz"',
        ),
        (
            {"replicas": "two"},
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type "
            "int32",
        ),
        (
            {"selector": {"matchLabels": {"app": "other"}}},
            'The Deployment "wrong" is invalid: spec.template.metadata.labels: Invalid value: '
            'map[string]string{"app":"wrong"}: `selector` does not match template `labels`',
        ),
    ],
)
def test_apply_says_what_is_wrong(served: Any, space: str, change: Json, message: str) -> None:
    wish = deployment(space, "wrong")
    wish["spec"] |= change
    done = served.kubectl("apply", "-f", "-", stdin=json.dumps(wish))
    assert done.returncode == 1
    assert message in done.stderr


def test_apply_without_validation_warns(served: Any, space: str) -> None:
    wish = deployment(space)
    wish["spec"]["replicaz"] = 1
    done = served.kubectl("apply", "--validate=warn", "-f", "-", stdin=json.dumps(wish))
    assert done.stderr == 'Warning: unknown field "spec.replicaz"\n'
    assert done.returncode == 0


def test_dry_run_keeps_nothing(served: Any, space: str) -> None:
    assert served.apply(deployment(space), flags=("--dry-run=server",)) == (
        "deployment.apps/web created (server dry run)\n"
    )
    assert served.kubectl("get", "deployment", "web", "-n", space).returncode == 1


def test_server_side_apply_is_refused_with_the_reason(served: Any, space: str) -> None:
    done = served.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(deployment(space)))
    assert done.returncode == 1
    assert "it does not keep who owns which field" in done.stderr


def test_deployment_of_2017(served: Any, space: str) -> None:
    wish = deployment(space, "old", api="extensions/v1beta1")
    done = served.kubectl("apply", "-f", "-", stdin=json.dumps(wish))
    assert done.stdout == "deployment.extensions/old created\n"
    assert done.stderr == (
        "Warning: extensions/v1beta1 Deployment was removed from Kubernetes in v1.16; this "
        "cluster stores it as apps/v1 Deployment\n"
    )
    found = json.loads(served.ok("get", "deployment", "old", "-n", space, "-o", "json"))
    assert found["apiVersion"] == "apps/v1"
    assert found["spec"]["selector"] == {"matchLabels": {"app": "old"}}
    done = served.kubectl("apply", "-f", "-", stdin=json.dumps(wish))
    assert done.stdout == "deployment.extensions/old unchanged\n"
    done = served.kubectl("delete", "-f", "-", stdin=json.dumps(wish))
    assert done.stdout == 'deployment.extensions "old" deleted\n'


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("create", "configmap", "x", "--from-literal=a=b"), "configmap/x created"),
        (("create", "secret", "generic", "x", "--from-literal=a=b"), "secret/x created"),
        (("create", "serviceaccount", "x"), "serviceaccount/x created"),
        (("create", "deployment", "x", "--image=i", "--replicas=0"), "deployment.apps/x created"),
        (("create", "service", "clusterip", "x", "--tcp=80:8080"), "service/x created"),
        (
            ("create", "role", "x", "--verb=get", "--resource=pods"),
            "role.rbac.authorization.k8s.io/x created",
        ),
        (
            ("create", "rolebinding", "x", "--role=x", "--user=u"),
            "rolebinding.rbac.authorization.k8s.io/x created",
        ),
        (("run", "x", "--image=i"), "pod/x created"),
    ],
)
def test_create(served: Any, arguments: tuple[str, ...], printed: str) -> None:
    """kubectl's typed commands, most of which send protobuf."""
    if served.kubectl("get", "namespace", "made").returncode:
        served.ok("create", "namespace", "made")
    assert served.ok(*arguments, "-n", "made").strip() == printed
    if "deployment" in arguments:
        path = "jsonpath={.spec.replicas}"
        assert served.ok("get", "deployment", "x", "-n", "made", "-o", path) == "0"


# --- looking ----------------------------------------------------------------------------------


def test_get_shows_kubectls_columns(served: Any, space: str) -> None:
    served.apply(deployment(space), pod(space))
    served.ok("expose", "deployment", "web", "--port=80", "-n", space)
    shown = served.ok("get", "all", "-n", space)
    heads = [line.split() for line in shown.splitlines() if line.startswith("NAME")]
    assert heads == [
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
    ]
    wide = columns(served.ok("get", "pods", "-n", space, "-o", "wide"))
    assert wide[1][:3] == ["p", "0/1", "Pending"]
    assert wide[1][6] == "n"
    labelled = served.ok("get", "pods", "-n", space, "--show-labels", "--no-headers")
    assert labelled.split()[-1] == "app=p"
    none = served.kubectl("get", "pods", "-n", space, "-l", "app in (x,y)")
    assert none.stderr == f"No resources found in {space} namespace.\n"


@pytest.mark.parametrize(
    "kind",
    [
        "configmaps",
        "endpointslices",
        "events",
        "leases",
        "namespaces",
        "nodes",
        "roles",
        "clusterroles",
        "rolebindings",
        "clusterrolebindings",
        "secrets",
        "serviceaccounts",
        "crds",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "replicasets",
    ],
)
def test_every_kind_is_listed(served: Any, kind: str) -> None:
    assert served.kubectl("get", kind, "-A").returncode == 0


def test_not_found(served: Any) -> None:
    done = served.kubectl("get", "pod", "nobody")
    assert done.stderr == 'Error from server (NotFound): pods "nobody" not found\n'
    done = served.kubectl("get", "unicorns")
    assert done.stderr == 'error: the server doesn\'t have a resource type "unicorns"\n'


def test_describe(served: Any, space: str) -> None:
    served.apply(deployment(space), pod(space))
    served.ok("expose", "deployment", "web", "--port=80", "-n", space)
    for kind, word in (
        ("deployment/web", "RollingUpdateStrategy:  25% max unavailable, 25% max surge"),
        ("pod/p", "QoS Class:                   BestEffort"),
        ("service/web", "Session Affinity:         None"),
    ):
        assert word in served.ok("describe", kind, "-n", space)
    assert "Status:       Active" in served.ok("describe", "namespace", space)


def test_explain_and_resources(served: Any) -> None:
    text = served.ok("explain", "deployment.spec.strategy")
    assert "DeploymentStrategy describes how to replace existing pods with new ones." in text
    assert "rollingUpdate\t<RollingUpdateDeployment>" in text
    names = served.ok("api-resources", "-o", "name").split()
    assert {"pods", "deployments.apps", "leases.coordination.k8s.io"} <= set(names)
    assert "v1.32" in served.ok("version")


def test_pages(served: Any, space: str) -> None:
    items = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{n}", "namespace": space}}
        for n in range(7)
    ]
    served.apply(*items)
    names = served.ok("get", "configmaps", "-n", space, "--chunk-size=2", "-o", "name").split()
    assert names == [f"configmap/c{n}" for n in range(7)]


def test_watch_prints_rows(served: Any, space: str) -> None:
    served.apply(pod(space))
    watching = subprocess.Popen(
        ["kubectl", "get", "pods", "-n", space, "-w", "--output-watch-events"],
        stdout=subprocess.PIPE,
        text=True,
        env=served.environment,
    )
    assert watching.stdout
    assert watching.stdout.readline().split()[:2] == ["EVENT", "NAME"]
    assert watching.stdout.readline().split()[:2] == ["ADDED", "p"]
    served.ok("label", "pod", "p", "-n", space, "a=b")
    assert watching.stdout.readline().split()[:2] == ["MODIFIED", "p"]
    served.ok("delete", "pod", "p", "-n", space, "--force", "--grace-period=0")
    seen = [watching.stdout.readline().split()[0]]
    while seen[-1] != "DELETED":
        seen.append(watching.stdout.readline().split()[0])
    watching.kill()
    watching.wait()
    watching.stdout.close()


# --- changing ---------------------------------------------------------------------------------


def test_change_by_every_verb(served: Any, space: str) -> None:
    served.apply(deployment(space))

    def field(path: str) -> str:
        return str(served.ok("get", "deployment", "web", "-n", space, "-o", f"jsonpath={{{path}}}"))

    served.ok("scale", "deployment", "web", "--replicas=3", "-n", space)
    assert field(".spec.replicas") == "3"
    served.ok("annotate", "deployment", "web", "note=x", "-n", space)
    assert field(".metadata.annotations.note") == "x"
    served.ok("set", "image", "deployment/web", "a=other:1", "-n", space)
    assert field(".spec.template.spec.containers[*].image") == "other:1 busybox"
    patch = [{"op": "replace", "path": "/spec/replicas", "value": 1}]
    for kind, body in (
        ("json", json.dumps(patch)),
        ("merge", '{"spec":{"replicas":2}}'),
        ("strategic", '{"spec":{"template":{"spec":{"containers":[{"name":"b","image":"x"}]}}}}'),
    ):
        served.ok("patch", "deployment", "web", "-n", space, "--type", kind, "-p", body)
    assert field(".spec.replicas") == "2"
    assert field(".spec.template.spec.containers[*].image") == "other:1 x"
    served.ok("rollout", "restart", "deployment/web", "-n", space)
    assert field(".metadata.generation") == "7"
    editor = "sed -i s/replicas:.2/replicas:\\ 5/"
    done = served.kubectl("edit", "deployment", "web", "-n", space, KUBE_EDITOR=editor)
    assert done.returncode == 0, done.stderr
    assert field(".spec.replicas") == "5"


def test_wait(served: Any, space: str) -> None:
    served.apply(pod(space))
    condition = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    waiting = ("wait", "--for=condition=Ready", "pod/p", "-n", space, "--timeout=5s")
    running = subprocess.Popen(
        ["kubectl", *waiting], stdout=subprocess.PIPE, env=served.environment
    )
    patch = ("-p", json.dumps(condition), "--subresource=status", "--type=merge")
    served.ok("patch", "pod", "p", "-n", space, *patch)
    output, _ = running.communicate(timeout=10)
    assert output == b"pod/p condition met\n"
    done = served.kubectl("wait", "--for=delete", "pod/p", "-n", space, "--timeout=1s")
    assert "timed out waiting for the condition" in done.stderr


def test_delete_waits_for_finalizers(served: Any, space: str) -> None:
    served.apply(pod(space))
    served.ok("patch", "pod", "p", "-n", space, "-p", '{"metadata":{"finalizers":["x/y"]}}')
    served.ok("delete", "pod", "p", "-n", space, "--wait=false", "--force", "--grace-period=0")
    assert "Terminating" in served.ok("get", "pod", "p", "-n", space)
    merge = ("--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    served.ok("patch", "pod", "p", "-n", space, *merge)
    assert served.kubectl("get", "pod", "p", "-n", space).returncode == 1


# --- logs and exec ----------------------------------------------------------------------------


def test_logs(served: Any, space: str) -> None:
    containers = [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]
    served.apply(pod(space), pod(space, "two", containers=containers))
    name, container, asked = json.loads(
        served.ok("logs", "p", "-n", space, "--tail=5", "--since=2m", "--timestamps")
    )
    assert (name, container) == ("p", "c")
    assert (asked["tail_lines"], asked["since_seconds"], asked["timestamps"]) == (5, 120, True)
    followed = served.ok("logs", "-f", "p", "-n", space).splitlines()
    assert followed[1:] == ["line 0", "line 1", "line 2"]
    assert json.loads(served.ok("logs", "two", "-c", "b", "-n", space))[1] == "b"
    done = served.kubectl("logs", "p", "--previous", "-n", space)
    assert done.stderr == (
        'Error from server (BadRequest): previous terminated container "c" not found\n'
    )
    path = f"/api/v1/namespaces/{space}/pods/two/log"
    done = served.kubectl("get", "--raw", path)
    assert "a container name must be specified for pod two, choose one of: [a b]" in done.stderr


def test_exec(served: Any, space: str) -> None:
    served.apply(pod(space))

    def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        flags = ("-i",) if stdin is not None else ()
        done = served.kubectl("exec", *flags, "p", "-n", space, "--", *command, stdin=stdin)
        assert isinstance(done, subprocess.CompletedProcess)
        return done

    assert run("echo", "hello world").stdout == "hello world\n"
    failed = run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (failed.returncode, failed.stdout) == (7, "out\n")
    assert failed.stderr == "err\ncommand terminated with exit code 7\n"
    text = "line\n" * 200_000
    assert run("cat", stdin=text).stdout == text, "and cat ended: standard input was closed"
    assert run("wc", "-c", stdin="").stdout.strip() == "0"


def test_exec_refusals(served: Any, space: str) -> None:
    served.apply(pod(space))
    done = served.kubectl("exec", "p", "-c", "none", "-n", space, "--", "ls")
    assert done.stderr == (
        "Error from server (BadRequest): container none is not valid for pod p\n"
    )
    done = served.kubectl(
        "exec", "p", "-n", space, "--", "ls", KUBECTL_REMOTE_COMMAND_WEBSOCKETS="false"
    )
    assert "not SPDY" in done.stderr


def test_exec_ends_with_its_client(served: Any, space: str) -> None:
    served.apply(pod(space))
    command = ["sh", "-c", "echo $$; exec sleep 1000"]
    client = subprocess.Popen(
        ["kubectl", "exec", "p", "-n", space, "--", *command],
        stdout=subprocess.PIPE,
        text=True,
        env=served.environment,
    )
    assert client.stdout
    pid = int(client.stdout.readline())
    client.kill()
    client.wait()
    client.stdout.close()
    deadline = time.monotonic() + 5
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(pid)


def running(pid: int) -> bool:
    from pathlib import Path

    return Path(f"/proc/{pid}").exists()


# --- who may ----------------------------------------------------------------------------------


def test_service_accounts_may_what_they_are_bound_to(served: Any, space: str) -> None:
    served.ok("create", "serviceaccount", "robot", "-n", space)
    served.ok("create", "role", "reader", "--verb=list", "--resource=pods", "-n", space)
    subject = f"--serviceaccount={space}:robot"
    served.ok("create", "rolebinding", "reader", "--role=reader", subject, "-n", space)
    token = served.ok("create", "token", "robot", "-n", space).strip()
    config = served.directory / "robot"
    config.write_text(
        json.dumps({**served.config, "users": [{"name": "meshlab", "user": {"token": token}}]})
    )

    def robot(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = served.kubectl(*arguments, "--kubeconfig", str(config))
        assert isinstance(done, subprocess.CompletedProcess)
        return done

    assert robot("get", "pods", "-n", space).returncode == 0
    assert robot("get", "pods", "-n", "default").stderr == (
        "Error from server (Forbidden): pods is forbidden: User "
        f'"system:serviceaccount:{space}:robot" cannot list resource "pods" in API group "" in '
        'the namespace "default"\n'
    )
    assert robot("auth", "can-i", "list", "pods", "-n", space).stdout == "yes\n"
    assert robot("auth", "can-i", "delete", "pods", "-n", space).stdout == "no\n"
    assert f"system:serviceaccount:{space}:robot" in robot("auth", "whoami").stdout
    assert robot("get", "secrets", "--as=admin").returncode == 1, "nor become somebody else"
    served.ok("delete", "serviceaccount", "robot", "-n", space)
    assert "Unauthorized" in robot("get", "pods", "-n", space).stderr


def test_impersonation(served: Any, space: str) -> None:
    done = served.kubectl("get", "pods", "-n", space, "--as=bob")
    assert 'User "bob" cannot list resource "pods"' in done.stderr
    served.ok("create", "rolebinding", "view", "--clusterrole=view", "--group=dev", "-n", space)
    assert served.kubectl("get", "pods", "-n", space, "--as=bob", "--as-group=dev").returncode == 0
    done = served.kubectl("get", "secrets", "-n", space, "--as=bob", "--as-group=dev")
    assert done.returncode == 1, "view shows no secrets"


def test_administrators_of_a_namespace_stay_in_it(served: Any, space: str) -> None:
    served.ok("create", "rolebinding", "boss", "--clusterrole=admin", "--user=boss", "-n", space)

    def boss(*arguments: str) -> str:
        return str(served.kubectl(*arguments, "-n", space, "--as=boss").stderr)

    assert not boss("create", "rolebinding", "x", "--clusterrole=view", "--user=bob")
    refusal = boss("create", "rolebinding", "y", "--clusterrole=cluster-admin", "--user=boss")
    assert "attempting to grant RBAC permissions not currently held" in refusal


# --- custom resources -------------------------------------------------------------------------


def widgets(group: str) -> Json:
    size = {"type": "integer", "minimum": 1, "maximum": 10, "description": "How big."}
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "description": "What is wanted.",
                "required": ["size"],
                "properties": {"size": size, "color": {"type": "string", "default": "blue"}},
            },
        },
    }
    column = {"name": "Size", "type": "integer", "jsonPath": ".spec.size"}
    wide = {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1}
    first = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": [column, wide],
    }
    second = {**first, "name": "v1beta1", "storage": False, "deprecated": True}
    names = {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names,
            "versions": [first, second],
        },
    }


def test_custom_resources(served: Any, space: str) -> None:
    served.apply(widgets("kubectl.example.com"))
    widget = {
        "apiVersion": "kubectl.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "namespace": space},
        "spec": {"size": 3},
    }
    assert served.apply(widget) == "widget.kubectl.example.com/w created\n"
    assert columns(served.ok("get", "wd", "-n", space)) == [["NAME", "SIZE"], ["w", "3"]]
    wide = columns(served.ok("get", "wd", "-n", space, "-o", "wide"))
    assert wide == [["NAME", "SIZE", "COLOR"], ["w", "3", "blue"]]
    assert "How big." in served.ok("explain", "widgets.spec.size")
    done = served.kubectl("get", "widgets.v1beta1.kubectl.example.com", "-n", space)
    assert done.stderr == "Warning: version v1beta1 is deprecated\n"
    widget["spec"] = {"size": 11}
    done = served.kubectl("apply", "-f", "-", stdin=json.dumps(widget))
    assert done.stderr == (
        'The Widget "w" is invalid: spec.size: Invalid value: 11: spec.size in body should be '
        "less than or equal to 10\n"
    )
    widget["spec"] = {"size": 1, "colour": "red"}
    done = served.kubectl("apply", "-f", "-", stdin=json.dumps(widget))
    assert 'strict decoding error: unknown field "spec.colour"' in done.stderr
    served.ok("delete", "crd", "widgets.kubectl.example.com")
    assert served.kubectl("get", "wd", "-n", space).returncode == 1


def test_definitions_do_not_replace_what_is_built_in(served: Any) -> None:
    crd = widgets("coordination.k8s.io")
    crd["metadata"]["name"] = "leases.coordination.k8s.io"
    crd["spec"]["names"] = {"plural": "leases", "kind": "Lease"}
    done = served.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    assert "this resource is built into the API server" in done.stderr


def test_rules_nobody_evaluates_are_told(served: Any) -> None:
    crd = widgets("cel.example.com")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["x-kubernetes-validations"] = [{"rule": "self.spec.size > 1"}]
    done = served.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    assert done.stderr.startswith("Warning: x-kubernetes-validations: ")
    assert done.returncode == 0
    served.ok("delete", "crd", "widgets.cel.example.com")


@pytest.mark.parametrize(
    ("command", "hint"),
    [(("port-forward", "pod/p", "8080"), "kubectl proxy"), (("attach", "p"), "kubectl exec")],
)
def test_what_is_not_offered_says_so(
    served: Any, space: str, command: tuple[str, ...], hint: str
) -> None:
    served.apply(pod(space))
    running = {"status": {"phase": "Running"}}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps(running))
    served.ok("patch", "pod", "p", "-n", space, *patch)
    done = served.kubectl(*command, "-n", space)
    assert done.returncode == 1
    assert hint in done.stderr


# --- size and speed ---------------------------------------------------------------------------


def resident_megabytes(pid: int) -> float:
    from pathlib import Path

    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


def test_a_thousand_deployments(served: Any, space: str) -> None:
    """Issue 3, section 2: under 150 MB, listed in under 2 s."""
    headers = {"authorization": f"Bearer {served.token}"}
    with unverified(served) as client:
        for number in range(1000):
            wish = deployment(space, f"web-{number}")
            wish["metadata"]["annotations"] = {"last": json.dumps(wish)}
            path = f"/apis/apps/v1/namespaces/{space}/deployments"
            assert client.post(path, json=wish, headers=headers).status_code == 201
    start = time.monotonic()
    listed = served.ok("get", "deployments", "-n", space, "--no-headers")
    assert time.monotonic() - start < 2.0
    assert len(listed.splitlines()) == 1000
    assert resident_megabytes(served.process.pid) < 150
    served.ok("delete", "--raw", f"/apis/apps/v1/namespaces/{space}/deployments")

"""The common way of every write, through the in-process client."""

import asyncio
from typing import Any

import pytest

from meshlab.cluster.embedded.client import ApiError, Client

Json = dict[str, Any]

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
MADE_BY_SERVER = {"uid", "creationTimestamp", "resourceVersion"}


def deployment(name: str = "web", **spec: Any) -> Json:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }
    selector = {"matchLabels": {"app": "web"}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, "template": template, **spec},
    }


def service(name: str = "web", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}, **spec},
    }


def pod(name: str = "p", **spec: Any) -> Json:
    containers = [{"name": "c", "image": "busybox:1"}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": containers, **spec},
    }


def crd(**version: Any) -> Json:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "maximum": 9},
                    "color": {"type": "string", "default": "blue"},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    first = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        **version,
    }
    names = {"plural": "widgets", "kind": "Widget"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [first]}
    return {"metadata": {"name": "widgets.example.com"}, "spec": spec}


async def refused(work: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await work
    return caught.value


def test_the_clusters_own_services_have_endpoints(run: Any) -> None:
    """A sidecar goes by endpoints: without them no injected pod reaches the API server."""

    async def test(client: Client) -> None:
        for namespace, service, number in (
            ("default", "kubernetes", 443),
            ("kube-system", "kube-dns", 53),
        ):
            address = (await client.get("services", service, namespace))["spec"]["clusterIP"]
            (found,) = client.list(
                "endpointslices.discovery.k8s.io",
                namespace,
                label_selector=f"kubernetes.io/service-name={service}",
            )
            assert [each["addresses"] for each in found["endpoints"]] == [[address]]
            assert {port["port"] for port in found["ports"]} == {number}

    run(test)


def test_create_fills_in_what_is_not_said(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create("deployments.apps", deployment())
        assert made["apiVersion"] == "apps/v1"
        assert made["kind"] == "Deployment"
        assert made["metadata"].keys() - {"name", "namespace", "generation"} == MADE_BY_SERVER
        assert made["metadata"]["generation"] == 1
        rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
        spec = made["spec"]
        assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
        assert (spec["replicas"], spec["revisionHistoryLimit"]) == (1, 10)
        container = spec["template"]["spec"]["containers"][0]
        assert container["imagePullPolicy"] == "Always"
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30

    run(body)


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("host:5000/busybox", "Always"),
        ("busybox@sha256:00", "IfNotPresent"),
    ],
)
def test_image_pull_policy(run: Any, image: str, policy: str) -> None:
    async def body(client: Client) -> None:
        made = await client.create(
            "pods", pod() | {"spec": {"containers": [{"name": "c", "image": image}]}}
        )
        assert made["spec"]["containers"][0]["imagePullPolicy"] == policy

    run(body)


def test_pod_gets_its_token_and_tolerations(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create("pods", pod())
        mount = made["spec"]["containers"][0]["volumeMounts"][0]
        assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
        (volume,) = made["spec"]["volumes"]
        assert volume["name"] == mount["name"]
        assert len(made["spec"]["tolerations"]) == 2
        assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
        bare = await client.create("pods", pod("q", automountServiceAccountToken=False))
        assert "volumes" not in bare["spec"]
        error = await refused(client.create("pods", pod("r", serviceAccountName="nobody")))
        assert error.message == (
            'pods "r" is forbidden: error looking up service account default/nobody: '
            'serviceaccount "nobody" not found'
        )

    run(body)


def test_generated_names_differ(run: Any) -> None:
    async def body(client: Client) -> None:
        made = [
            await client.create("configmaps", {"metadata": {"generateName": "c-"}}, "default")
            for _ in range(3)
        ]
        names = {m["metadata"]["name"] for m in made}
        assert len(names) == 3
        assert all(name.startswith("c-") and len(name) == 7 for name in names)

    run(body)


@pytest.mark.parametrize(
    ("resource", "obj", "message"),
    [
        pytest.param(
            "configmaps",
            {"metadata": {"name": "Big_Name", "namespace": "default"}},
            "a lowercase RFC 1123 subdomain must consist of",
            id="name",
        ),
        pytest.param("services", service("1web"), "a DNS-1035 label must consist", id="DNS-1035"),
        pytest.param(
            "services",
            service(ports=[]),
            'Service "web" is invalid: spec.ports: Required value',
            id="service without ports",
        ),
        pytest.param(
            "services",
            service(ports=[{"port": 1}, {"port": 2}]),
            'Service "web" is invalid: [spec.ports[0].name: Required value, '
            "spec.ports[1].name: Required value]",
            id="several ports need names",
        ),
        pytest.param(
            "services",
            service(ports=[{"port": 70000}]),
            "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
            id="port",
        ),
        pytest.param(
            "services",
            service(clusterIP="10.0.0.1"),
            "the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/16",
            id="ClusterIP out of range",
        ),
        pytest.param(
            "services",
            service(clusterIP="10.96.0.1"),
            "provided IP is already allocated",
            id="ClusterIP taken",
        ),
        pytest.param(
            "services",
            service(type="NodePort", ports=[{"port": 80, "nodePort": 80}]),
            "The range of valid ports is 30000-32767",
            id="nodePort out of range",
        ),
        pytest.param(
            "services",
            service(type="NodePort", ports=[{"port": 80, "nodePort": 31999}]),
            "provided port is in use by another program on this machine",
            id="nodePort not free on the host",
        ),
        pytest.param(
            "deployments.apps",
            deployment(selector={"matchLabels": {"app": "api"}}),
            "`selector` does not match template `labels`",
            id="selector",
        ),
        pytest.param(
            "deployments.apps",
            deployment(replicas=-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            id="replicas",
        ),
        pytest.param(
            "pods",
            pod(containers=[{"name": "c"}]),
            'Pod "p" is invalid: spec.containers[0].image: Required value',
            id="image",
        ),
        pytest.param(
            "pods",
            pod(containers=[{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]),
            'spec.containers[1].name: Duplicate value: "c"',
            id="two of a name",
        ),
        pytest.param(
            "pods",
            pod(
                containers=[
                    {
                        "name": "c",
                        "image": "i",
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    }
                ]
            ),
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
            id="mount without volume",
        ),
        pytest.param(
            "pods",
            pod(restartPolicy="Sometimes"),
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", '
            '"Never", "OnFailure"',
            id="restartPolicy",
        ),
        pytest.param(
            "secrets",
            {"metadata": {"name": "s", "namespace": "default"}, "data": {"k": "not base64!"}},
            'data[k]: Invalid value: "not base64!": illegal base64 data',
            id="base64",
        ),
        pytest.param(
            "configmaps",
            {"metadata": {"name": "c", "namespace": "nowhere"}},
            'namespaces "nowhere" not found',
            id="no such namespace",
        ),
        pytest.param(
            "configmaps",
            {"metadata": {"name": "c", "namespace": "default", "labels": {"a": "b c"}}},
            "a valid label must be an empty string or consist of",
            id="label value",
        ),
        pytest.param(
            "configmaps",
            {"metadata": {"name": "c", "namespace": "default"}, "dataa": {}},
            'strict decoding error: unknown field "dataa"',
            id="unknown field",
        ),
        pytest.param(
            "configmaps",
            {"metadata": {"name": "c", "namespace": "default"}, "data": {"a": 1}},
            "cannot unmarshal number into Go struct field ConfigMap.data.a of type string",
            id="type",
        ),
        pytest.param(CRDS, crd(schema={}), "schemas are required", id="CRD without a schema"),
    ],
)
def test_refused(run: Any, resource: str, obj: Json, message: str) -> None:
    async def body(client: Client) -> None:
        error = await refused(client.create(resource, obj))
        assert message in error.message

    run(body)


def test_second_of_a_name(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create("services", service())
        error = await refused(client.create("services", service()))
        assert (error.status_code, error.reason) == (409, "AlreadyExists")
        assert error.message == 'services "web" already exists'

    run(body)


def test_update_needs_the_latest_revision(run: Any) -> None:
    async def body(client: Client) -> None:
        first = await client.create("deployments.apps", deployment())
        second = await client.patch("deployments.apps", "web", {"spec": {"replicas": 2}}, "default")
        assert int(second["metadata"]["resourceVersion"]) > int(
            first["metadata"]["resourceVersion"]
        )
        error = await refused(client.update("deployments.apps", first))
        assert (error.status_code, error.reason) == (409, "Conflict")
        assert error.message == (
            'Operation cannot be fulfilled on deployments.apps "web": the object has been '
            "modified; please apply your changes to the latest version and try again"
        )
        del first["metadata"]["resourceVersion"]
        third = await client.update("deployments.apps", first)
        assert third["spec"]["replicas"] == 1

    run(body)


def test_generation_counts_wishes_only(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create("deployments.apps", deployment())

        async def after(patch: Json, subresource: str = "") -> int:
            made = await client.patch(
                "deployments.apps", "web", patch, "default", subresource=subresource
            )
            return int(made["metadata"]["generation"])

        assert await after({"metadata": {"labels": {"a": "b"}}}) == 1
        assert await after({"status": {"replicas": 3}}, "status") == 1
        assert await after({"spec": {"replicas": 3}}) == 2
        assert await after({"spec": {"replicas": 3}}) == 2

    run(body)


def test_no_change_is_no_write(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create("services", service())
        same = await client.update("services", made)
        assert same == made

    run(body)


def test_status_is_apart(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create("pods", pod())
        made["status"] = {"phase": "Running"}
        made["metadata"]["labels"] = {"kept": "yes"}
        first = await client.update("pods", made)
        assert first["status"]["phase"] == "Pending"
        made["metadata"].pop("resourceVersion")
        made["metadata"]["labels"] = {"kept": "no"}
        second = await client.update("pods", made, subresource="status")
        assert second["status"]["phase"] == "Running"
        assert second["metadata"]["labels"] == {"kept": "yes"}

    run(body)


@pytest.mark.parametrize(
    ("resource", "obj", "patch", "field"),
    [
        ("services", service(), {"spec": {"clusterIP": "10.96.9.9"}}, "spec.clusterIP"),
        (
            "deployments.apps",
            deployment(),
            {"spec": {"selector": {"matchLabels": {"tier": "x"}}}},
            "spec.selector",
        ),
        ("pods", pod(), {"spec": {"dnsPolicy": "Default"}}, "spec"),
        (
            "secrets",
            {"metadata": {"name": "s", "namespace": "default"}},
            {"type": "other"},
            "type",
        ),
        (
            "configmaps",
            {"metadata": {"name": "c", "namespace": "default"}, "immutable": True},
            {"data": {"a": "b"}},
            "data",
        ),
    ],
)
def test_immutable(run: Any, resource: str, obj: Json, patch: Json, field: str) -> None:
    async def body(client: Client) -> None:
        await client.create(resource, obj)
        error = await refused(client.patch(resource, obj["metadata"]["name"], patch, "default"))
        assert error.status_code == 422
        assert field in {cause["field"] for cause in error.details["causes"]}

    run(body)


def test_uid_and_creation_stay(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create("services", service())
        changed = await client.patch(
            "services",
            "web",
            {"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z"}},
            "default",
        )
        assert changed == made
        error = await refused(
            client.patch("services", "web", {"metadata": {"uid": "other"}}, "default")
        )
        assert "Precondition failed: UID in precondition: other" in error.message

    run(body)


def test_addresses_are_kept_and_given_back(run: Any) -> None:
    async def body(client: Client) -> None:
        first = await client.create("services", service(type="NodePort"))
        address, port = first["spec"]["clusterIP"], first["spec"]["ports"][0]["nodePort"]
        assert address.startswith("10.96.")
        assert 30000 <= port <= 32767
        del first["spec"]["clusterIP"], first["spec"]["clusterIPs"]
        del first["spec"]["ports"][0]["nodePort"]
        second = await client.update("services", first)
        assert second["spec"]["clusterIP"] == address
        assert second["spec"]["ports"][0]["nodePort"] == port
        taken = service("other", type="NodePort", ports=[{"port": 1, "nodePort": port}])
        error = await refused(client.create("services", taken))
        assert "provided port is already allocated" in error.message
        await client.delete("services", "web", "default")
        assert await client.create("services", taken)

    run(body)


def test_headless_and_external(run: Any) -> None:
    async def body(client: Client) -> None:
        headless = await client.create("services", service("h", clusterIP="None"))
        assert headless["spec"]["clusterIPs"] == ["None"]
        spec = {"type": "ExternalName", "externalName": "example.com"}
        external = {"metadata": {"name": "e", "namespace": "default"}, "spec": spec}
        made = await client.create("services", external)
        assert "clusterIP" not in made["spec"]

    run(body)


def test_secrets_keep_plain_text_as_data(run: Any) -> None:
    async def body(client: Client) -> None:
        plain = {"metadata": {"name": "s", "namespace": "default"}, "stringData": {"a": "b"}}
        made = await client.create("secrets", plain)
        assert made["data"] == {"a": "Yg=="}
        assert made["type"] == "Opaque"
        assert "stringData" not in made

    run(body)


# --- deleting ---------------------------------------------------------------------------------


def test_pod_gets_its_grace(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create("pods", pod(nodeName="n"))
        told = await client.delete("pods", "p", "default", grace_period_seconds=5)
        assert told["metadata"]["deletionGracePeriodSeconds"] == 5
        again = await client.delete("pods", "p", "default", grace_period_seconds=9)
        assert again["metadata"]["deletionGracePeriodSeconds"] == 5, "grace only shrinks"
        await client.delete("pods", "p", "default", grace_period_seconds=0)
        assert (await refused(client.get("pods", "p", "default"))).status_code == 404

    run(body)


def test_pod_without_a_node_goes_at_once(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create("pods", pod())
        await client.delete("pods", "p", "default")
        assert client.list("pods") == []

    run(body)


def test_finalizers_hold(run: Any) -> None:
    async def body(client: Client) -> None:
        held = {"metadata": {"name": "c", "namespace": "default", "finalizers": ["x/y"]}}
        await client.create("configmaps", held)
        told = await client.delete("configmaps", "c", "default")
        assert told["metadata"]["deletionTimestamp"]
        more = {"metadata": {"finalizers": ["x/y", "z/z"]}}
        error = await refused(client.patch("configmaps", "c", more, "default"))
        assert "no new finalizers can be added if the object is being deleted" in error.message
        await client.patch("configmaps", "c", {"metadata": {"finalizers": None}}, "default")
        assert client.list("configmaps") == []

    run(body)


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])],
)
def test_propagation_leaves_it_to_the_garbage_collector(
    run: Any, policy: str, finalizers: list[str]
) -> None:
    async def body(client: Client) -> None:
        await client.create("deployments.apps", deployment())
        told = await client.delete("deployments.apps", "web", "default", propagation_policy=policy)
        assert told["metadata"]["finalizers"] == finalizers

    run(body)


def test_preconditions(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create("services", service())
        error = await refused(client.delete("services", "web", "default", uid="other"))
        assert (error.status_code, error.reason) == (409, "Conflict")
        error = await refused(client.delete("services", "web", "default", resource_version="1"))
        assert error.status_code == 409
        gone = await client.delete("services", "web", "default", uid=made["metadata"]["uid"])
        assert gone["status"] == "Success"

    run(body)


def test_namespace_waits_for_its_contents(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create("namespaces", {"metadata": {"name": "shop"}})
        ending = await client.delete("namespaces", "shop")
        assert ending["status"]["phase"] == "Terminating"
        error = await refused(client.create("configmaps", {"metadata": {"name": "c"}}, "shop"))
        assert error.status_code == 403
        assert error.details["causes"][0]["reason"] == "NamespaceTerminating"
        ending["spec"]["finalizers"] = []
        await client.update("namespaces", ending, subresource="finalize")
        assert (await refused(client.get("namespaces", "shop"))).status_code == 404
        error = await refused(client.delete("namespaces", "kube-system"))
        assert error.reason == "Forbidden"

    run(body)


# --- custom resources -------------------------------------------------------------------------


def widget(name: str = "w", **spec: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


WIDGETS = "widgets.example.com"


def test_crd_is_served_at_once(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create(CRDS, crd())
        conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}
        assert made["status"]["storedVersions"] == ["v1"]
        assert WIDGETS in {r.key for r in client.resources()}
        first = await client.create(WIDGETS, widget(size=1))
        assert first["spec"] == {"size": 1, "color": "blue"}
        error = await refused(client.create(WIDGETS, widget("x", size=10)))
        assert "spec.size in body should be less than or equal to 9" in error.message

    run(body)


def test_custom_status_and_generation(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create(CRDS, crd())
        first = await client.create(WIDGETS, {**widget(size=1), "status": {"ready": True}})
        assert "status" not in first
        status = {"status": {"ready": True}}
        second = await client.patch(WIDGETS, "w", status, "default", subresource="status")
        assert (second["status"], second["metadata"]["generation"]) == ({"ready": True}, 1)
        third = await client.patch(WIDGETS, "w", {"spec": {"size": 2}}, "default")
        assert third["metadata"]["generation"] == 2

    run(body)


def test_deleted_crd_takes_its_objects_along(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create(CRDS, crd())
        await client.create(WIDGETS, widget("free"))
        held = widget("held")
        held["metadata"]["finalizers"] = ["x/y"]
        await client.create(WIDGETS, held)
        told = await client.delete(CRDS, WIDGETS)
        assert told["metadata"]["deletionTimestamp"]
        assert [o["metadata"]["name"] for o in client.list(WIDGETS)] == ["held"]
        await client.patch(WIDGETS, "held", {"metadata": {"finalizers": None}}, "default")
        assert (await refused(client.get(CRDS, WIDGETS))).status_code == 404
        with pytest.raises(ApiError):
            client.list(WIDGETS)

    run(body)


# --- watching ---------------------------------------------------------------------------------


def test_watch_shows_what_is_there_then_every_change(run: Any) -> None:
    async def body(client: Client) -> None:
        await client.create("services", service("before"))
        seen: list[tuple[str, str]] = []

        async def watch() -> None:
            async for kind, obj in client.watch("services", "default"):
                seen.append((kind, obj["metadata"]["name"]))
                if kind == "DELETED":
                    return

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        await client.create("services", service("after"))
        await client.patch("services", "after", {"metadata": {"labels": {"a": "b"}}}, "default")
        await client.create(
            "services", {**service("else"), "metadata": {"name": "e", "namespace": "kube-system"}}
        )
        await client.delete("services", "after", "default")
        await watching
        assert sorted(seen[:2]) == [("ADDED", "before"), ("ADDED", "kubernetes")]
        assert seen[2:] == [("ADDED", "after"), ("MODIFIED", "after"), ("DELETED", "after")]

    run(body)


def test_events_are_counted(run: Any) -> None:
    async def body(client: Client) -> None:
        made = await client.create("services", service())
        for _ in range(3):
            await client.event(
                made, type="Normal", reason="Seen", message="hello", component="test"
            )
        await client.event(made, type="Warning", reason="Seen", message="bye", component="test")
        found = {e["message"]: e for e in client.list("events", "default")}
        assert {message: e["count"] for message, e in found.items()} == {"hello": 3, "bye": 1}
        about = found["hello"]["involvedObject"]
        assert (about["kind"], about["name"], about["uid"]) == (
            "Service",
            "web",
            made["metadata"]["uid"],
        )

    run(body)


def test_tokens_end_with_their_pod(run: Any, server: Any) -> None:
    async def body(client: Client) -> None:
        account = {"metadata": {"name": "robot", "namespace": "default"}}
        await client.create("serviceaccounts", account)
        bound = await client.create("pods", pod(serviceAccountName="robot"))
        token, ends = await client.create_token(
            "default", "robot", audiences=["mesh"], expiration_seconds=900, pod=bound
        )
        verified = server._tokens.verify(token)
        assert verified.audiences == ("mesh",)
        assert verified.caller.name == "system:serviceaccount:default:robot"
        assert server._tokens.caller(token) is None, "it is for the mesh, not for this server"
        await client.delete("pods", "p", "default")
        assert server._tokens.verify(token) is None
        assert ends.tzinfo

    run(body)

"""EndpointSlices against the real API machinery, in process."""

from collections.abc import Callable
from typing import Any

Run = Callable[[Any], None]
SLICES = "endpointslices.discovery.k8s.io"


def addresses(cluster: Any, service: str = "web") -> dict[str, bool]:
    """Return address → ready of a Service's endpoints."""
    found = cluster.client.list(
        SLICES, "shop", label_selector=f"kubernetes.io/service-name={service}"
    )
    return {
        e["addresses"][0]: e["conditions"]["ready"] for s in found for e in s.get("endpoints") or ()
    }


async def make_service(cluster: Any, **spec: Any) -> None:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    service = {"metadata": {"name": "web"}, "spec": spec}
    await cluster.client.create("services", service, "shop")


def test_endpoints_follow_the_pods(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await make_service(cluster)
        await cluster.apply("web", "v1", 3)
        await cluster.until(lambda: len(addresses(cluster)) == 3)
        await cluster.client.patch("deployments.apps", "web", {"spec": {"replicas": 1}}, "shop")
        await cluster.until(lambda: len(addresses(cluster)) == 1)
        [pod] = [
            p for p in cluster.client.list("pods") if not p["metadata"].get("deletionTimestamp")
        ]
        assert addresses(cluster) == {pod["status"]["podIP"]: True}
        assert len(cluster.client.list(SLICES, "shop")) == 1

    run(scenario)


def test_a_pod_that_is_not_ready_is_listed_as_such(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        cluster.broken_images.add("bad")
        await make_service(cluster)
        await cluster.apply("web", "bad", 1)
        await cluster.until(lambda: list(addresses(cluster).values()) == [False])

    run(scenario)


def test_a_label_that_changes_moves_the_pod(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await make_service(cluster, selector={"role": "live"})
        await cluster.apply("web", "v1", 1)
        await cluster.settled("web", availableReplicas=1)
        assert addresses(cluster) == {}
        name = cluster.client.list("pods")[0]["metadata"]["name"]
        for labels, count in (({"role": "live"}, 1), ({"role": None}, 0)):
            await cluster.client.patch("pods", name, {"metadata": {"labels": labels}}, "shop")
            await cluster.until(lambda n=count: len(addresses(cluster)) == n)

    run(scenario)


def test_without_a_selector_the_slices_are_peoples_own(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        mine = {
            "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
        }
        await make_service(cluster, selector=None)
        await cluster.client.create(SLICES, mine, "shop")
        await cluster.apply("web", "v1", 1)
        await cluster.settled("web", availableReplicas=1)
        assert addresses(cluster) == {"192.0.2.1": True}

    run(scenario)


def test_slices_go_with_their_service(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await make_service(cluster)
        await cluster.until(lambda: cluster.client.list(SLICES, "shop"))
        await cluster.client.delete("services", "web", "shop")
        await cluster.until(lambda: not cluster.client.list(SLICES, "shop"))

    run(scenario)


def test_a_slice_that_someone_changed_is_put_right(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await make_service(cluster)
        await cluster.apply("web", "v1", 1)
        await cluster.until(lambda: len(addresses(cluster)) == 1)
        [present] = cluster.client.list(SLICES, "shop")
        await cluster.client.patch(SLICES, present["metadata"]["name"], {"endpoints": []}, "shop")
        await cluster.until(lambda: len(addresses(cluster)) == 1)

    run(scenario)

"""What a namespace starts with and how it ends, against the real API machinery, in process."""

from collections.abc import Callable
from typing import Any

import pytest

from meshlab.cluster.embedded.client import ApiError
from meshlab.cluster.embedded.controller.service_account import ROOT_CA

Run = Callable[[Any], None]


def test_a_namespace_starts_with_an_account_and_the_authority(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        def there() -> Any:
            maps = cluster.client.list("configmaps", "shop")
            accounts = cluster.client.list("serviceaccounts", "shop")
            return (maps[0], accounts[0]) if maps and accounts else None

        config_map, account = await cluster.until(there)
        assert (config_map["metadata"]["name"], config_map["data"]) == (ROOT_CA, {"ca.crt": "CA"})
        assert account["metadata"]["name"] == "default"
        await cluster.client.delete("configmaps", ROOT_CA, "shop")
        await cluster.client.delete("serviceaccounts", "default", "shop")
        await cluster.until(there)
        await cluster.client.patch("configmaps", ROOT_CA, {"data": {"ca.crt": "x"}}, "shop")
        await cluster.until(lambda: there()[0]["data"] == {"ca.crt": "CA"})

    run(scenario)


def test_a_deleted_namespace_takes_everything_along(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        await cluster.apply("web", "v1", 2)
        await cluster.settled("web", availableReplicas=2)
        await cluster.client.create("configmaps", {"metadata": {"name": "mine"}}, "shop")
        deleted = await cluster.client.delete("namespaces", "shop")
        assert deleted["status"]["phase"] == "Terminating"

        def gone() -> bool:
            names = {n["metadata"]["name"] for n in cluster.client.list("namespaces")}
            return "shop" not in names

        await cluster.until(gone)
        left = {r.key: cluster.client.list(r.key, "shop") for r in cluster.client.resources()}
        assert {key: found for key, found in left.items() if found} == {}
        with pytest.raises(ApiError, match="shop"):
            await cluster.client.create("configmaps", {"metadata": {"name": "late"}}, "shop")

    run(scenario)


def test_a_namespace_says_what_it_waits_for(run: Run) -> None:
    async def scenario(cluster: Any) -> None:
        held = {"metadata": {"name": "held", "finalizers": ["example.com/wait"]}}
        await cluster.client.create("configmaps", held, "shop")
        await cluster.client.delete("namespaces", "shop")

        def remaining() -> Any:
            [shop] = [
                n for n in cluster.client.list("namespaces") if n["metadata"]["name"] == "shop"
            ]
            messages = [c["message"] for c in shop["status"].get("conditions", ())]
            return messages == ["Some resources are remaining: configmaps has 1 resource instances"]

        await cluster.until(remaining)
        patch = {"metadata": {"finalizers": None}}
        await cluster.client.patch("configmaps", "held", patch, "shop")
        await cluster.until(lambda: not cluster.client.list("namespaces"))

    run(scenario)

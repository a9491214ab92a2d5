"""Which mode a workload's port is in: mesh, namespace, workload, port."""

import pytest
from fixtures.world import world

from meshlab.control.translate.peer_authentication import namespace_mode, workload_mode

HEAD = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"


def policy(namespace: str, spec: str, *, name: str = "default", created: str = "") -> str:
    meta = f"name: {name}, namespace: {namespace}, creationTimestamp: '{created}'"
    return f"{HEAD}metadata: {{{meta}}}\nspec: {spec}\n"


MESH_STRICT = policy("istio-system", "{mtls: {mode: STRICT}}")
APP = "selector: {matchLabels: {app: web}}"


@pytest.mark.parametrize(
    ("policies", "port", "mode"),
    [
        pytest.param([], 80, "PERMISSIVE", id="default"),
        pytest.param([MESH_STRICT], 80, "STRICT", id="mesh"),
        pytest.param(
            [MESH_STRICT, policy("shop", "{mtls: {mode: DISABLE}}")],
            80,
            "DISABLE",
            id="namespace over mesh",
        ),
        pytest.param(
            [MESH_STRICT, policy("shop", "{mtls: {mode: UNSET}}")],
            80,
            "STRICT",
            id="UNSET inherits",
        ),
        pytest.param([MESH_STRICT, policy("shop", "{}")], 80, "STRICT", id="empty inherits"),
        pytest.param(
            [MESH_STRICT, policy("other", "{mtls: {mode: DISABLE}}")],
            80,
            "STRICT",
            id="another namespace's",
        ),
        pytest.param(
            [MESH_STRICT, policy("shop", f"{{{APP}, mtls: {{mode: PERMISSIVE}}}}", name="w")],
            80,
            "PERMISSIVE",
            id="workload over mesh",
        ),
        pytest.param(
            [policy("shop", "{selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}}")],
            80,
            "PERMISSIVE",
            id="another workload's",
        ),
        pytest.param(
            [
                policy(
                    "shop",
                    f"{{{APP}, mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: DISABLE}}}}}}",
                )
            ],
            80,
            "DISABLE",
            id="port over workload",
        ),
        pytest.param(
            [
                policy(
                    "shop",
                    f"{{{APP}, mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: DISABLE}}}}}}",
                )
            ],
            81,
            "STRICT",
            id="other ports keep the workload's",
        ),
        pytest.param(
            [
                policy(
                    "shop",
                    f"{{{APP}, mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: UNSET}}}}}}",
                )
            ],
            80,
            "STRICT",
            id="port UNSET inherits",
        ),
        pytest.param(
            [
                policy("shop", "{mtls: {mode: DISABLE}}", name="b", created="2024-01-02T00:00:00Z"),
                policy("shop", "{mtls: {mode: STRICT}}", name="z", created="2024-01-01T00:00:00Z"),
            ],
            80,
            "STRICT",
            id="the oldest of a level",
        ),
    ],
)
def test_workload_mode(policies: list[str], port: int, mode: str) -> None:
    assert workload_mode(world(*policies), "shop", {"app": "web"}, port) == mode


def test_selectors_do_not_count_for_the_namespace() -> None:
    snapshot = world(policy("shop", f"{{{APP}, mtls: {{mode: STRICT}}}}"))
    assert namespace_mode(snapshot, "shop") == "PERMISSIVE"

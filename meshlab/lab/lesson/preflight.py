"""Lesson 0: is the machine ready, and what is there before anything is taught?"""

from typing import TYPE_CHECKING

from meshlab.lab.checkpoint import Checkpoint, Finding
from meshlab.lab.lesson.base import Lesson, Step
from meshlab.mesh import ROOT_NAMESPACE

if TYPE_CHECKING:
    from meshlab.lab.lab import Lab

MESH_DEPLOYMENTS = ("istiod", "istio-ingressgateway")
BOOT_SECONDS = 60.0


def node(lab: "Lab") -> Finding:
    """Look whether the cluster has a node that takes pods."""
    nodes = lab.mesh.kube.list("nodes")
    states = {n["metadata"]["name"]: _ready(n) for n in nodes}
    bad = [name for name, ready in states.items() if not ready]
    return Finding(
        passed=bool(states) and not bad,
        observed=", ".join(f"node {n} {'Ready' if r else 'NotReady'}" for n, r in states.items())
        or "no node",
        expected="every node Ready",
        cause=f"not Ready: {', '.join(bad)}" if bad else "" if states else "there is no node",
    )


def _ready(obj: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def mesh(lab: "Lab") -> Finding:
    """Look whether control plane and ingress gateway run."""
    problems, seen = [], []
    for name in MESH_DEPLOYMENTS:
        found = lab.mesh.kube.get("deployments.apps", name, ROOT_NAMESPACE)
        if found is None:
            problems.append(f"there is no Deployment {name} in {ROOT_NAMESPACE}")
            continue
        wanted = found["spec"].get("replicas", 1)
        ready = (found.get("status") or {}).get("readyReplicas", 0)
        seen.append(f"{name} {ready}/{wanted}")
        if not wanted:
            problems.append(f"{name} is scaled to 0")
        elif ready < wanted:
            problems.append(f"{name} has {ready} of {wanted} pods ready")
    return Finding(
        passed=not problems,
        observed=", ".join(seen) or "nothing of the mesh",
        expected="istiod and istio-ingressgateway ready",
        cause="; ".join(problems),
        again=not any("no Deployment" in p or "scaled to 0" in p for p in problems),
    )


def boot(lab: "Lab") -> Finding:
    """Look at the boot that was measured."""
    seconds = lab.memory.get("boot")
    if seconds is None:
        return Finding(
            passed=False,
            observed="no boot",
            expected=f"one within {BOOT_SECONDS:g} s",
            cause="no cluster was booted in this lab yet",
            again=False,
        )
    return Finding(
        passed=seconds <= BOOT_SECONDS,
        observed=f"{seconds:.1f} s from nothing to a mesh",
        expected=f"at most {BOOT_SECONDS:g} s",
        cause="this machine is slow or busy: see which bar of the chart is long",
        again=False,
    )


LESSON = Lesson(
    number="00",
    title="Preflight: the stage",
    minutes=5,
    goal="Know what runs on your machine before the first lesson, and that it works.",
    steps=[
        Step(
            checkpoint=Checkpoint(
                name="preflight.node",
                covers="the nodes' Ready condition",
                look=node,
                hints=(
                    "A cluster without a ready node takes objects and runs nothing.",
                    "Look at the node's conditions and events.",
                    "kubectl describe nodes; meshlab status",
                ),
                timeout=10,
            ),
            solve=lambda lab: lab.up(),
        ),
        Step(
            checkpoint=Checkpoint(
                name="preflight.mesh",
                covers="the Deployments of istio-system",
                look=mesh,
                hints=(
                    "The mesh is two Deployments like any others.",
                    "They live in the namespace istio-system; how many pods do they want and have?",
                    "kubectl -n istio-system get deployments,pods; meshlab install",
                ),
                timeout=20,
            ),
            solve=lambda lab: lab.up(),
        ),
        Step(
            checkpoint=Checkpoint(
                name="preflight.boot",
                covers="the cluster that lab.boot() made and removed",
                look=boot,
                hints=(
                    "A cluster of your own costs seconds: measure it.",
                    "The lab has a verb that boots one beside yours and removes it again.",
                    "lab.boot()",
                ),
            ),
            solve=lambda lab: lab.boot(),
        ),
    ],
    source=["meshlab/cluster/embedded/supervisor.py", "meshlab/install.py"],
)

from typing import Any

import pytest

from meshlab.cluster.embedded.controller import revision
from meshlab.cluster.embedded.controller.rollout import Limits

Object = dict[str, Any]

TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "busybox"}]},
}


def deployment(**annotations: str) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "d1", "annotations": annotations},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": TEMPLATE,
            "minReadySeconds": 5,
        },
    }


def made(number: int, *, image: str = "busybox", replicas: int = 0, **status: int) -> Object:
    """Return the ReplicaSet of a revision, as the store has it."""
    template = {**TEMPLATE, "spec": {"containers": [{"name": "c", "image": image}]}}
    owner = deployment()
    owner["spec"]["template"] = template
    limits = Limits(replicas=3, max_surge=1, max_unavailable=1)
    result = revision.replica_set_for(owner, limits, replicas, {revision.REVISION: str(number)})
    result["metadata"] |= {"creationTimestamp": f"2024-01-0{number}T00:00:00Z", "generation": 1}
    result["status"] = {"replicas": 0, "observedGeneration": 1, **status}
    return result


def test_the_replica_set_of_a_template() -> None:
    limits = Limits(replicas=3, max_surge=1, max_unavailable=1)
    found = revision.replica_set_for(deployment(), limits, 3, {revision.REVISION: "1"})
    digest = found["metadata"]["labels"][revision.HASH]
    labels = {"app": "web", revision.HASH: digest}
    assert found == {
        "metadata": {
            "name": f"web-{digest}",
            "namespace": "shop",
            "labels": labels,
            "annotations": {
                revision.REVISION: "1",
                "deployment.kubernetes.io/desired-replicas": "3",
                "deployment.kubernetes.io/max-replicas": "4",
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": "web",
                    "uid": "d1",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": 3,
            "minReadySeconds": 5,
            "selector": {"matchLabels": labels},
            "template": {**TEMPLATE, "metadata": {"labels": labels}},
        },
    }


def test_the_hash_depends_on_template_and_collisions_and_spells_no_words() -> None:
    other = {**TEMPLATE, "spec": {}}
    hashes = {
        revision.template_hash(TEMPLATE, 0),
        revision.template_hash(TEMPLATE, 1),
        revision.template_hash(other, 0),
    }
    assert len(hashes) == 3
    assert set("".join(hashes)) <= set(revision.SAFE_ALPHABET)


def test_the_new_one_is_the_one_of_the_present_template() -> None:
    one, two = made(1), made(2, image="other")
    assert revision.find_new(deployment(), [two, one]) is one
    assert revision.find_new(deployment(), [two]) is None


@pytest.mark.parametrize(
    ("new", "number", "annotations"),
    [
        pytest.param(None, 2, {"note": "x", revision.REVISION: "2"}, id="made now"),
        pytest.param(made(2), 2, {"note": "x", revision.REVISION: "2"}, id="as it is"),
        pytest.param(
            made(1),
            4,
            {"note": "x", revision.REVISION: "4", revision.HISTORY: "1"},
            id="undone: back with a new number",
        ),
    ],
)
def test_revision_annotations(new: Object | None, number: int, annotations: dict[str, str]) -> None:
    given = deployment(note="x", **{"kubectl.kubernetes.io/last-applied-configuration": "{}"})
    assert revision.revision_annotations(given, new, number) == annotations


def test_scaled_since_the_last_scaling() -> None:
    three, idle = made(1, replicas=3), made(2, replicas=0)
    assert not revision.scaled_since(deployment(), [three, idle])
    changed = deployment()
    changed["spec"]["replicas"] = 5
    assert revision.scaled_since(changed, [three])
    assert not revision.scaled_since(changed, [idle])


def test_the_oldest_idle_ones_beyond_the_limit_go() -> None:
    limited = deployment()
    limited["spec"]["revisionHistoryLimit"] = 1
    one, two, three = made(1), made(2), made(3)
    busy = made(1, replicas=1)
    assert revision.surplus(limited, [three, one, two]) == [one, two]
    assert revision.surplus(limited, [busy, two, three]) == [two, three]
    assert revision.surplus(deployment(), [one, two, three]) == []

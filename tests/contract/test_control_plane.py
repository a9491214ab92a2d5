"""What the control plane makes, our own proxy takes: nothing unsupported, all of it compiles."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from fixtures.world import EVERYTHING, peer_authentication, router, sidecar, world

from meshlab.control.snapshot import Proxy, World
from meshlab.control.translate.cache import Resource
from meshlab.control.translate.resources import TYPES, resources
from meshlab.errors import ConfigError
from meshlab.proxy.config.snapshot import COMPILERS
from meshlab.proxy.config.unsupported import EXTENSIONS, find

MANIFESTS = Path(__file__).parents[2] / "labs" / "manifests"


def problems(made: Mapping[str, Mapping[str, Resource]]) -> list[str]:
    """Return what the proxy would refuse, by resource."""
    found = []
    for type_url in TYPES:
        for name, resource in made[type_url].items():
            found += [f"{name}: {error}" for error in find(resource.message)]
            try:
                COMPILERS[type_url](resource.message)
            except ConfigError as error:
                found.append(f"{name}: {error}")
    return found


def of(snapshot: World, proxy: Proxy) -> Mapping[str, Mapping[str, Resource]]:
    made = resources(snapshot, proxy)
    assert all(made.values())
    return made


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT", "DISABLE"])
def test_every_field_for_a_sidecar(mode: str) -> None:
    snapshot = world(EVERYTHING, peer_authentication(mode), sidecars=True)
    assert problems(of(snapshot, sidecar(snapshot, "reviews", extensions=EXTENSIONS))) == []


def test_every_field_for_a_gateway() -> None:
    snapshot = world(EVERYTHING, sidecars=True)
    gateway = router(snapshot, "istio-ingressgateway", extensions=EXTENSIONS)
    assert problems(of(snapshot, gateway)) == []


LESSONS = sorted(each for each in MANIFESTS.iterdir() if each.is_dir() and each.name != "workshop")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda each: each.name)
def test_each_lesson(lesson: Path) -> None:
    files = sorted(lesson.glob("*.yaml"))
    steps = [files[: end + 1] for end in range(len(files))]
    assert steps
    for step in steps:
        snapshot = world(*step, sidecars=True)
        for workload in sorted({pod.workload for pod in snapshot.workloads.values()}):
            assert problems(of(snapshot, sidecar(snapshot, workload, extensions=EXTENSIONS))) == []


def test_equal_worlds_give_equal_bytes() -> None:
    made = []
    for _ in range(2):
        snapshot = world(EVERYTHING, sidecars=True)
        proxy = sidecar(snapshot, "reviews", extensions=EXTENSIONS)
        made.append(
            {t: {n: r.data for n, r in by.items()} for t, by in of(snapshot, proxy).items()}
        )
    assert all(one == other for one, other in pairwise(made))

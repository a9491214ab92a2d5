"""`import meshlab as ml`: the public Python API; what it needs is imported when it is used.

So `import meshlab.proxy` loads neither the Kubernetes client nor a notebook package (PEP 562).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlab.mesh import Mesh, attach, connect, down, stop, up
    from meshlab.namespace import Namespace, Pod
    from meshlab.route import Route

_PLACES = {
    "Mesh": "mesh",
    "Namespace": "namespace",
    "Pod": "namespace",
    "Route": "route",
    "attach": "mesh",
    "connect": "mesh",
    "down": "mesh",
    "stop": "mesh",
    "up": "mesh",
}

__all__ = ["Mesh", "Namespace", "Pod", "Route", "attach", "connect", "down", "stop", "up"]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

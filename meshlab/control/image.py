"""The image `meshlab/control`, as the embedded cluster runs it."""

from typing import Any


def images() -> list[dict[str, Any]]:
    """Return the images of this package (entry-point group `meshlab.images`)."""
    return [
        {
            "name": "meshlab/control",
            "tags": None,
            "entrypoint": ["python", "-m", "meshlab.control"],
            "cmd": [],
            "env": {},
            "user": 1337,
            "group": 1337,
            "bin": {},
            "about": "the control plane (istiod)",
        }
    ]

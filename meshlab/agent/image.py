"""The image `meshlab/proxy`, as the embedded cluster runs it."""

from typing import Any

AGENT = ["python", "-m", "meshlab.agent"]


def images() -> list[dict[str, Any]]:
    """Return the images of this package (entry-point group `meshlab.images`)."""
    return [
        {
            "name": "meshlab/proxy",
            "tags": None,
            "entrypoint": AGENT,
            "cmd": [],
            "env": {},
            "user": 1337,
            "group": 1337,
            "bin": {"pilot-agent": AGENT},
            "about": "sidecar and gateway: agent and data plane",
        }
    ]

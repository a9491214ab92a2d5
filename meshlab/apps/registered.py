"""The images this package brings: a name stands for a Python module or a host program.

Found by the entry-point group `meshlab.images`.
"""

from typing import Any

_BLUEGREEN = ["python", "-m", "meshlab.apps.bluegreen"]
_FORTIO = ["python", "-m", "meshlab.apps.load"]
_COLORS: dict[str, dict[str, str]] = {
    "blue": {"color": "blue"},
    "green": {"color": "green"},
    "buggy": {"color": "red", "buggy": "true", "buggy-status": "502"},
}


def images() -> list[dict[str, Any]]:
    """Return the images: name, tags (None: any), command, environment, user, own commands."""
    return [
        *(_bluegreen("xpiritbv/bluegreen", [tag], env) for tag, env in _COLORS.items()),
        *(_bluegreen("meshlab/bluegreen", [tag], env) for tag, env in _COLORS.items()),
        _bluegreen("meshlab/bluegreen", ["latest", "grey"], {"color": "grey"}),
        {
            "name": "fortio/fortio",
            "tags": None,
            "entrypoint": ["fortio"],
            "cmd": ["server"],
            "env": {},
            "user": 1000,
            "group": 1000,
            "bin": {"fortio": _FORTIO},
            "about": "load generator: fortio's load, server and curl",
        },
        {
            "name": "curlimages/curl",
            "tags": None,
            "entrypoint": ["curl"],
            "cmd": ["--version"],
            "env": {},
            "user": 100,
            "group": 101,
            "bin": {},
            "about": "curl and the host's shell",
        },
        {
            "name": "busybox",
            "tags": None,
            "entrypoint": [],
            "cmd": ["sh"],
            "env": {},
            "user": 0,
            "group": 0,
            "bin": {},
            "about": "the host's shell and tools",
        },
    ]


def _bluegreen(name: str, tags: list[str], env: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "tags": tags,
        "entrypoint": _BLUEGREEN,
        "cmd": [],
        "env": env,
        "user": 1000,
        "group": 3000,
        "bin": {},
        "about": f"demo service: GET /api/color answers {env['color']}"
        + (", or 502 for a quarter of the calls" if "buggy" in env else ""),
    }

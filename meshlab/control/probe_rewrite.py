"""Probes and hooks of app containers, pointed at the agent (istio.md 2.3, probe rewrite).

Under STRICT mutual TLS the kubelet has no certificate and cannot ask the app itself.
"""

from typing import Any

Json = dict[str, Any]

_PROBES = (
    ("livenessProbe", "livez"),
    ("readinessProbe", "readyz"),
    ("startupProbe", "startupz"),
)
_HOOKS = (("preStop", "prestopz"), ("postStart", "poststartz"))


def rewrite_probes(containers: list[Json], status_port: int) -> dict[str, Json]:
    """Rewrite in place; return path on the agent → the original, for ISTIO_KUBE_APP_PROBERS."""
    originals: dict[str, Json] = {}
    for container in containers:
        ports = {p["name"]: p["containerPort"] for p in container.get("ports") or () if "name" in p}
        name = container["name"]
        for field, word in _PROBES:
            if probe := container.get(field):
                path = f"/app-health/{name}/{word}"
                if original := _rewrite(probe, path, ports, status_port):
                    originals[path] = original
        lifecycle = container.get("lifecycle") or {}
        for field, word in _HOOKS:
            if hook := lifecycle.get(field):
                path = f"/app-lifecycle/{name}/{word}"
                if original := _rewrite(hook, path, ports, status_port):
                    originals[path] = original
    return originals


def _rewrite(handler: Json, path: str, ports: dict[str, int], status_port: int) -> Json | None:
    """Point one handler at the agent; None where it is of a kind that stays (exec, gRPC)."""
    for kind in ("httpGet", "tcpSocket"):
        action = handler.get(kind)
        if not action:
            continue
        port = ports.get(action["port"], action["port"])
        if not isinstance(port, int) or port == status_port:
            return None
        original = {kind: {**action, "port": port}}
        if "timeoutSeconds" in handler:
            original["timeoutSeconds"] = handler["timeoutSeconds"]
        del handler[kind]
        # https becomes http: the agent speaks TLS to the app, the kubelet not to the agent.
        handler["httpGet"] = {"path": path, "port": status_port}
        return original
    return None

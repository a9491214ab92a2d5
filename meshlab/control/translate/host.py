"""Host names in configuration: completion of short ones, wildcards, visibility."""

from collections.abc import Sequence


def complete(host: str, namespace: str, cluster_domain: str) -> str:
    """Return the full name of a host; one without a dot is a service of the namespace."""
    if "." in host or "*" in host:
        return host
    return f"{host}.{namespace}.svc.{cluster_domain}"


def covers(pattern: str, host: str) -> bool:
    """Tell whether a host or wildcard (`*`, `*.suffix`) includes another one."""
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return host.removeprefix("*").endswith(pattern[1:])
    return pattern == host


def overlap(one: str, other: str) -> str:
    """Return the narrower of two hosts when one includes the other, else ""."""
    if covers(one, other):
        return other
    return one if covers(other, one) else ""


def specificity(host: str) -> tuple[bool, int]:
    """Sort key: the more specific host is greater."""
    return (not host.startswith("*"), len(host))


def visible(export_to: Sequence[str], owner: str, viewer: str) -> bool:
    """Tell whether `exportTo` shows an object of namespace `owner` to namespace `viewer`."""
    if not export_to or "*" in export_to or viewer in export_to:
        return True
    return "." in export_to and owner == viewer

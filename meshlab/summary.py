"""What `meshlab status` says of a cluster, in one line."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """`-` where there is nothing to tell."""

    name: str
    state: str
    """`running`, `stopped`, `broken` or `absent`."""
    pods: str = "-"
    """Ready ones of all."""
    mesh: str = "-"
    ingress: str = "-"
    server: str = "-"
    problems: str = ""

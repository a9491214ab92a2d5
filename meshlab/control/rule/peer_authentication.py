"""What is wrong with a PeerAuthentication, as Istio's admission judges it."""

from meshlab.api.field import Problems, item
from meshlab.api.istio.peer_authentication import PeerAuthentication
from meshlab.control.rule import check


def check_peer_authentication(problems: Problems, spec: PeerAuthentication) -> None:
    labels = spec.selector.match_labels if spec.selector else {}
    check.labels(problems, "spec.selector.matchLabels", labels.items())
    if spec.port_level_mtls and not labels:
        problems.refuse(
            "spec.portLevelMtls",
            "needs a selector: ports are those of one workload",
            ", ".join(spec.port_level_mtls),
            "",
            "Add spec.selector.matchLabels",
        )
    for number in spec.port_level_mtls:
        if not number.isdigit() or not 1 <= int(number) <= 65535:
            problems.refuse(
                item("spec.portLevelMtls", number), "is not a port", number, "1 to 65535"
            )

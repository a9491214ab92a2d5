"""Admission: what can be known wrong with a configuration object when it is applied.

References to what does not exist yet (a subset, a gateway, a service) are no error here: they may
come later, and the route answers until then as Istio's would.
"""

from collections.abc import Callable, Mapping
from typing import Any

from meshlab.api.field import ConfigErrors, Problems
from meshlab.api.registry import decode, kind_of, reference
from meshlab.control.rule.destination_rule import check_destination_rule
from meshlab.control.rule.gateway import check_gateway
from meshlab.control.rule.peer_authentication import check_peer_authentication
from meshlab.control.rule.unsupported import refuse_unsupported
from meshlab.control.rule.virtual_service import check_virtual_service
from meshlab.errors import ConfigError

_RULES: Mapping[str, Callable[[Problems, Any], None]] = {
    "VirtualService": check_virtual_service,
    "DestinationRule": check_destination_rule,
    "Gateway": check_gateway,
    "PeerAuthentication": check_peer_authentication,
}


def validate(obj: Mapping[str, Any]) -> list[ConfigError]:
    """Return everything that is wrong with an object; [] also for kinds that are not ours."""
    kind = kind_of(obj)
    if kind is None:
        return []
    problems = Problems(reference(obj))
    spec = obj.get("spec")
    if isinstance(spec, Mapping):
        refuse_unsupported(problems, kind.kind, spec)
    try:
        decoded = decode(obj)
    except ConfigErrors as errors:
        # What could not be read cannot be judged; say what was found so far.
        return [*errors.problems, *problems.problems]
    _RULES[kind.kind](problems, decoded.spec)
    return problems.problems

"""Admission: what can be known wrong with a configuration object when it is applied.

References to what does not exist yet (a subset, a gateway, a service) are no error here: they may
come later, and the route answers until then as Istio's would.
"""

from collections.abc import Callable, Mapping
from typing import Any

from meshlab.api.field import ConfigErrors, Problems
from meshlab.api.object import ConfigObject
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
    if kind_of(obj) is None:
        return []
    try:
        admit(obj)
    except ConfigErrors as errors:
        return list(errors.problems)
    return []


def admit(obj: Mapping[str, Any]) -> ConfigObject[Any]:
    """Return the object as its model, fit to be translated.

    Raises:
        ConfigErrors: everything that is wrong with it, or that its kind is not ours.
    """
    problems = Problems(reference(obj))
    kind, spec = kind_of(obj), obj.get("spec")
    if kind is not None and isinstance(spec, Mapping):
        refuse_unsupported(problems, kind.kind, spec)
    try:
        decoded = decode(obj)
    except ConfigErrors as errors:
        # What could not be read cannot be judged; say what was found so far.
        raise ConfigErrors([*errors.problems, *problems.problems]) from None
    _RULES[decoded.kind](problems, decoded.spec)
    if problems.problems:
        raise ConfigErrors(problems.problems)
    return decoded

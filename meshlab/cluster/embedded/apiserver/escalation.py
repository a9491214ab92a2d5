"""Nobody hands out more than they have: who writes roles and bindings must hold their rules.

Kubernetes' privilege escalation prevention: the rules of a Role must be covered by the writer's
own, unless they may `escalate` it; those of a bound role likewise, unless they may `bind` it.
"""

from collections.abc import Iterable
from itertools import product
from typing import Any

from meshlab.cluster.embedded.apiserver.call import MASTERS, Call, Caller
from meshlab.cluster.embedded.apiserver.rbac import GROUP, Attributes, Authorizer, rule_allows
from meshlab.cluster.embedded.apiserver.status import forbidden

Json = dict[str, Any]

ROLE_KINDS = frozenset({"Role", "ClusterRole"})
GRANTING = ("rules", "aggregationRule", "roleRef", "subjects")
"""What of a role or binding grants anything."""


def check_escalation(authorizer: Authorizer, call: Call, obj: Json, old: Json | None) -> None:
    """Raise 403 where a role or binding would give more than the caller has."""
    kind = call.resource.kind
    if call.resource.group != GROUP or MASTERS in call.caller.groups:
        return
    if old is not None and all(obj.get(field) == old.get(field) for field in GRANTING):
        return
    if kind in ROLE_KINDS:
        wanted, resource, name = list(obj.get("rules") or ()), call.resource.plural, call.name
        verb = "escalate"
        if obj.get("aggregationRule"):
            wanted.append(EVERYTHING)
    else:
        reference = obj["roleRef"]
        wanted = list(authorizer.rules_of(reference, call.namespace))
        resource = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
        verb, name = "bind", reference["name"]
    asked = Attributes(
        verb=verb, group=GROUP, resource=resource, name=name, namespace=call.namespace
    )
    if authorizer.allows(call.caller, asked):
        return
    missing = uncovered(authorizer, call.caller, call.namespace, wanted)
    if missing:
        why = (
            f'user "{call.caller.name}" (groups={list(call.caller.groups)}) is attempting to '
            f"grant RBAC permissions not currently held: {missing[0]}"
        )
        raise forbidden(call.resource.plural, GROUP, call.name, why)


EVERYTHING: Json = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


def uncovered(
    authorizer: Authorizer, caller: Caller, namespace: str, wanted: Iterable[Json]
) -> list[Attributes]:
    """Return the single permissions of `wanted` that no rule of the caller's covers."""
    own = [rule for rule, _ in authorizer.rules_for(caller, namespace)]
    return [
        asked
        for rule in wanted
        for asked in single_permissions(rule)
        if not any(rule_allows(held, asked) for held in own)
    ]


def single_permissions(rule: Json) -> Iterable[Attributes]:
    """Yield what a rule allows, one by one; a * stays one and is covered by a * alone."""
    verbs = rule.get("verbs") or ()
    for verb, path in product(verbs, rule.get("nonResourceURLs") or ()):
        yield Attributes(verb=verb, path=path)
    names = rule.get("resourceNames") or ("",)
    parts = (rule.get("apiGroups") or (), rule.get("resources") or (), names)
    for verb, group, resource, name in product(verbs, *parts):
        plural, _, part = resource.partition("/")
        yield Attributes(verb=verb, group=group, resource=plural, subresource=part, name=name)

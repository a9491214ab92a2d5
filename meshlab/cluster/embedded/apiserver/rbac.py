"""Who may do what: Role, ClusterRole and their bindings, evaluated (pure, over the store)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.apiserver.call import MASTERS, Caller
from meshlab.cluster.embedded.apiserver.json_object import at
from meshlab.cluster.embedded.apiserver.selector import selects
from meshlab.cluster.embedded.apiserver.store import Store

Json = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
ROLES = f"roles.{GROUP}"
CLUSTER_ROLES = f"clusterroles.{GROUP}"
ROLE_BINDINGS = f"rolebindings.{GROUP}"
CLUSTER_ROLE_BINDINGS = f"clusterrolebindings.{GROUP}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What someone wants to do: to a resource, or (path set) to a URL that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    """Plural name."""
    subresource: str = ""
    name: str = ""
    namespace: str = ""
    path: str = ""


class Authorizer:
    """Answers from the bindings as they are now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def allows(self, caller: Caller, wanted: Attributes) -> bool:
        """Say whether some rule bound to the caller allows this."""
        if MASTERS in caller.groups:
            return True
        rules = (rule for rule, _ in self.rules_for(caller, wanted.namespace))
        return any(rule_allows(rule, wanted) for rule in rules)

    def rules_for(self, caller: Caller, namespace: str) -> Iterator[tuple[Json, Json]]:
        """Yield (rule, binding) for all that is bound to the caller, in the cluster and there."""
        for binding in self._store.list(CLUSTER_ROLE_BINDINGS):
            if binds(binding, caller, ""):
                for rule in self.rules_of(binding["roleRef"], ""):
                    yield rule, binding
        if not namespace:
            return
        for binding in self._store.list(ROLE_BINDINGS, namespace):
            if binds(binding, caller, namespace):
                for rule in self.rules_of(binding["roleRef"], namespace):
                    yield rule, binding

    def rules_of(self, reference: Json, namespace: str) -> Iterable[Json]:
        """Return the rules of the role that a `roleRef` names; none where it is not there."""
        if reference["kind"] == "Role":
            role = self._store.get(ROLES, namespace, reference["name"])
            return at(role, "rules", default=[])  # type: ignore[no-any-return]  # JSON
        role = self._store.get(CLUSTER_ROLES, "", reference["name"])
        return self.cluster_role_rules(role) if role else []

    def cluster_role_rules(self, role: Json) -> list[Json]:
        """Return a ClusterRole's own rules and those it aggregates."""
        rules = list(role.get("rules") or ())
        selectors = at(role, "aggregationRule", "clusterRoleSelectors", default=[])
        if not selectors:
            return rules
        for other in self._store.list(CLUSTER_ROLES):
            labels = other["metadata"].get("labels") or {}
            if other is not role and any(selects(s, labels) for s in selectors):
                rules += other.get("rules") or ()
        return rules


def binds(binding: Json, caller: Caller, namespace: str) -> bool:
    """Say whether a binding names the caller, one of their groups, or their service account."""
    for subject in binding.get("subjects") or ():
        match subject["kind"]:
            case "User":
                found = subject["name"] == caller.name
            case "Group":
                found = subject["name"] in caller.groups
            case "ServiceAccount":
                where = subject.get("namespace") or namespace
                found = caller.name == f"system:serviceaccount:{where}:{subject['name']}"
            case _:
                found = False
        if found:
            return True
    return False


def rule_allows(rule: Json, wanted: Attributes) -> bool:
    """Say whether one PolicyRule allows this (the rule's lists are each an or, together an and)."""
    if not _listed(rule.get("verbs"), wanted.verb):
        return False
    if wanted.path:
        return any(_path_matches(p, wanted.path) for p in rule.get("nonResourceURLs") or ())
    if not _listed(rule.get("apiGroups"), wanted.group):
        return False
    if not _resource_listed(rule.get("resources") or (), wanted.resource, wanted.subresource):
        return False
    names = rule.get("resourceNames")
    return not names or wanted.name in names


def _listed(values: Iterable[str] | None, wanted: str) -> bool:
    return any(value in {"*", wanted} for value in values or ())


def _resource_listed(patterns: Iterable[str], resource: str, subresource: str) -> bool:
    full = f"{resource}/{subresource}" if subresource else resource
    wanted = {"*", full}
    if subresource:
        wanted.add(f"*/{subresource}")
    return any(pattern in wanted for pattern in patterns)


def _path_matches(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path


def refusal(caller: Caller, wanted: Attributes) -> str:
    """Return Kubernetes' sentence for what was not allowed."""
    if wanted.path:
        return f'User "{caller.name}" cannot {wanted.verb} path "{wanted.path}"'
    resource = wanted.resource
    if wanted.subresource:
        resource += f"/{wanted.subresource}"
    where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    return (
        f'User "{caller.name}" cannot {wanted.verb} resource "{resource}" '
        f'in API group "{wanted.group}" {where}'
    )

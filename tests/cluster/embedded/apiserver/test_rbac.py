"""Every way an RBAC rule can say yes or no, as a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshlab.cluster.embedded.apiserver.call import MASTERS, Caller
from meshlab.cluster.embedded.apiserver.escalation import uncovered
from meshlab.cluster.embedded.apiserver.rbac import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
    Attributes,
    Authorizer,
    binds,
    refusal,
    rule_allows,
)
from meshlab.cluster.embedded.apiserver.store import Store
from meshlab.cluster.embedded.state import State

Json = dict[str, Any]


def rule(groups: str, resources: str, verbs: str, names: str = "") -> Json:
    found: Json = {
        "apiGroups": ["" if g == "core" else g for g in groups.split()],
        "resources": resources.split(),
        "verbs": verbs.split(),
    }
    return found | ({"resourceNames": names.split()} if names else {})


def wanted(verb: str, what: str, name: str = "", namespace: str = "shop") -> Attributes:
    """`apps/deployments/scale`, `core/pods`."""
    group, resource, *part = what.split("/")
    return Attributes(
        verb=verb,
        group="" if group == "core" else group,
        resource=resource,
        subresource=part[0] if part else "",
        name=name,
        namespace=namespace,
    )


READ_PODS = rule("core", "pods", "get list watch")
LOGS = rule("core", "pods/log", "get")
NAMED = rule("core", "secrets", "get", "one two")
ALL_APPS = rule("apps", "*", "*")
ANY_GROUP = rule("*", "deployments", "get")
ALL_STATUS = rule("*", "*/status", "update")
EVERYTHING = rule("*", "*", "*")
TWO_GROUPS = rule("core apps", "pods deployments", "get")


@pytest.mark.parametrize(
    ("policy", "asked", "allowed"),
    [
        pytest.param(READ_PODS, wanted("get", "core/pods"), True, id="verb listed"),
        pytest.param(READ_PODS, wanted("list", "core/pods"), True, id="second verb"),
        pytest.param(READ_PODS, wanted("watch", "core/pods"), True, id="third verb"),
        pytest.param(READ_PODS, wanted("delete", "core/pods"), False, id="verb not listed"),
        pytest.param(READ_PODS, wanted("get", "core/services"), False, id="other resource"),
        pytest.param(READ_PODS, wanted("get", "apps/pods"), False, id="other group"),
        pytest.param(READ_PODS, wanted("get", "core/pods/log"), False, id="subresource is another"),
        pytest.param(READ_PODS, wanted("get", "core/pods", "p"), True, id="any name"),
        pytest.param(READ_PODS, wanted("GET", "core/pods"), False, id="verbs are lower case"),
        pytest.param(READ_PODS, wanted("deletecollection", "core/pods"), False, id="collection"),
        pytest.param(LOGS, wanted("get", "core/pods/log"), True, id="subresource listed"),
        pytest.param(
            LOGS, wanted("get", "core/pods"), False, id="subresource gives not its parent"
        ),
        pytest.param(LOGS, wanted("get", "core/pods/exec"), False, id="other subresource"),
        pytest.param(LOGS, wanted("create", "core/pods/log"), False, id="subresource, other verb"),
        pytest.param(NAMED, wanted("get", "core/secrets", "one"), True, id="name listed"),
        pytest.param(NAMED, wanted("get", "core/secrets", "two"), True, id="second name"),
        pytest.param(NAMED, wanted("get", "core/secrets", "three"), False, id="name not listed"),
        pytest.param(NAMED, wanted("get", "core/secrets"), False, id="names, but none asked"),
        pytest.param(NAMED, wanted("list", "core/secrets", "one"), False, id="name, other verb"),
        pytest.param(ALL_APPS, wanted("delete", "apps/deployments"), True, id="all verbs"),
        pytest.param(ALL_APPS, wanted("get", "apps/replicasets"), True, id="all resources"),
        pytest.param(ALL_APPS, wanted("update", "apps/deployments/scale"), True, id="* has parts"),
        pytest.param(ALL_APPS, wanted("get", "core/pods"), False, id="only in its group"),
        pytest.param(ALL_APPS, wanted("get", "batch/jobs"), False, id="nor in a third"),
        pytest.param(ANY_GROUP, wanted("get", "apps/deployments"), True, id="any group: apps"),
        pytest.param(ANY_GROUP, wanted("get", "extensions/deployments"), True, id="any group: old"),
        pytest.param(ANY_GROUP, wanted("get", "core/deployments"), True, id="any group: core"),
        pytest.param(ANY_GROUP, wanted("get", "apps/replicasets"), False, id="any group, one kind"),
        pytest.param(ALL_STATUS, wanted("update", "core/pods/status"), True, id="*/status: pods"),
        pytest.param(ALL_STATUS, wanted("update", "apps/deployments/status"), True, id="*/status"),
        pytest.param(
            ALL_STATUS, wanted("update", "core/pods/exec"), False, id="*/status is no exec"
        ),
        pytest.param(ALL_STATUS, wanted("update", "core/pods"), False, id="*/status is no parent"),
        pytest.param(ALL_STATUS, wanted("patch", "core/pods/status"), False, id="*/status, verb"),
        pytest.param(EVERYTHING, wanted("any", "some/thing/part", "n"), True, id="everything"),
        pytest.param(
            EVERYTHING, Attributes(verb="get", path="/version"), False, id="resources are no URLs"
        ),
        pytest.param(TWO_GROUPS, wanted("get", "core/pods"), True, id="first group and kind"),
        pytest.param(TWO_GROUPS, wanted("get", "apps/deployments"), True, id="second of both"),
        pytest.param(TWO_GROUPS, wanted("get", "core/deployments"), True, id="lists are crossed"),
        pytest.param({}, wanted("get", "core/pods"), False, id="empty rule"),
        pytest.param({"verbs": ["get"]}, wanted("get", "core/pods"), False, id="no resources"),
        pytest.param(
            {"verbs": ["get"], "resources": ["pods"]},
            wanted("get", "core/pods"),
            False,
            id="no groups, not even the core",
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["/version"]},
            Attributes(verb="get", path="/version"),
            True,
            id="URL",
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["/version"]},
            Attributes(verb="get", path="/version/"),
            False,
            id="URL is exact",
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["/apis/*"]},
            Attributes(verb="get", path="/apis/apps/v1"),
            True,
            id="URL prefix",
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["/apis/*"]},
            Attributes(verb="get", path="/apis"),
            False,
            id="URL prefix needs its slash",
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["*"]},
            Attributes(verb="get", path="/metrics"),
            True,
            id="all URLs",
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["*"]},
            Attributes(verb="post", path="/metrics"),
            False,
            id="all URLs, other verb",
        ),
        pytest.param(
            {"verbs": ["*"], "nonResourceURLs": ["/healthz"]},
            Attributes(verb="post", path="/healthz"),
            True,
            id="URL, all verbs",
        ),
        pytest.param(
            {"verbs": ["get"], "nonResourceURLs": ["*"]},
            wanted("get", "core/pods"),
            False,
            id="URLs are no resources",
        ),
    ],
)
def test_rule(policy: Json, asked: Attributes, allowed: bool) -> None:
    assert rule_allows(policy, asked) is allowed


BOB = Caller(name="bob", groups=("dev", "system:authenticated"))
ROBOT = Caller(
    name="system:serviceaccount:shop:robot",
    groups=("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"),
)


@pytest.mark.parametrize(
    ("subject", "caller", "namespace", "bound"),
    [
        pytest.param({"kind": "User", "name": "bob"}, BOB, "", True, id="user"),
        pytest.param({"kind": "User", "name": "Bob"}, BOB, "", False, id="user, other case"),
        pytest.param({"kind": "User", "name": "dev"}, BOB, "", False, id="a group is no user"),
        pytest.param({"kind": "Group", "name": "dev"}, BOB, "", True, id="group"),
        pytest.param({"kind": "Group", "name": "ops"}, BOB, "", False, id="other group"),
        pytest.param(
            {"kind": "Group", "name": "system:authenticated"}, ROBOT, "", True, id="everybody"
        ),
        pytest.param(
            {"kind": "ServiceAccount", "name": "robot", "namespace": "shop"},
            ROBOT,
            "",
            True,
            id="service account",
        ),
        pytest.param(
            {"kind": "ServiceAccount", "name": "robot", "namespace": "other"},
            ROBOT,
            "shop",
            False,
            id="service account of another namespace",
        ),
        pytest.param(
            {"kind": "ServiceAccount", "name": "robot"}, ROBOT, "shop", True, id="own namespace"
        ),
        pytest.param(
            {"kind": "User", "name": "system:serviceaccount:shop:robot"},
            ROBOT,
            "",
            True,
            id="service account by its user name",
        ),
        pytest.param(
            {"kind": "Group", "name": "system:serviceaccounts:shop"},
            ROBOT,
            "",
            True,
            id="all accounts of a namespace",
        ),
        pytest.param({"kind": "Robot", "name": "bob"}, BOB, "", False, id="unknown kind"),
    ],
)
def test_binding(subject: Json, caller: Caller, namespace: str, bound: bool) -> None:
    assert binds({"subjects": [subject]}, caller, namespace) is bound


def test_binding_without_subjects() -> None:
    assert not binds({}, BOB, "")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    state = State(tmp_path / "state.db")
    store = Store(state)

    def put(resource: str, name: str, namespace: str = "", **content: Any) -> None:
        metadata = {"name": name, "labels": content.pop("labels", {})}
        if namespace:
            metadata["namespace"] = namespace
        store.put(resource, {"metadata": metadata, **content})

    put(CLUSTER_ROLES, "read", rules=[READ_PODS])
    put(CLUSTER_ROLES, "part", rules=[LOGS], labels={"to-whole": "true"})
    selector = {"matchLabels": {"to-whole": "true"}}
    put(CLUSTER_ROLES, "whole", aggregationRule={"clusterRoleSelectors": [selector]})
    put(ROLES, "write", "shop", rules=[rule("core", "configmaps", "create")])
    for resource, kind, role, namespace in (
        (CLUSTER_ROLE_BINDINGS, "ClusterRole", "whole", ""),
        (ROLE_BINDINGS, "ClusterRole", "read", "shop"),
        (ROLE_BINDINGS, "Role", "write", "shop"),
        (ROLE_BINDINGS, "Role", "gone", "shop"),
        (ROLE_BINDINGS, "Role", "write", "other"),
    ):
        put(
            resource,
            role,
            namespace,
            roleRef={"kind": kind, "name": role},
            subjects=[{"kind": "User", "name": "bob"}],
        )
    yield store
    state.close()


@pytest.mark.parametrize(
    ("caller", "asked", "allowed"),
    [
        pytest.param(BOB, wanted("get", "core/pods"), True, id="RoleBinding to a ClusterRole"),
        pytest.param(
            BOB, wanted("get", "core/pods", namespace="other"), False, id="only in its namespace"
        ),
        pytest.param(BOB, wanted("get", "core/pods", namespace=""), False, id="nor in all of them"),
        pytest.param(BOB, wanted("get", "core/pods/log", namespace=""), True, id="aggregated"),
        pytest.param(BOB, wanted("get", "core/pods/log", namespace="x"), True, id="everywhere"),
        pytest.param(BOB, wanted("create", "core/configmaps"), True, id="Role"),
        pytest.param(
            BOB,
            wanted("create", "core/configmaps", namespace="other"),
            False,
            id="a Role of that name is not there",
        ),
        pytest.param(ROBOT, wanted("get", "core/pods"), False, id="nothing bound to it"),
        pytest.param(
            Caller(name="root", groups=(MASTERS,)), wanted("x", "y/z"), True, id="system:masters"
        ),
    ],
)
def test_authorizer(store: Store, caller: Caller, asked: Attributes, allowed: bool) -> None:
    assert Authorizer(store).allows(caller, asked) is allowed


def test_refusals_are_worded_as_kubectl_users_know_them() -> None:
    assert refusal(BOB, wanted("list", "apps/deployments/scale")) == (
        'User "bob" cannot list resource "deployments/scale" in API group "apps" '
        'in the namespace "shop"'
    )
    assert refusal(BOB, wanted("list", "core/nodes", namespace="")) == (
        'User "bob" cannot list resource "nodes" in API group "" at the cluster scope'
    )
    assert refusal(BOB, Attributes(verb="get", path="/x")) == 'User "bob" cannot get path "/x"'


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        pytest.param([READ_PODS], 0, id="what bob has in shop"),
        pytest.param([rule("core", "pods", "get")], 0, id="less than that"),
        pytest.param([rule("core", "pods", "get delete")], 1, id="one verb more"),
        pytest.param([rule("core", "pods", "*")], 1, id="all verbs"),
        pytest.param([rule("*", "pods", "get")], 1, id="all groups"),
        pytest.param([rule("core", "pods/log", "get")], 0, id="aggregated"),
        pytest.param([NAMED], 2, id="by name"),
        pytest.param([rule("core", "pods", "get", "one")], 0, id="one of what bob may all"),
        pytest.param([{"verbs": ["get"], "nonResourceURLs": ["/x"]}], 1, id="URL"),
    ],
)
def test_nobody_hands_out_more_than_they_have(
    store: Store, rules: list[Json], missing: int
) -> None:
    assert len(uncovered(Authorizer(store), BOB, "shop", rules)) == missing

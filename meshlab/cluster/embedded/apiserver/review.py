"""The questions that are answered and not kept: TokenReview, SubjectAccessReview and their kin."""

from typing import Any

from meshlab.cluster.embedded.apiserver.auth import ISSUER, Tokens
from meshlab.cluster.embedded.apiserver.call import MASTERS, Call, Caller
from meshlab.cluster.embedded.apiserver.json_object import at, now
from meshlab.cluster.embedded.apiserver.rbac import Attributes, Authorizer
from meshlab.cluster.embedded.apiserver.schema import builtin_schema, check_builtin_types, prune
from meshlab.cluster.embedded.apiserver.status import bad_request

Json = dict[str, Any]


class Reviews:
    """Answers reviews."""

    def __init__(self, tokens: Tokens, authorizer: Authorizer) -> None:
        self._tokens = tokens
        self._authorizer = authorizer

    def answer(self, call: Call, review: Json) -> Json:
        """Return the review with its `status`.

        Raises:
            ApiError: 400 for a review that asks nothing.
        """
        kind = call.resource.kind
        check_builtin_types(kind, call.version.name, review)
        prune(builtin_schema(kind), review)
        spec = review.get("spec") or {}
        match kind:
            case "TokenReview":
                status = self._token(spec)
            case "SelfSubjectReview":
                status = {"userInfo": user_info(call.caller)}
            case "SelfSubjectRulesReview":
                status = self._rules(call.caller, spec.get("namespace", ""))
            case "SelfSubjectAccessReview":
                status = self._access(call.caller, spec)
            case _:
                status = self._access(_someone(spec), spec)
        metadata = {"creationTimestamp": now(), **(review.get("metadata") or {})}
        return {
            "kind": kind,
            "apiVersion": call.resource.api_version(call.version.name),
            "metadata": metadata,
            "spec": spec,
            "status": status,
        }

    def _token(self, spec: Json) -> Json:
        token = spec.get("token")
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        wanted = spec.get("audiences") or [ISSUER]
        verified = self._tokens.verify(token)
        if verified is None:
            admin = self._tokens.caller(token)
            if admin is None or ISSUER not in wanted:
                return {"user": {}, "error": "[invalid bearer token]"}
            return {"authenticated": True, "user": user_info(admin), "audiences": [ISSUER]}
        common = [audience for audience in wanted if audience in verified.audiences]
        if not common:
            return {
                "user": {},
                "error": f"[invalid bearer token, token audiences {list(verified.audiences)!r} "
                f"is invalid for the target audiences {wanted!r}]",
            }
        return {"authenticated": True, "user": user_info(verified.caller), "audiences": common}

    def _access(self, caller: Caller, spec: Json) -> Json:
        allowed = self._authorizer.allows(caller, _attributes(spec))
        return {"allowed": allowed, **({} if allowed else {"reason": ""})}

    def _rules(self, caller: Caller, namespace: str) -> Json:
        if MASTERS in caller.groups:
            everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            urls = {"verbs": ["*"], "nonResourceURLs": ["*"]}
            return {"resourceRules": [everything], "nonResourceRules": [urls], "incomplete": False}
        rules = [rule for rule, _ in self._authorizer.rules_for(caller, namespace)]
        urls_of = ("verbs", "nonResourceURLs")
        return {
            "resourceRules": [r for r in rules if not r.get("nonResourceURLs")],
            "nonResourceRules": [
                {key: r[key] for key in urls_of} for r in rules if r.get("nonResourceURLs")
            ],
            "incomplete": False,
        }


def user_info(caller: Caller) -> Json:
    """Return a caller as `UserInfo`."""
    found: Json = {"username": caller.name, "groups": list(caller.groups)}
    if caller.uid:
        found["uid"] = caller.uid
    if caller.extra:
        found["extra"] = {key: list(values) for key, values in caller.extra.items()}
    return found


def _someone(spec: Json) -> Caller:
    return Caller(
        name=spec.get("user", ""), groups=tuple(spec.get("groups") or ()), uid=spec.get("uid", "")
    )


def _attributes(spec: Json) -> Attributes:
    url = spec.get("nonResourceAttributes")
    wanted = spec.get("resourceAttributes")
    if (url is None) == (wanted is None):
        raise bad_request("exactly one of nonResourceAttributes or resourceAttributes is required")
    if url is not None:
        return Attributes(verb=url.get("verb", ""), path=url.get("path", ""))
    return Attributes(
        verb=at(wanted, "verb", default=""),
        group=at(wanted, "group", default=""),
        resource=at(wanted, "resource", default=""),
        subresource=at(wanted, "subresource", default=""),
        name=at(wanted, "name", default=""),
        namespace=at(wanted, "namespace", default=""),
    )

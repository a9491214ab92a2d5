"""Admission webhooks: who is asked about a write, and what becomes of the answers.

The matching is pure; `Caller` of `webhook_client.py` does the asking.
"""

import base64
import binascii
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from meshlab.cluster.embedded.apiserver.call import Call
from meshlab.cluster.embedded.apiserver.json_object import at, copy
from meshlab.cluster.embedded.apiserver.patch import json_patch
from meshlab.cluster.embedded.apiserver.resource import Version
from meshlab.cluster.embedded.apiserver.selector import selects
from meshlab.cluster.embedded.apiserver.status import ApiError
from meshlab.cluster.embedded.apiserver.store import Store

Json = dict[str, Any]
Ask = Callable[[Json, Json], Awaitable[Json]]
"""(webhook, AdmissionReview) → the AdmissionReview it answers; raises OSError or ValueError."""

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Matched:
    """A webhook that is to be asked, and the version it wants the object in."""

    webhook: Json
    version: str


class Admission:
    """Asks the webhooks that are configured for a write."""

    def __init__(self, store: Store, ask: Ask) -> None:
        self._store = store
        self._ask = ask

    async def mutate(self, call: Call, operation: str, obj: Json, old: Json | None) -> Json:
        """Return the object as the mutating webhooks want it; `obj` itself when none does.

        Raises:
            ApiError: a webhook refuses, or cannot be asked and its failurePolicy is Fail.
        """
        matched = self._matched(MUTATING, call, operation, obj, old)
        if not matched:
            return obj
        changed_after: dict[int, bool] = {}
        for index, match in enumerate(matched):
            mutated = await self._mutate_once(match, call, operation, obj, old)
            if mutated != obj:
                changed_after |= dict.fromkeys(range(index), True)
                obj = mutated
        for index, match in enumerate(matched):
            if changed_after.get(index) and match.webhook["reinvocationPolicy"] == "IfNeeded":
                obj = await self._mutate_once(match, call, operation, obj, old)
        return obj

    async def _mutate_once(
        self, match: Matched, call: Call, operation: str, obj: Json, old: Json | None
    ) -> Json:
        response = await self._response(match, call, operation, obj, old)
        patch = (response or {}).get("patch")
        if not patch:
            return obj
        name = match.webhook["name"]
        if response and response.get("patchType") != "JSONPatch":
            raise _internal(name, "invalid response.patchType, only JSONPatch is known")
        try:
            operations = json.loads(base64.b64decode(patch, validate=True))
        except (binascii.Error, ValueError) as error:
            raise _internal(name, f"its patch cannot be read: {error}") from error
        mutated: Json = json_patch(copy(obj), operations)
        return mutated

    async def validate(
        self, call: Call, operation: str, obj: Json | None, old: Json | None
    ) -> None:
        """Ask the validating webhooks.

        Raises:
            ApiError: a webhook refuses, or cannot be asked and its failurePolicy is Fail.
        """
        for match in self._matched(VALIDATING, call, operation, obj, old):
            await self._response(match, call, operation, obj, old)

    async def validate_delete(self, call: Call, current: Json) -> None:
        for match in self._matched(MUTATING, call, "DELETE", None, current):
            await self._response(match, call, "DELETE", None, current)
        await self.validate(call, "DELETE", None, current)

    def _matched(
        self, kind: str, call: Call, operation: str, obj: Json | None, old: Json | None
    ) -> list[Matched]:
        if not self._store.count(kind) or call.resource.key in {MUTATING, VALIDATING}:
            return []
        namespace = self._namespace_labels(call, obj or old)
        found = []
        for configuration in sorted(self._store.list(kind), key=lambda c: c["metadata"]["name"]):
            for webhook in configuration.get("webhooks") or ():
                version = matching_version(webhook.get("rules") or (), call, operation)
                if version and _selected(webhook, namespace, obj, old):
                    found.append(Matched(webhook, version.name))
        return found

    def _namespace_labels(self, call: Call, obj: Json | None) -> Json | None:
        """Return the labels namespaceSelector looks at; None: it does not apply."""
        if call.resource.key == "namespaces":
            return at(obj, "metadata", "labels", default={})  # type: ignore[no-any-return]  # JSON
        if not call.resource.namespaced:
            return None
        namespace = self._store.get("namespaces", "", call.namespace)
        return at(namespace, "metadata", "labels", default={})  # type: ignore[no-any-return]  # JSON

    async def _response(
        self, match: Matched, call: Call, operation: str, obj: Json | None, old: Json | None
    ) -> Json | None:
        """Return the webhook's allowing response; None when it could not be asked, but need not."""
        webhook = match.webhook
        request = admission_request(match.version, call, operation, obj, old)
        review = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": request,
        }
        try:
            answer = await self._ask(webhook, review)
            response = answer["response"]
            if response["uid"] != request["uid"]:
                raise ValueError("its answer is to another request")
            allowed = response["allowed"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if webhook["failurePolicy"] == "Ignore":
                return None
            raise _internal(webhook["name"], str(error)) from error
        call.warnings.extend(str(text) for text in response.get("warnings") or ())
        if not allowed:
            raise _denied(webhook["name"], response.get("status") or {})
        found: Json = response
        return found


def _selected(webhook: Json, namespace: Json | None, obj: Json | None, old: Json | None) -> bool:
    if namespace is not None and not selects(webhook["namespaceSelector"], namespace):
        return False
    labels = (at(o, "metadata", "labels", default={}) for o in (obj, old) if o is not None)
    return any(selects(webhook["objectSelector"], found) for found in labels)


def matching_version(rules: Iterable[Json], call: Call, operation: str) -> Version | None:
    """Return the version in which some rule wants to see this request; None: no rule does.

    The version asked for comes first; matchPolicy Equivalent lets the others count, too.
    """
    versions = [call.version, *(v for v in call.resource.versions if v is not call.version)]
    listed = list(rules)
    for version in versions:
        if any(_rule_matches(rule, call, version.name, operation) for rule in listed):
            return version
    return None


def _rule_matches(rule: Json, call: Call, version: str, operation: str) -> bool:
    scope = rule.get("scope", "*")
    if scope != "*" and (scope == "Namespaced") != call.resource.namespaced:
        return False
    return (
        bool({"*", operation} & set(rule.get("operations") or ()))
        and bool({"*", call.resource.group} & set(rule.get("apiGroups") or ()))
        and bool({"*", version} & set(rule.get("apiVersions") or ()))
        and any(
            _resource_matches(pattern, call.resource.plural, call.subresource)
            for pattern in rule.get("resources") or ()
        )
    )


def _resource_matches(pattern: str, plural: str, subresource: str) -> bool:
    resource, _, part = pattern.partition("/")
    return resource in {"*", plural} and (part == "*" or part == subresource)


def admission_request(
    version: str, call: Call, operation: str, obj: Json | None, old: Json | None
) -> Json:
    """Return the question, in the version that the webhook asked for."""
    resource = call.resource

    def seen(value: Json | None) -> Json | None:
        return value and {**value, "apiVersion": resource.api_version(version)}

    def kind(name: str) -> Json:
        return {"group": resource.group, "version": name, "kind": resource.kind}

    def plural(name: str) -> Json:
        return {"group": resource.group, "version": name, "resource": resource.plural}

    request = {
        "uid": str(uuid.uuid4()),
        "kind": kind(version),
        "resource": plural(version),
        "requestKind": kind(call.version.name),
        "requestResource": plural(call.version.name),
        "subResource": call.subresource,
        "name": call.name,
        "namespace": call.namespace,
        "operation": operation,
        "userInfo": {
            "username": call.caller.name,
            "uid": call.caller.uid,
            "groups": list(call.caller.groups),
        },
        "object": seen(obj),
        "oldObject": seen(old),
        "dryRun": call.dry_run,
        "options": None,
    }
    return {key: value for key, value in request.items() if value != ""}


def _denied(name: str, status: Json) -> ApiError:
    message = status.get("message") or status.get("reason") or ""
    text = f'admission webhook "{name}" denied the request'
    text += f": {message}" if message else " without explanation"
    code = status.get("code") or 0
    if not 400 <= code < 600:
        code = 403 if not code or code < 400 else 500
    reason = status.get("reason") or ("Forbidden" if code == 403 else "BadRequest")
    return ApiError(code, reason, text, status.get("details"))


def _internal(name: str, why: str) -> ApiError:
    text = f'failed calling webhook "{name}": {why}'
    details = {"causes": [{"message": text}]}
    return ApiError(500, "InternalError", f"Internal error occurred: {text}", details)

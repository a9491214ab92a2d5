"""The way of every read and write, the same for all resources and for HTTP and in-process callers.

A write goes: decode → default → mutating webhooks → prepare → validate → validating webhooks →
store. Between the webhooks, which are awaited, others may write: the store's object is compared
again right before the write, which itself is synchronous, so no write is ever lost.
"""

import uuid
from collections.abc import Callable
from typing import Any

from meshlab.cluster.embedded.apiserver import kind as kinds
from meshlab.cluster.embedded.apiserver import schema as schemas
from meshlab.cluster.embedded.apiserver.admission import Admission
from meshlab.cluster.embedded.apiserver.call import Call
from meshlab.cluster.embedded.apiserver.catalog import Catalog
from meshlab.cluster.embedded.apiserver.escalation import check_escalation
from meshlab.cluster.embedded.apiserver.json_object import at, copy, now
from meshlab.cluster.embedded.apiserver.metadata import (
    check_metadata,
    check_metadata_update,
    generated_name,
)
from meshlab.cluster.embedded.apiserver.patch import STRATEGIC_MERGE_PATCH, apply_patch
from meshlab.cluster.embedded.apiserver.rbac import Authorizer
from meshlab.cluster.embedded.apiserver.status import (
    ApiError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    success,
)
from meshlab.cluster.embedded.apiserver.store import Store

Json = dict[str, Any]

ATTEMPTS = 8
"""How often a write without a resourceVersion is tried when others write in between."""
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Machinery:
    """Reads and writes objects; knows the rules that hold for all kinds."""

    def __init__(self, store: Store, catalog: Catalog, admission: Admission) -> None:
        self.store = store
        self.catalog = catalog
        self.admission = admission
        self.kinds = kinds.Kinds(store, catalog)
        self.authorizer = Authorizer(store)

    # --- reading -----------------------------------------------------------------------------

    def get(self, call: Call) -> Json:
        """Return the object, in the version asked for.

        Raises:
            ApiError: 404.
        """
        return self.shown(call, self._present(call))

    def _present(self, call: Call) -> Json:
        found = self.store.get(call.resource.key, call.namespace, call.name)
        if found is None:
            raise not_found(call.resource.plural, call.resource.group, call.name)
        return found

    def shown(self, call: Call, obj: Json) -> Json:
        """Return an object under the version asked for (conversion None: same fields)."""
        api_version = call.resource.api_version(call.version.name)
        return obj if obj["apiVersion"] == api_version else {**obj, "apiVersion": api_version}

    # --- creating ----------------------------------------------------------------------------

    async def create(self, call: Call, obj: Json) -> Json:
        """Keep a new object; returns it as kept.

        Raises:
            ApiError: 400, 403, 404 (namespace), 409 or 422.
        """
        obj = self._named(call, copy(obj))
        self._check_namespace(call)
        call = _with_name(call, obj["metadata"]["name"])
        self._decode(call, obj)
        self.kinds.admit(call.resource.key, obj)
        mutated = await self.admission.mutate(call, "CREATE", obj, None)
        if mutated is not obj:
            obj = self._named(call, mutated)
            self._decode(call, obj)
            self.kinds.admit(call.resource.key, obj)  # also what webhooks put in
        self._prepare_create(call, obj)
        self._validate(call, obj, None)
        call.warnings.extend(self.kinds.warnings(call.resource.key, obj))
        check_escalation(self.authorizer, call, obj, None)
        await self.admission.validate(call, "CREATE", obj, None)
        if self.store.get(call.resource.key, call.namespace, call.name) is not None:
            raise already_exists(call.resource.plural, call.resource.group, call.name)
        self._check_namespace(call)
        self.kinds.allocate(call.resource.key, obj, None)
        if call.dry_run:
            return self.shown(call, obj)
        return self.shown(call, self.store.put(call.resource.key, self._as_stored(call, obj)))

    def _named(self, call: Call, obj: Json) -> Json:
        """Check and complete what says which object this is."""
        wanted = call.resource.api_version(call.version.name)
        kind, version = obj.get("kind"), obj.get("apiVersion")
        if (kind or call.resource.kind) != call.resource.kind or (version or wanted) != wanted:
            raise bad_request(
                f"the object provided is {kind} ({version}), "
                f"expected {call.resource.kind} ({wanted})"
            )
        metadata = obj.get("metadata")
        if metadata is None:
            metadata = {}
        if not isinstance(metadata, dict):
            raise bad_request("metadata is no object")
        obj = {"kind": call.resource.kind, "apiVersion": wanted, **obj, "metadata": metadata}
        obj["kind"], obj["apiVersion"] = call.resource.kind, wanted
        metadata.pop("managedFields", None)
        metadata.pop("selfLink", None)
        if call.resource.namespaced:
            if metadata.get("namespace") not in {None, "", call.namespace}:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on "
                    "the request"
                )
            metadata["namespace"] = call.namespace
        else:
            metadata.pop("namespace", None)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = generated_name(str(metadata["generateName"]))
        if call.name and metadata.get("name") != call.name:
            if metadata.get("name"):
                raise bad_request(
                    f"the name of the object ({metadata['name']}) does not match the name on the "
                    f"URL ({call.name})"
                )
            metadata["name"] = call.name
        metadata.setdefault("name", "")
        if call.version.complete:
            call.version.complete(obj)
        return obj

    def _check_namespace(self, call: Call) -> None:
        if not call.resource.namespaced:
            return
        namespace = self.store.get("namespaces", "", call.namespace)
        if namespace is None:
            raise not_found("namespaces", "", call.namespace)
        if namespace["metadata"].get("deletionTimestamp"):
            why = (
                "unable to create new content in namespace "
                f"{call.namespace} because it is being terminated"
            )
            error = forbidden(call.resource.plural, call.resource.group, call.name, why)
            error.details["causes"] = [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {call.namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ]
            raise error

    def _decode(self, call: Call, obj: Json) -> None:
        """Check types, drop or refuse unknown fields, fill in defaults; in place."""
        if call.version.schema is not None:
            unknown = schemas.prune(call.version.schema, obj)
        else:
            kind = call.resource.kind
            schemas.check_builtin_types(kind, call.version.name, obj)
            schemas.drop_nulls(obj)
            unknown = schemas.prune(schemas.builtin_schema(kind), obj)
        if unknown and call.field_validation == "Strict":
            shown = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise bad_request(
                f'{call.resource.kind} in version "{call.version.name}" cannot be handled as a '
                f"{call.resource.kind}: strict decoding error: {shown}"
            )
        if unknown and call.field_validation == "Warn":
            fresh = (f'unknown field "{path}"' for path in unknown)
            call.warnings.extend(text for text in fresh if text not in call.warnings)
        if call.version.schema is not None:
            schemas.fill_defaults(call.version.schema, obj)
        else:
            self.kinds.default(call.resource.key, obj)

    def _prepare_create(self, call: Call, obj: Json) -> None:
        metadata = obj["metadata"]
        for ours in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"):
            if ours == "resourceVersion" and metadata.get(ours):
                raise bad_request("resourceVersion should not be set on objects to be created")
            metadata.pop(ours, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        if call.resource.generation or call.resource.custom:
            metadata["generation"] = 1
        if call.version.status:
            obj.pop("status", None)
        self.kinds.prepare_create(call.resource.key, obj)

    def _validate(self, call: Call, obj: Json, old: Json | None) -> None:
        resource = call.resource
        errors = check_metadata(resource, obj)
        if old is not None:
            errors += check_metadata_update(obj, old)
        if call.version.schema is not None:
            errors += schemas.validate(call.version.schema, obj)
        elif not errors:
            errors += self.kinds.validate(resource.key, obj, old)
        if errors:
            raise invalid(resource.kind, resource.group, call.name, errors)

    def _as_stored(self, call: Call, obj: Json) -> Json:
        obj["apiVersion"] = call.resource.stored_api_version
        return obj

    # --- changing ----------------------------------------------------------------------------

    async def update(self, call: Call, obj: Json) -> Json:
        """Put an object (or, with a subresource, its part) in the present one's place.

        Raises:
            ApiError: 404, 409 when `metadata.resourceVersion` is stale, 422 and the others.
        """
        new = self._named(call, copy(obj))
        return await self._change(call, lambda _: copy(new))

    async def patch(self, call: Call, media_type: str, patch: Any) -> Json:
        """Change the present object by a patch; one that others change meanwhile is patched again.

        Raises:
            ApiError: 404, 409 when the patch names a stale resourceVersion, 422 and the others.
        """
        schema = None
        if call.version.schema is None:
            schema = schemas.builtin_schema(call.resource.kind)
        elif media_type == STRATEGIC_MERGE_PATCH:
            raise ApiError(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json-patch+json, application/merge-patch+json",
            )

        def patched(present: Json) -> Json:
            return self._named(call, apply_patch(media_type, present, patch, schema))

        return await self._change(call, patched)

    async def change(self, call: Call, make: Callable[[Json], Json]) -> Json:
        """Change the present object by a function of it (the server's own subresources)."""
        return await self._change(call, make)

    async def _change(self, call: Call, make: Callable[[Json], Json]) -> Json:
        for _ in range(ATTEMPTS):
            current = self._present(call)
            made = make(copy(self.shown(call, current)))
            asked = made["metadata"].get("resourceVersion")
            if asked and asked != current["metadata"]["resourceVersion"]:
                raise conflict(call.resource.plural, call.resource.group, call.name)
            result = await self._try_change(call, current, made)
            if result is not None:
                return self.shown(call, result)
        raise conflict(call.resource.plural, call.resource.group, call.name)

    async def _try_change(self, call: Call, current: Json, made: Json) -> Json | None:
        """Return what was kept; None when the object is no longer `current`."""
        key = call.resource.key
        uid = made["metadata"].get("uid")
        if uid and uid != current["metadata"]["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {uid}, "
                f"UID in object meta: {current['metadata']['uid']}"
            )
            raise conflict(call.resource.plural, call.resource.group, call.name, why)
        before = self.shown(call, current)
        made = self._prepare_update(call, made, before)
        mutated = await self.admission.mutate(call, "UPDATE", made, before)
        if mutated is not made:
            made = self._prepare_update(call, mutated, before)
        self._count_generation(call, made, before)
        self._validate(call, made, before)
        call.warnings.extend(self.kinds.warnings(call.resource.key, made))
        check_escalation(self.authorizer, call, made, before)
        await self.admission.validate(call, "UPDATE", made, before)
        if self.store.get(key, call.namespace, call.name) is not current:
            return None
        self.kinds.allocate(key, made, before)
        if call.dry_run or made == before:
            return made
        made = self._as_stored(call, made)
        metadata = made["metadata"]
        if metadata.get("deletionTimestamp") and self._may_go(call.resource.key, made):
            return self.store.remove(key, made)
        return self.store.put(key, made)

    def _prepare_update(self, call: Call, made: Json, before: Json) -> Json:
        """Return the new object with all that this request may not change as it was."""
        if call.subresource in {"", "scale"}:
            self._decode(call, made)
            if call.version.status:
                _restore(made, before, "status")
        else:
            made = self.kinds.part(call, made, before)
            self._decode(call, made)
        metadata, old = made["metadata"], before["metadata"]
        for ours in (
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "generateName",
            "resourceVersion",
        ):
            _restore(metadata, old, ours)
        self.kinds.prepare_update(call.resource.key, made, before)
        return made

    def _count_generation(self, call: Call, made: Json, before: Json) -> None:
        if not (call.resource.generation or call.resource.custom):
            return
        apart = {"metadata", "apiVersion", "kind"}
        if call.version.status or not call.resource.custom:
            apart.add("status")
        keys = (made.keys() | before.keys()) - apart
        if any(made.get(key) != before.get(key) for key in keys):
            made["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1

    # --- deleting ----------------------------------------------------------------------------

    async def delete(self, call: Call, options: Json | None = None) -> Json:
        """Delete an object, or mark it for deletion where someone must act first.

        Returns:
            The object while it is still there, else a Status of success.

        Raises:
            ApiError: 404, 409 for preconditions that do not hold.
        """
        options = options or {}
        for _ in range(ATTEMPTS):
            current = self._present(call)
            self._check_preconditions(call, current, options)
            await self.admission.validate_delete(call, current)
            if self.store.get(call.resource.key, call.namespace, call.name) is current:
                return self._delete(call, current, options)
        raise conflict(call.resource.plural, call.resource.group, call.name)

    def _check_preconditions(self, call: Call, current: Json, options: Json) -> None:
        for field, mine in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            asked = at(options, "preconditions", field)
            found = current["metadata"][field]
            if asked and asked != found:
                why = (
                    f"Precondition failed: {mine} in precondition: {asked}, "
                    f"{mine} in object meta: {found}"
                )
                raise conflict(call.resource.plural, call.resource.group, call.name, why)
        self.kinds.check_delete(call, current)

    def _delete(self, call: Call, current: Json, options: Json) -> Json:
        key = call.resource.key
        marked = copy(current)
        metadata = marked["metadata"]
        grace = self.kinds.grace(key, current, options.get("gracePeriodSeconds"))
        _set_propagation(metadata, options.get("propagationPolicy"))
        first = "deletionTimestamp" not in metadata
        sooner = not first and grace < metadata.get("deletionGracePeriodSeconds", 0)
        if first or sooner:
            metadata["deletionTimestamp"] = self.kinds.deletion_time(metadata, grace)
            metadata["deletionGracePeriodSeconds"] = grace
            if first and "generation" in metadata:
                metadata["generation"] += 1
            self.kinds.begin_delete(key, marked)
        if call.dry_run:
            return self.shown(call, marked)
        if self._may_go(key, marked):
            self.store.remove(key, marked)
            return self._gone(call, marked)
        if marked != current:
            marked = self.store.put(key, marked)
        self.kinds.after_delete(key, marked)
        if self.store.get(key, call.namespace, call.name) is None:
            return self._gone(call, marked)
        return self.shown(call, marked)

    def _gone(self, call: Call, obj: Json) -> Json:
        if call.resource.key == "pods":
            return self.shown(call, obj)
        details = {
            "name": call.name,
            "group": call.resource.group,
            "kind": call.resource.plural,
            "uid": obj["metadata"]["uid"],
        }
        return success({key: value for key, value in details.items() if value})

    def _may_go(self, key: str, marked: Json) -> bool:
        metadata = marked["metadata"]
        if metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds"):
            return False
        return not (key == "namespaces" and at(marked, "spec", "finalizers"))


def _restore(made: Json, before: Json, field: str) -> None:
    if field in before:
        made[field] = copy(before[field])
    else:
        made.pop(field, None)


def _with_name(call: Call, name: str) -> Call:
    from dataclasses import replace

    return replace(call, name=name)


def _set_propagation(metadata: Json, policy: str | None) -> None:
    """Let the garbage collector act first where the policy asks for it."""
    finalizers = [f for f in metadata.get("finalizers") or () if f not in {FOREGROUND, ORPHAN}]
    if policy == "Foreground":
        finalizers.append(FOREGROUND)
    elif policy == "Orphan":
        finalizers.append(ORPHAN)
    elif policy is None:
        return
    metadata["finalizers"] = finalizers
    if not finalizers:
        del metadata["finalizers"]

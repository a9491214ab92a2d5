"""The rules for `metadata`: names, labels, annotations (DNS-1123, qualified names)."""

import re
import secrets
from collections.abc import Iterator
from typing import Any

from meshlab.cluster.embedded.apiserver.resource import Resource
from meshlab.cluster.embedded.apiserver.status import FieldError

Json = dict[str, Any]

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
PATH_SEGMENT = re.compile(r"(?!\.\.?$)[^/%]+")

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
    "'12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
NAME_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)

NAME_RULES: dict[str, tuple[re.Pattern[str], int, str]] = {
    "namespaces": (LABEL, 63, LABEL_RULE),
    "services": (LABEL_1035, 63, LABEL_1035_RULE),
}
SUBDOMAIN_NAMES = (SUBDOMAIN, 253, SUBDOMAIN_RULE)
PATH_NAMES = (PATH_SEGMENT, 253, "may not contain '/' or '%', nor be '.' or '..'")
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own: no vowels, so that no words appear by chance."""


def generated_name(prefix: str) -> str:
    """Return `generateName` with five letters behind it, at most 63 in all."""
    return prefix[:58] + "".join(secrets.choice(SUFFIX_ALPHABET) for _ in range(5))


def check_metadata(resource: Resource, obj: Json) -> list[FieldError]:
    """Return what is wrong with names, labels and annotations."""
    metadata = obj["metadata"]
    return [
        *_check_types(metadata),
        *_check_name(resource, metadata.get("name")),
        *check_labels(metadata.get("labels") or {}, "metadata.labels"),
        *_check_annotations(metadata.get("annotations") or {}),
        *_check_owners(metadata.get("ownerReferences") or []),
    ]


def _check_types(metadata: Json) -> Iterator[FieldError]:
    for field in ("labels", "annotations"):
        found = metadata.get(field)
        texts = isinstance(found, dict) and all(isinstance(v, str) for v in found.values())
        if found is not None and not texts:
            yield FieldError(
                f"metadata.{field}", "Invalid value", "must map strings to strings", ""
            )
            metadata.pop(field)


def _check_name(resource: Resource, name: Any) -> Iterator[FieldError]:
    if not name:
        yield FieldError("metadata.name", "Required value", "name or generateName is required")
        return
    pattern, longest, rule = _rule(resource)
    if not isinstance(name, str) or not pattern.fullmatch(name):
        yield FieldError("metadata.name", "Invalid value", rule, name)
    elif len(name) > longest:
        detail = f"must be no more than {longest} characters"
        yield FieldError("metadata.name", "Invalid value", detail, name)


def _rule(resource: Resource) -> tuple[re.Pattern[str], int, str]:
    if resource.group == "rbac.authorization.k8s.io":
        return PATH_NAMES
    return NAME_RULES.get(resource.key, SUBDOMAIN_NAMES)


def check_labels(labels: Json, path: str) -> Iterator[FieldError]:
    """Yield the keys and values that no label may have."""
    for key, value in labels.items():
        yield from _check_key(key, path)
        if not VALUE.fullmatch(value):
            yield FieldError(path, "Invalid value", VALUE_RULE, value)
        elif len(value) > 63:
            yield FieldError(path, "Invalid value", "must be no more than 63 characters", value)


def _check_key(key: str, path: str) -> Iterator[FieldError]:
    prefix, slash, name = key.rpartition("/")
    if not QUALIFIED.fullmatch(name) or len(name) > 63:
        yield FieldError(path, "Invalid value", NAME_RULE, key)
    if slash and not SUBDOMAIN.fullmatch(prefix):
        yield FieldError(path, "Invalid value", f"prefix part {SUBDOMAIN_RULE}", key)


def _check_annotations(annotations: Json) -> Iterator[FieldError]:
    for key in annotations:
        yield from _check_key(key.lower(), "metadata.annotations")
    if sum(len(k) + len(v) for k, v in annotations.items()) > 256 * 1024:
        detail = "may not be more than 262144 bytes"
        yield FieldError("metadata.annotations", "Too long", detail)


def _check_owners(owners: list[Json]) -> Iterator[FieldError]:
    for index, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield FieldError(
                    f"metadata.ownerReferences[{index}].{field}",
                    "Required value",
                    "must not be empty",
                )
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        detail = "Only one reference can have Controller set to true"
        yield FieldError("metadata.ownerReferences", "Invalid value", detail, owners)


def check_metadata_update(obj: Json, old: Json) -> list[FieldError]:
    """Return what an update may not do to metadata."""
    fresh = set(obj["metadata"].get("finalizers") or ()) - set(
        old["metadata"].get("finalizers") or ()
    )
    if fresh and old["metadata"].get("deletionTimestamp"):
        detail = (
            "no new finalizers can be added if the object is being deleted, "
            f"found new finalizers {sorted(fresh)!r}"
        )
        return [FieldError("metadata.finalizers", "Forbidden", detail)]
    return []

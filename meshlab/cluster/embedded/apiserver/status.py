"""The answers that are not objects: Kubernetes' `Status`, with the words kubectl prints."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshlab.errors import MeshlabError

Json = dict[str, Any]
"""One decoded JSON object."""


class ApiError(MeshlabError):
    """A request the API server refuses, as a client sees it.

    Attributes:
        status_code: the HTTP status.
        reason: the machine's word (`NotFound`, `Conflict`, `Invalid`…).
        message: the sentence for people.
        details: `kind`, `name`, `group`, `causes`, `retryAfterSeconds` of the Status.
    """

    def __init__(
        self, status_code: int, reason: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        self.status_code = status_code
        self.reason = reason
        self.message = message
        self.details: Json = dict(details or {})
        super().__init__(message)

    def body(self) -> Json:
        """Return the Status object that goes over the wire."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status_code,
        }
        if self.details:
            status["details"] = self.details
        return status


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field, in the words of `k8s.io/apimachinery` `field.Error`."""

    field: str
    kind: str
    """`Required value`, `Invalid value`, `Unsupported value`, `Duplicate value`, `Forbidden`…"""
    detail: str = ""
    value: Any = None

    @property
    def text(self) -> str:
        """Return what follows the field's path in the message."""
        if self.kind in VALUELESS:
            return f"{self.kind}: {self.detail}" if self.detail else self.kind
        shown = f"{self.kind}: {go_value(self.value)}"
        return f"{shown}: {self.detail}" if self.detail else shown


CAUSES = {
    "Required value": "FieldValueRequired",
    "Invalid value": "FieldValueInvalid",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
    "Not found": "FieldValueNotFound",
    "Forbidden": "FieldValueForbidden",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
}
VALUELESS = frozenset({"Required value", "Forbidden", "Too long", "Too many"})


def go_value(value: Any) -> str:
    """Return a value as Go's `%#v` prints it in field errors."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            return str(value)
        case dict() if all(isinstance(v, str) for v in value.values()):
            pairs = ", ".join(f"{quoted(k)}:{quoted(v)}" for k, v in sorted(value.items()))
            return f"map[string]string{{{pairs}}}"
        case _:
            import json

            return json.dumps(value, separators=(",", ":"))


def quoted(text: str) -> str:
    """Return a string in Go's double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def qualified(kind_or_plural: str, group: str) -> str:
    """Return `deployments.apps`, or the bare name for the core group."""
    return f"{kind_or_plural}.{group}" if group else kind_or_plural


def not_found(plural: str, group: str, name: str) -> ApiError:
    details = {"name": name, "group": group, "kind": plural}
    message = f'{qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, {k: v for k, v in details.items() if v})


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    details = {"name": name, "group": group, "kind": plural}
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, {k: v for k, v in details.items() if v})


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(plural: str, group: str, name: str, why: str = MODIFIED) -> ApiError:
    details = {"name": name, "group": group, "kind": plural}
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, {k: v for k, v in details.items() if v})


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    details = {"name": name, "group": group, "kind": plural}
    shown = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    message = f"{shown} is forbidden: {why}"
    return ApiError(403, "Forbidden", message, {k: v for k, v in details.items() if v})


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def method_not_allowed() -> ApiError:
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def invalid(kind: str, group: str, name: str, errors: Iterable[FieldError]) -> ApiError:
    """Return the 422 that lists every bad field of an object."""
    found = list(errors)
    lines = [f"{e.field}: {e.text}" for e in found]
    shown = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    causes = [
        {"reason": CAUSES[error.kind], "message": error.text, "field": error.field}
        for error in found
    ]
    details = {"name": name, "group": group, "kind": kind, "causes": causes}
    return ApiError(
        422,
        "Invalid",
        f"{qualified(kind, group)} {quoted(name)} is invalid: {shown}",
        {k: v for k, v in details.items() if v},
    )


def success(details: Mapping[str, Any]) -> Json:
    """Return the Status that answers a finished deletion."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": dict(details),
    }

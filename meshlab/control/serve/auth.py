"""Who is calling: the bearer token, reviewed by the API server, is the only witness."""

import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from meshlab.control.registry.api import TOKEN_REVIEWS, Api
from meshlab.control.trust import Caller
from meshlab.errors import MeshlabError

LOG = logging.getLogger("meshlab.control.serve.auth")
AUDIENCE = "istio-ca"
REMEMBERED = 10.0
"""Seconds for which a review holds: a pod's start makes three calls with one token."""
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


class UnauthenticatedError(MeshlabError):
    """The caller has no token that the API server vouches for."""


class ForbiddenError(MeshlabError):
    """The caller claims to be somebody else than its token says."""


class Authenticator:
    """Reviews tokens; remembers good ones for a moment."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def caller(self, metadata: Mapping[str, str]) -> Caller:
        """Return who sends `authorization: Bearer …`.

        Raises:
            UnauthenticatedError: no token, or one that the API server does not accept.
        """
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("the call has no bearer token")
        digest = hashlib.sha256(token.encode()).digest()
        reviewed_at, caller = self._known.get(digest, (0.0, None))
        if caller is not None and time.monotonic() - reviewed_at < REMEMBERED:
            return caller
        caller = await self._review(token)
        if len(self._known) > 1000:
            self._known.clear()
        self._known[digest] = (time.monotonic(), caller)
        return caller

    async def _review(self, token: str) -> Caller:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        answer = await self.api.create(TOKEN_REVIEWS, review)
        return caller_of(answer.get("status") or {})


def caller_of(status: Mapping[str, Any]) -> Caller:
    """Read a TokenReview's status.

    Raises:
        UnauthenticatedError: not authenticated, not for our audience, not a service account.
    """
    if not status.get("authenticated"):
        raise UnauthenticatedError(status.get("error") or "the token is not valid")
    if AUDIENCE not in (status.get("audiences") or ()):
        raise UnauthenticatedError(f"the token is not for audience {AUDIENCE}")
    user = status.get("user") or {}
    parts = str(user.get("username", "")).split(":")
    if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"]:
        raise UnauthenticatedError("the token is not a service account's")
    extra = user.get("extra") or {}
    return Caller(
        namespace=parts[2],
        service_account=parts[3],
        pod=next(iter(extra.get(_POD_NAME) or ()), ""),
        pod_uid=next(iter(extra.get(_POD_UID) or ()), ""),
    )


def check_claims(caller: Caller, namespace: str, service_account: str, pod: str) -> None:
    """Compare what a node says of itself with what its token says.

    Raises:
        ForbiddenError: they disagree.
    """
    for word, said, true in (
        ("namespace", namespace, caller.namespace),
        ("service account", service_account, caller.service_account),
        ("pod", pod, caller.pod or pod),
    ):
        if said != true:
            raise ForbiddenError(
                f"the node claims {word} {said!r}, its token is {true!r}'s",
            )

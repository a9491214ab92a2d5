"""Who is asking: the administrator's token, and the tokens of service accounts (JWT, ES256).

A service account's token holds only while the account, and the pod it is bound to, are there: that
is looked up at every use, so that a token copied from a pod ends with it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from meshlab.cluster.embedded.apiserver.call import MASTERS, Caller
from meshlab.cluster.embedded.apiserver.json_object import at, encode, parse_time
from meshlab.cluster.embedded.apiserver.pki import private_key
from meshlab.cluster.embedded.apiserver.status import not_found
from meshlab.cluster.embedded.apiserver.store import Store
from meshlab.cluster.embedded.state import State

Json = dict[str, Any]

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUTHENTICATED = "system:authenticated"
ADMIN = Caller(name="kubernetes-admin", groups=(MASTERS, AUTHENTICATED))
SHORTEST, LONGEST = 600, 3600 * 24 * 365
"""Seconds a token may live; Kubernetes' limits."""
GRACE = 60
"""Seconds a token is still taken after its pod was told to end."""
MOST_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that was good when last looked at."""

    caller: Caller
    audiences: tuple[str, ...]


class Tokens:
    """Issues and checks tokens."""

    def __init__(self, state: State, store: Store) -> None:
        self._store = store
        self._key = private_key(state, "sa.key")
        self._claims: dict[bytes, Json] = {}
        kept = state.fact("admin.token")
        if kept is None:
            kept = secrets.token_urlsafe(32).encode()
            state.keep_fact("admin.token", kept)
        self.admin_token = kept.decode()

    def issue(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str] = (),
        expiration_seconds: int = 3600,
        pod: Json | None = None,
    ) -> tuple[str, datetime]:
        """Return a token and the moment it ends.

        Raises:
            ApiError: 404; there is no such account.
        """
        account = self._store.get("serviceaccounts", namespace, service_account)
        if account is None:
            raise not_found("serviceaccounts", "", service_account)
        issued = int(time.time())
        ends = issued + max(SHORTEST, min(expiration_seconds, LONGEST))
        subject = {
            "namespace": namespace,
            "serviceaccount": {"name": service_account, "uid": account["metadata"]["uid"]},
        }
        if pod is not None:
            metadata = pod["metadata"]
            subject["pod"] = {"name": metadata["name"], "uid": metadata["uid"]}
            if node := at(pod, "spec", "nodeName"):
                subject["node"] = {"name": node}
        claims = {
            "aud": list(audiences) or [ISSUER],
            "exp": ends,
            "iat": issued,
            "nbf": issued,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": subject,
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
        }
        return self._sign(claims), datetime.fromtimestamp(ends, UTC)

    def caller(self, token: str) -> Caller | None:
        """Return who presents a bearer token to this server; None: nobody we know."""
        if hmac.compare_digest(token.encode(), self.admin_token.encode()):
            return ADMIN
        verified = self.verify(token)
        if verified is None or ISSUER not in verified.audiences:
            return None
        return verified.caller

    def verify(self, token: str) -> Verified | None:
        """Return whose token this is and for whom; None: not ours, over, or its pod is gone."""
        claims = self._signed_claims(token)
        if claims is None or not claims["nbf"] <= time.time() + 5 < claims["exp"] + 5:
            return None
        subject = claims["kubernetes.io"]
        namespace, account = subject["namespace"], subject["serviceaccount"]
        if not self._present("serviceaccounts", namespace, account):
            return None
        pod = subject.get("pod")
        if pod and not self._present("pods", namespace, pod):
            return None
        return Verified(_service_account(namespace, account, pod, claims), tuple(claims["aud"]))

    def _present(self, resource: str, namespace: str, bound: Json) -> bool:
        found = self._store.get(resource, namespace, bound["name"])
        if found is None or found["metadata"]["uid"] != bound["uid"]:
            return False
        ends = found["metadata"].get("deletionTimestamp")
        return not ends or time.time() < parse_time(ends).timestamp() + GRACE

    def _sign(self, claims: Json) -> str:
        header = {"alg": "ES256", "kid": self.key_id, "typ": "JWT"}
        signed = f"{_base64(encode(header))}.{_base64(encode(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _signed_claims(self, token: str) -> Json | None:
        """Return the claims of a token that we signed; remembered, for the check costs 0.1 ms."""
        digest = hashlib.sha256(token.encode()).digest()
        if digest in self._claims:
            return self._claims[digest]
        claims = self._check_signature(token)
        if claims is not None:
            if len(self._claims) >= MOST_REMEMBERED:
                self._claims.clear()
            self._claims[digest] = claims
        return claims

    def _check_signature(self, token: str) -> Json | None:
        signed, _, signature = token.rpartition(".")
        header, _, claims = signed.partition(".")
        try:
            if json.loads(_unbase64(header)).get("alg") != "ES256":
                return None
            raw = _unbase64(signature)
            if len(raw) != 64:
                return None
            pair = (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._key.public_key().verify(
                encode_dss_signature(*pair), signed.encode(), ec.ECDSA(hashes.SHA256())
            )
            found: Json = json.loads(_unbase64(claims))
        except (InvalidSignature, ValueError, AttributeError, binascii.Error):
            return None
        return found

    @property
    def key_id(self) -> str:
        numbers = self._key.public_key().public_numbers()
        return _base64(hashlib.sha256(numbers.x.to_bytes(32, "big")).digest())[:16]

    def key_set(self) -> Json:
        """Return the public key as a JSON Web Key Set (`/openid/v1/jwks`)."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "use": "sig",
            "kty": "EC",
            "kid": self.key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": _base64(numbers.x.to_bytes(32, "big")),
            "y": _base64(numbers.y.to_bytes(32, "big")),
        }
        return {"keys": [key]}


def _service_account(namespace: str, account: Json, pod: Json | None, claims: Json) -> Caller:
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
    if pod:
        extra["authentication.kubernetes.io/pod-name"] = [pod["name"]]
        extra["authentication.kubernetes.io/pod-uid"] = [pod["uid"]]
    node = claims["kubernetes.io"].get("node")
    if node:
        extra["authentication.kubernetes.io/node-name"] = [node["name"]]
    return Caller(
        name=f"system:serviceaccount:{namespace}:{account['name']}",
        groups=service_account_groups(namespace),
        uid=account["uid"],
        extra=extra,
    )


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """Return the groups every service account of a namespace is in."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

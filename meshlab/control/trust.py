"""Who a workload is: SPIFFE ids under a trust domain, with Istio's path `ns/…/sa/…`."""

from dataclasses import dataclass

DEFAULT_TRUST_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A workload as the API server's TokenReview names it, never as it names itself."""

    namespace: str
    service_account: str
    pod: str = ""
    """The pod the token is bound to; "" for a token that is bound to none."""
    pod_uid: str = ""

    def spiffe_id(self, trust_domain: str) -> str:
        return spiffe_id(trust_domain, self.namespace, self.service_account)


def spiffe_id(trust_domain: str, namespace: str, service_account: str) -> str:
    """Return `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

    A trust domain that came from a service account's mail address has an "@", which a URI's
    authority would read as user information; Istio writes "." there, and so do we.
    """
    domain = trust_domain.replace("@", ".")
    return f"spiffe://{domain}/ns/{namespace}/sa/{service_account}"

"""`istio.v1.auth.IstioCertificateService`: a pod's CSR in, its SPIFFE certificate out."""

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

import grpc
import httpx

from meshlab.control.ca import WORKLOAD_LIFETIME, CertificateAuthority
from meshlab.control.registry.api import ApiError
from meshlab.control.serve.auth import Authenticator, UnauthenticatedError
from meshlab.control.serve.metric import Metrics
from meshlab.control.trust import Caller
from meshlab.errors import ConfigError
from meshlab.proto.ca import (
    CREATE_CERTIFICATE,
    IstioCertificateRequest,
    IstioCertificateResponse,
)

LOG = logging.getLogger("meshlab.control.serve.csr")


class CertificateService:
    """The gRPC handler; the identity is the token's, whatever the CSR says."""

    def __init__(
        self,
        authority: CertificateAuthority,
        authenticator: Authenticator,
        trust_domain: Callable[[], str],
        metrics: Metrics,
    ) -> None:
        self.authority = authority
        self.authenticator = authenticator
        self.trust_domain = trust_domain
        self.metrics = metrics

    def handler(self) -> Any:
        service, _, method = CREATE_CERTIFICATE.strip("/").partition("/")
        unary = grpc.unary_unary_rpc_method_handler(
            self._create,
            request_deserializer=IstioCertificateRequest.FromString,
            response_serializer=IstioCertificateResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(service, {method: unary})

    async def _create(self, request: Any, context: Any) -> Any:
        self.metrics.signing_requests.add()
        caller = await self._caller(context)
        try:
            chain = self._sign(request, caller)
        except ConfigError as error:
            self.metrics.signing_errors.add()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        self.metrics.certificates.add()
        return IstioCertificateResponse(cert_chain=chain)

    def _sign(self, request: Any, caller: Caller) -> list[str]:
        seconds = request.validity_duration
        lifetime = dt.timedelta(seconds=seconds) if seconds > 0 else WORKLOAD_LIFETIME
        identity = caller.spiffe_id(self.trust_domain())
        LOG.info("certificate for %s, pod %s", identity, caller.pod or "unknown")
        return self.authority.sign_workload(
            request.csr.encode(), identity, now=dt.datetime.now(dt.UTC), lifetime=lifetime
        )

    async def _caller(self, context: Any) -> Caller:
        try:
            return await self.authenticator.caller(dict(context.invocation_metadata() or ()))
        except UnauthenticatedError as error:
            self.metrics.authentication_failures.add()
            LOG.warning("a signing request is refused: %s", error)
            code, reason = grpc.StatusCode.UNAUTHENTICATED, str(error)
        except (ApiError, httpx.HTTPError) as error:
            code, reason = grpc.StatusCode.UNAVAILABLE, f"the token cannot be reviewed: {error!r}"
        await context.abort(code, reason)
        raise AssertionError("abort raises")

"""Secrets for the data plane over a unix socket (SDS v3): `default` and `ROOTCA`.

A stream is answered once the certificate is there, and again at each renewal.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

from meshlab.agent.identity import Certificate, Identity

LOG = logging.getLogger("meshlab.agent.sds")
SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
WORKLOAD = "default"
ROOT = "ROOTCA"


def secret(name: str, certificate: Certificate) -> Any:
    """Return the `Secret` message; None for a name that the agent does not serve."""
    message = secret_pb2.Secret(name=name)
    match name:
        case "default":
            message.tls_certificate.certificate_chain.inline_bytes = certificate.chain
            message.tls_certificate.private_key.inline_bytes = certificate.key
        case "ROOTCA":
            message.validation_context.trusted_ca.inline_bytes = certificate.root
        case _:
            return None
    return message


class SecretService:
    """gRPC handlers of SecretDiscoveryService."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._nonces = itertools.count(1)

    def handler(self) -> Any:
        sotw, delta = discovery_pb2.DiscoveryRequest, discovery_pb2.DeltaDiscoveryRequest
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                    self._sotw,
                    request_deserializer=sotw.FromString,
                    response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
                ),
                "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                    self._delta,
                    request_deserializer=delta.FromString,
                    response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
                ),
                "FetchSecrets": grpc.unary_unary_rpc_method_handler(
                    self._fetch,
                    request_deserializer=sotw.FromString,
                    response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
                ),
            },
        )

    async def _sotw(self, requests: AsyncIterator[Any], context: Any) -> None:
        names: set[str] = set()

        async def asked(request: Any) -> bool:
            _report_refusal(request)
            changed = set(request.resource_names) != names
            names.clear()
            names.update(request.resource_names)
            return changed

        async def answer(certificate: Certificate) -> None:
            await context.write(self._response(names, certificate))

        await self._converse(requests, asked, answer)

    async def _delta(self, requests: AsyncIterator[Any], context: Any) -> None:
        names: set[str] = set()

        async def asked(request: Any) -> bool:
            _report_refusal(request)
            names.difference_update(request.resource_names_unsubscribe)
            names.update(request.resource_names_subscribe)
            return bool(request.resource_names_subscribe)

        async def answer(certificate: Certificate) -> None:
            response = discovery_pb2.DeltaDiscoveryResponse(
                type_url=SECRET, nonce=str(next(self._nonces))
            )
            for message in _secrets(names, certificate):
                resource = response.resources.add(name=message.name, version=_version(certificate))
                resource.resource.Pack(message)
            await context.write(response)

        await self._converse(requests, asked, answer)

    async def _fetch(self, request: Any, context: Any) -> Any:
        del context
        certificate = await self.identity.newer(None)
        return self._response(set(request.resource_names), certificate)

    def _response(self, names: set[str], certificate: Certificate) -> Any:
        response = discovery_pb2.DiscoveryResponse(
            type_url=SECRET,
            version_info=_version(certificate),
            nonce=str(next(self._nonces)),
        )
        for message in _secrets(names, certificate):
            response.resources.add().Pack(message)
        return response

    async def _converse(self, requests: AsyncIterator[Any], asked: Any, answer: Any) -> None:
        """Answer what is asked, and say it again when the certificate is renewed."""
        sent: Certificate | None = None
        reading = asyncio.ensure_future(anext(requests, None))
        renewal: asyncio.Future[Certificate] | None = None
        try:
            while True:
                waiting: list[asyncio.Future[Any]] = [reading, *([renewal] if renewal else [])]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if renewal and renewal.done():
                    sent = renewal.result()
                    await answer(sent)
                    renewal = asyncio.ensure_future(self.identity.newer(sent))
                if reading.done():
                    request = reading.result()
                    if request is None:
                        return
                    if await asked(request):
                        sent = None
                        if renewal:
                            renewal.cancel()
                        renewal = asyncio.ensure_future(self.identity.newer(sent))
                    reading = asyncio.ensure_future(anext(requests, None))
        finally:
            reading.cancel()
            if renewal:
                renewal.cancel()


def _secrets(names: Iterable[str], certificate: Certificate) -> list[Any]:
    made = {name: secret(name, certificate) for name in sorted(names)}
    if unknown := [name for name, message in made.items() if message is None]:
        LOG.warning("the data plane asks for secrets that the agent has not: %s", unknown)
    return [message for message in made.values() if message is not None]


def _version(certificate: Certificate) -> str:
    return certificate.not_before.isoformat()


def _report_refusal(request: Any) -> None:
    if request.HasField("error_detail"):
        LOG.warning("the data plane refuses a secret: %s", request.error_detail.message)

"""ADS and ALS between data plane and control plane: opaque messages, the agent adds the token.

A stream that breaks upstream breaks downstream too: the data plane must say again what it has and
wants, which only it knows.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from meshlab.agent.upstream import Upstream

LOG = logging.getLogger("meshlab.agent.forward")
_ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_ALS = "envoy.service.accesslog.v3.AccessLogService"
BOTH_WAYS = {
    _ADS: ("StreamAggregatedResources", "DeltaAggregatedResources"),
}
UPLOADS = {_ALS: ("StreamAccessLogs",)}


@dataclass(slots=True)
class Counters:
    """What went through, for the agent's own metrics."""

    requests: int = 0
    responses: int = 0
    upstream_failures: int = 0


class Forwarder:
    """gRPC handlers for the agent's XDS socket."""

    def __init__(self, upstream: Upstream, logged: Callable[[bytes], None] | None = None) -> None:
        """`logged` is shown each access log message that passes."""
        self.upstream = upstream
        self.logged = logged
        self.counters = Counters()

    def handlers(self) -> list[Any]:
        return [
            grpc.method_handlers_generic_handler(
                service,
                {m: grpc.stream_stream_rpc_method_handler(self._both(service, m)) for m in methods},
            )
            for service, methods in BOTH_WAYS.items()
        ] + [
            grpc.method_handlers_generic_handler(
                service,
                {
                    m: grpc.stream_unary_rpc_method_handler(self._upload(service, m))
                    for m in methods
                },
            )
            for service, methods in UPLOADS.items()
        ]

    def _both(self, service: str, method: str) -> Any:
        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            call = self.upstream.stream(f"/{service}/{method}")
            sender = asyncio.ensure_future(self._send(requests, call))
            try:
                async for message in call:
                    self.counters.responses += 1
                    await context.write(message)
            except grpc.aio.AioRpcError as error:
                self.counters.upstream_failures += 1
                LOG.warning("%s ended: %s %s", method, error.code().name, error.details())
                await context.abort(error.code(), error.details() or "")
            finally:
                sender.cancel()
                call.cancel()

        return handle

    async def _send(self, requests: AsyncIterator[bytes], call: Any) -> None:
        try:
            async for message in requests:
                self.counters.requests += 1
                await call.write(message)
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            LOG.debug("upstream takes no more: %s", error)  # the reading side reports why

    def _upload(self, service: str, method: str) -> Any:
        async def handle(requests: AsyncIterator[bytes], context: Any) -> bytes:
            try:
                passing = self._watched(requests) if self.logged else requests
                answer: bytes = await self.upstream.upload(f"/{service}/{method}", passing)
            except grpc.aio.AioRpcError as error:
                self.counters.upstream_failures += 1
                await context.abort(error.code(), error.details() or "")
                raise  # abort raises by itself
            return answer

        return handle

    async def _watched(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for message in messages:
            if self.logged:
                self.logged(message)
            yield message

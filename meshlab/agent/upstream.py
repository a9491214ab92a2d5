"""The agent's line to the control plane: one HTTP/2 connection for CSR, ADS and ALS."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from meshlab.agent.settings import Settings
from meshlab.proto.ca import (
    CREATE_CERTIFICATE,
    IstioCertificateRequest,
    IstioCertificateResponse,
)

LOG = logging.getLogger("meshlab.agent.upstream")
SIGN_TIMEOUT = 10.0
_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", -1),
    # TXT look-ups for a service config cost a round trip and never find one here.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_http_proxy", 0),
]


class Upstream:
    """Calls to istiod, each with the pod's token."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._channels: dict[str, Any] = {}
        self._root = b"" if settings.plaintext else settings.root_cert.read_bytes()

    async def sign(self, csr: bytes) -> list[str]:
        """Have a CSR certified; see `identity.Sign`."""
        call = self._channel(self.settings.ca_address).unary_unary(
            CREATE_CERTIFICATE,
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        request = IstioCertificateRequest(
            csr=csr.decode(), validity_duration=int(self.settings.certificate_lifetime)
        )
        try:
            answer = await call(
                request, metadata=self._metadata(), timeout=SIGN_TIMEOUT, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            raise ConnectionError(f"{error.code().name}: {error.details()}") from error
        return list(answer.cert_chain)

    def stream(self, method: str) -> Any:
        """Open a stream of opaque messages in both directions.

        It waits until the control plane can be reached: a data plane that is told "unavailable"
        backs off for seconds, one that waits has its configuration at once.
        """
        call = self._channel(self.settings.discovery_address).stream_stream(method)
        return call(metadata=self._metadata(), wait_for_ready=True)

    def upload(self, method: str, messages: AsyncIterator[bytes]) -> Any:
        """Open a stream of opaque messages that has one answer."""
        call = self._channel(self.settings.discovery_address).stream_unary(method)
        return call(messages, metadata=self._metadata(), wait_for_ready=True)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(grace=None)

    def _channel(self, address: str) -> Any:
        if address not in self._channels:
            self._channels[address] = self._connect(address)
        return self._channels[address]

    def _connect(self, address: str) -> Any:
        if self.settings.plaintext:
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        credentials = grpc.ssl_channel_credentials(root_certificates=self._root)
        return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)

    def _metadata(self) -> list[tuple[str, str]]:
        # Read each time: the kubelet replaces the token long before it expires.
        pairs = [("clusterid", self.settings.cluster_id)]
        if self.settings.token.exists():
            token = self.settings.token.read_text().strip()
            pairs.append(("authorization", f"Bearer {token}"))
        return pairs

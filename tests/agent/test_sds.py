"""Secrets over the real socket, by a real gRPC client."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

from meshlab.agent.identity import Certificate, Identity
from meshlab.agent.sds import SECRET, SERVICE, SecretService

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def held(word: str, at: dt.datetime = NOW) -> Certificate:
    return Certificate(
        key=f"{word} key".encode(),
        chain=f"{word} chain".encode(),
        root=b"root",
        not_before=at,
        not_after=at + dt.timedelta(hours=1),
    )


async def _never(csr: bytes) -> list[str]:
    raise AssertionError(f"nobody signs here: {csr!r}")


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[tuple[Identity, Any]]:
    identity = Identity("spiffe://x/ns/a/sa/b", _never)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((SecretService(identity).handler(),))
    server.add_insecure_port(f"unix:{tmp_path}/sds")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/sds") as channel:
        yield identity, channel
    await server.stop(None)


def stream(channel: Any, kind: str) -> Any:
    prefix = "Delta" if kind == "delta" else ""
    request = getattr(discovery_pb2, f"{prefix}DiscoveryRequest")
    response = getattr(discovery_pb2, f"{prefix}DiscoveryResponse")
    method = "DeltaSecrets" if kind == "delta" else "StreamSecrets"
    return channel.stream_stream(
        f"/{SERVICE}/{method}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )()


def subscribe(kind: str, *names: str) -> Any:
    if kind == "delta":
        return discovery_pb2.DeltaDiscoveryRequest(type_url=SECRET, resource_names_subscribe=names)
    return discovery_pb2.DiscoveryRequest(type_url=SECRET, resource_names=names)


def secrets(kind: str, response: Any) -> dict[str, Any]:
    found = {}
    for resource in response.resources:
        message = secret_pb2.Secret()
        (resource.resource if kind == "delta" else resource).Unpack(message)
        found[message.name] = message
    return found


def run(scenario: Callable[[Path], Any], tmp_path: Path) -> None:
    asyncio.run(asyncio.wait_for(scenario(tmp_path), 10))


@pytest.mark.parametrize("kind", ["sotw", "delta"])
def test_an_early_question_is_answered_when_the_certificate_is_there(
    tmp_path: Path, kind: str
) -> None:
    async def scenario(path: Path) -> None:
        async with served(path) as (identity, channel):
            call = stream(channel, kind)
            await call.write(subscribe(kind, "default", "ROOTCA"))
            await asyncio.sleep(0.05)
            identity._replace(held("first"))
            found = secrets(kind, await call.read())
            assert sorted(found) == ["ROOTCA", "default"]
            assert found["default"].tls_certificate.private_key.inline_bytes == b"first key"
            assert found["ROOTCA"].validation_context.trusted_ca.inline_bytes == b"root"
            call.cancel()

    run(scenario, tmp_path)


@pytest.mark.parametrize("kind", ["sotw", "delta"])
def test_a_renewed_certificate_is_pushed(tmp_path: Path, kind: str) -> None:
    async def scenario(path: Path) -> None:
        async with served(path) as (identity, channel):
            identity._replace(held("first"))
            call = stream(channel, kind)
            await call.write(subscribe(kind, "default"))
            await call.read()
            identity._replace(held("second", NOW + dt.timedelta(minutes=30)))
            found = secrets(kind, await call.read())
            chain = found["default"].tls_certificate.certificate_chain.inline_bytes
            assert chain == b"second chain"
            call.cancel()

    run(scenario, tmp_path)

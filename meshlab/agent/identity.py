"""The workload's identity: a key that never leaves memory, its certificate, its renewal.

A CSR with the pod's projected token goes to the mesh CA (istio.md 5.1); the token, not the CSR,
says who we are. The certificate is renewed at half of its life.
"""

import asyncio
import datetime as dt
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshlab.errors import MeshlabError, ProtocolError

LOG = logging.getLogger("meshlab.agent.identity")
SHORTEST_BACK_OFF = 0.1
LONGEST_BACK_OFF = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A workload certificate with its key, PEM."""

    key: bytes
    chain: bytes
    """The leaf first, without the root."""
    root: bytes
    """What peers are checked against."""
    not_before: dt.datetime
    not_after: dt.datetime

    def renew_after(self, now: dt.datetime, draw: float) -> float:
        """Return the seconds until renewal: at 50 % ± 1 % of life; `draw` from [0, 1)."""
        share = 0.5 + 0.02 * (draw - 0.5)
        due = self.not_before + (self.not_after - self.not_before) * share
        return max((due - now).total_seconds(), 1.0)


Sign = Callable[[bytes], Awaitable[list[str]]]
"""CSR (PEM) → chain (PEM, the leaf first, the root last); OSError when the CA cannot answer."""


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def signing_request(key: ec.EllipticCurvePrivateKey, spiffe_id: str) -> bytes:
    """Return a CSR in PEM; the name in it is a courtesy, the CA takes it from the token."""
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(name, critical=True).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def certificate(key: ec.EllipticCurvePrivateKey, chain: list[str]) -> Certificate:
    """Put the CA's answer and the key together.

    Raises:
        ProtocolError: the chain is too short, unreadable, or for another key.
    """
    if len(chain) < 2:
        raise ProtocolError("the CA's chain has no root")
    try:
        leaf = x509.load_pem_x509_certificate(chain[0].encode())
    except ValueError as error:
        raise ProtocolError(f"the CA's certificate cannot be read: {error}") from error
    if leaf.public_key() != key.public_key():
        raise ProtocolError("the CA's certificate is for another key")
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Certificate(
        key=private,
        chain=_joined(chain[:-1]),
        root=chain[-1].encode(),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _joined(pems: list[str]) -> bytes:
    return b"".join(pem.encode().rstrip(b"\n") + b"\n" for pem in pems)


class Identity:
    """The current certificate, and those who wait for the next one."""

    def __init__(self, spiffe_id: str, sign: Sign) -> None:
        self.spiffe_id = spiffe_id
        self.current: Certificate | None = None
        self.failures = 0
        """Signing calls that failed, for the metrics."""
        self._sign = sign
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Get a certificate and keep it fresh, for ever."""
        back_off = SHORTEST_BACK_OFF
        while True:
            try:
                self._replace(await self.request())
            except (OSError, MeshlabError) as error:
                self.failures += 1
                LOG.warning("no certificate from the CA yet: %s", error)
                await asyncio.sleep(back_off * (0.5 + random.random()))
                back_off = min(back_off * 2, LONGEST_BACK_OFF)
                continue
            back_off = SHORTEST_BACK_OFF
            await asyncio.sleep(self._until_renewal())

    async def request(self) -> Certificate:
        """Make a key and have it certified once."""
        key = new_key()
        return certificate(key, await self._sign(signing_request(key, self.spiffe_id)))

    async def newer(self, than: Certificate | None) -> Certificate:
        """Return the current certificate as soon as it is another one than `than`."""
        while self.current is None or self.current is than:
            await self._changed.wait()
        return self.current

    def _replace(self, fresh: Certificate) -> None:
        self.current = fresh
        event, self._changed = self._changed, asyncio.Event()
        event.set()
        LOG.info("certificate for %s until %s", self.spiffe_id, fresh.not_after.isoformat())

    def _until_renewal(self) -> float:
        if self.current is None:
            return 0.0
        return self.current.renew_after(dt.datetime.now(dt.UTC), random.random())

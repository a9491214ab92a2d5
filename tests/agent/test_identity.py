"""Getting a certificate and keeping it fresh, against the real CA."""

import asyncio
import datetime as dt

import pytest

from meshlab.agent.identity import Certificate, Identity, certificate, new_key, signing_request
from meshlab.control import ca
from meshlab.errors import ProtocolError

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SPIFFE = "spiffe://cluster.local/ns/shop/sa/web"


@pytest.mark.parametrize(
    ("passed", "draw", "seconds"),
    [
        pytest.param(0, 0.5, 43200.0, id="half of 24 h"),
        pytest.param(0, 0.0, 42336.0, id="1 % early"),
        pytest.param(43000, 0.5, 200.0, id="what is left of the half"),
        pytest.param(80000, 0.5, 1.0, id="overdue: at once, but never in a tight loop"),
    ],
)
def test_renewal_is_due_at_half_of_life(passed: int, draw: float, seconds: float) -> None:
    held = Certificate(
        key=b"", chain=b"", root=b"", not_before=NOW, not_after=NOW + dt.timedelta(hours=24)
    )
    assert held.renew_after(NOW + dt.timedelta(seconds=passed), draw) == pytest.approx(seconds)


def test_a_certificate_for_another_key_is_refused() -> None:
    authority = ca.self_signed("cluster.local", now=NOW)
    chain = authority.sign_workload(signing_request(new_key(), SPIFFE), SPIFFE, now=NOW)
    with pytest.raises(ProtocolError, match="another key"):
        certificate(new_key(), chain)


def test_a_failed_call_is_tried_again_and_waiters_wake() -> None:
    authority = ca.self_signed("cluster.local", now=dt.datetime.now(dt.UTC))
    answers = [ConnectionError("not yet"), None]

    async def sign(csr: bytes) -> list[str]:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return authority.sign_workload(csr, SPIFFE, now=dt.datetime.now(dt.UTC))

    async def scenario() -> tuple[Certificate, int]:
        identity = Identity(SPIFFE, sign)
        running = asyncio.ensure_future(identity.run())
        try:
            first = await asyncio.wait_for(identity.newer(None), 5)
        finally:
            running.cancel()
        return first, identity.failures

    first, failures = asyncio.run(scenario())
    assert (first.root, failures) == (authority.root_pem, 1)

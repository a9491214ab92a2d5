from datetime import UTC, datetime

import pytest

from meshlab.observe.certificate import Certificate, duration, own_certificates

LEAF = {
    "path": "<inline>",
    "serial_number": "ab12",
    "subject_alt_names": [{"dns": "x"}, {"uri": "spiffe://cluster.local/ns/shop/sa/blue"}],
    "days_until_expiration": "0",
    "valid_from": "2024-01-01T00:00:00Z",
    "expiration_time": "2024-01-02T00:00:00Z",
}
ROOT = LEAF | {"serial_number": "ff", "subject_alt_names": []}


def test_the_leaf_once() -> None:
    entry = {"ca_cert": [ROOT], "cert_chain": [LEAF, ROOT]}
    [found] = own_certificates({"certificates": [entry, entry, {"ca_cert": [ROOT]}]})
    assert found == Certificate(
        identity="spiffe://cluster.local/ns/shop/sa/blue",
        serial="ab12",
        not_before=datetime(2024, 1, 1, tzinfo=UTC),
        not_after=datetime(2024, 1, 2, tzinfo=UTC),
    )
    assert found.left(datetime(2024, 1, 1, 23, tzinfo=UTC)) == 3600


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (90, "90s"), (150, "2m"), (3600, "1h"), (86340, "23h59m"), (90000, "1d1h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text

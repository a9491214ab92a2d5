"""Pod addresses."""

import pytest

from meshlab.cluster.embedded.network.ipam import Addresses
from meshlab.errors import ClusterError


def test_an_address_given_back_is_the_last_to_come_again() -> None:
    addresses = Addresses()
    first = addresses.take()
    addresses.give_back(first)
    taken = [addresses.take() for _ in range(300)]
    assert (first, taken[0], taken[-1]) == ("10.244.0.2", "10.244.0.3", "10.244.1.46")


def test_goes_on_where_the_last_supervisor_was() -> None:
    addresses = Addresses(["10.244.0.9"], last="10.244.0.8")
    assert addresses.take() == "10.244.0.10"


def test_the_range_begins_again_at_its_end() -> None:
    addresses = Addresses(["10.244.0.2"], last="10.244.255.254")
    assert addresses.take() == "10.244.0.3"


def test_a_full_range_says_so() -> None:
    addresses = Addresses()
    for _ in range(65533):
        addresses.take()
    with pytest.raises(ClusterError, match="no pod address"):
        addresses.take()

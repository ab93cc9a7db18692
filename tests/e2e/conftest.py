"""One running cluster for all end-to-end tests: private servers and `sandpool up`, as a user starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.demo.house import House, open_house
from sandpool import Client


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house"), print) as opened:
        yield opened


@pytest.fixture
def acme(house: House) -> Iterator[Client]:
    """A client of the tenant with the databases `flights` and `bookings`."""
    with house.client("acme") as client:
        yield client

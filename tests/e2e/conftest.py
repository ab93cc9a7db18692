"""One running cluster for all end-to-end tests: private servers and `sandpool up`, as a user starts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.demo.house import House, open_house
from sandpool import Client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two workers share the tests out by clusters (`--dist loadgroup`): they mostly wait, so both fit on two cores."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            shares_the_house = "house" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("house" if shares_the_house else item.path.stem))


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house"), print) as opened:
        yield opened


@pytest.fixture
def acme(house: House) -> Iterator[Client]:
    """A client of the tenant with the databases `flights` and `bookings`."""
    with house.client("acme") as client:
        yield client

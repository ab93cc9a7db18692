"""One running cluster for most end-to-end tests: private servers and `sandpool up`, as a user starts it.

Also which tests each worker process of `-n 2` is given, and in which order.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadFileScheduling

from cluster.demo.house import House, open_house
from sandpool import Client

HALVES = (
    # The last three share the cluster `house`, which so is up for none but them.
    ("test_rolling_restart.py", "test_demo_embedded.py", "test_demo.py", "test_envelopes.py", "test_failures.py"),
    ("test_nodes.py", "test_bad_days.py", "test_dashboard.py"),
)
"""Files that one worker runs, in this order; both need about the same time. One that is not named goes to either."""
ORDER = [file for half in HALVES for file in half]


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house"), print) as opened:
        yield opened


@pytest.fixture
def acme(house: House) -> Iterator[Client]:
    """A client of the tenant with the databases `flights` and `bookings`."""
    with house.client("acme") as client:
        yield client


class HalfByHalf(LoadFileScheduling):
    """xdist's own ways start a shared cluster in each worker, or leave the longest files to one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0].rsplit("/", 1)[-1]
        return next((half[0] for half in HALVES if file in half), file)


def pytest_xdist_make_scheduler(config: pytest.Config) -> LoadFileScheduling:
    return HalfByHalf(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(item.path.name) if item.path.name in ORDER else len(ORDER))

"""The in-process twin passes the suite of the real door."""

from __future__ import annotations

import pytest

from tests.support.brokers import Broker, TwinBroker
from tests.support.door_suite import DoorSuite


class TestMemoryDoor(DoorSuite):
    @pytest.fixture
    def broker(self) -> Broker:
        return TwinBroker()

"""The in-process twin passes the suite of the real dead letters."""

from __future__ import annotations

import pytest

from tests.support.brokers import Broker, TwinBroker
from tests.support.dead_suite import DeadSuite


class TestMemoryDeadLetters(DeadSuite):
    @pytest.fixture
    def broker(self) -> Broker:
        return TwinBroker()

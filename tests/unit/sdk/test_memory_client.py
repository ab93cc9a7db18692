"""The clients on the in-process twin."""

from __future__ import annotations

import pytest

from tests.support.brokers import Broker, TwinBroker
from tests.support.client_suite import ClientSuite


class TestMemoryClient(ClientSuite):
    @pytest.fixture
    def broker(self) -> Broker:
        return TwinBroker()

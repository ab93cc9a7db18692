"""The door on a real RabbitMQ node passes the suite, and survives what only a real broker can do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.local.rabbitmq import RabbitNode
from tests.support.brokers import RealBroker
from tests.support.door_suite import DoorSuite


@pytest.fixture
def broker(rabbitmq: RabbitNode) -> Iterator[RealBroker]:
    broker = RealBroker(rabbitmq)
    broker.open_host()
    yield broker
    broker.close_host()


class TestAmqpDoor(DoorSuite):
    pass

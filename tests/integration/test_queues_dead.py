"""Dead letters on a real RabbitMQ node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.local.rabbitmq import RabbitNode
from tests.support.brokers import RealBroker
from tests.support.dead_suite import DeadSuite


@pytest.fixture
def broker(rabbitmq: RabbitNode) -> Iterator[RealBroker]:
    broker = RealBroker(rabbitmq)
    broker.open_host()
    yield broker
    broker.close_host()


class TestAmqpDeadLetters(DeadSuite):
    pass

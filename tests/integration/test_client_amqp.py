"""The clients on a real RabbitMQ node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.local.rabbitmq import RabbitNode
from sandpool import AsyncClient, SqlJob
from sandpool.errors import BrokerUnavailable
from tests.support.brokers import RealBroker
from tests.support.client_suite import ClientSuite


@pytest.fixture
def broker(rabbitmq: RabbitNode) -> Iterator[RealBroker]:
    broker = RealBroker(rabbitmq)
    broker.open_host()
    yield broker
    broker.close_host()


class TestAmqpClient(ClientSuite):
    pass


async def test_before_any_cluster_was_there_a_submission_says_what_to_wait_for(broker: RealBroker) -> None:
    async with AsyncClient(broker.transport("acme")) as client:
        with pytest.raises(BrokerUnavailable, match="sandpool up"):
            await client.submit(SqlJob(database="flights", sql="select 1"), timeout=0.5)


async def test_a_client_that_leaves_does_not_take_the_end_of_its_own_queue_for_a_broker_that_is_away(
    broker: RealBroker, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        async with AsyncClient(broker.transport("acme")):
            pass
    assert "away" not in caplog.text

"""What only a real broker can do to us: restart, block, freeze, refuse. Nothing is lost and every wait ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from cluster.local.rabbitmq import RabbitNode
from queues.amqp import AmqpDoor
from queues.door import Delivery
from queues.errors import AccessRefused, BrokerAway, NotConfirmed, TopologyMismatch
from queues.topology import Limits
from sandpool import AsyncClient, SqlJob
from sandpool.errors import BrokerUnavailable, UsageError
from sandpool.link import Lane, Link
from tests.support.answerer import Answerer
from tests.support.brokers import SERVICE, Inbox, RealBroker, until
from tests.support.door_suite import SQL_BATCH, job, submit

HIGH_WATERMARK = "vm_memory_monitor:set_vm_memory_high_watermark({}), ok."


@pytest.fixture
def broker(rabbitmq: RabbitNode) -> Iterator[RealBroker]:
    broker = RealBroker(rabbitmq)
    broker.open_host()
    yield broker
    broker.close_host()


@pytest.fixture
async def door(broker: RealBroker) -> AsyncIterator[AmqpDoor]:
    door = AmqpDoor(broker.urls[SERVICE])
    await door.open()
    yield door
    await door.close()


async def test_a_broker_restart_in_the_middle_of_a_batch_loses_nothing(broker: RealBroker, door: AmqpDoor) -> None:
    answerer = Answerer(door)
    await answerer.start(prefetch=20)
    restart: asyncio.Future[None] | None = None
    ended: list[str] = []
    async with AsyncClient(broker.transport("acme")) as client:
        jobs = [SqlJob(database="d", sql=f"select {number}") for number in range(600)]
        async for outcome in client.run_many(jobs, max_in_flight=50, timeout=60):
            ended.append(outcome.job_id)
            if len(ended) == 150:
                restart = asyncio.ensure_future(asyncio.to_thread(_restart, broker.node))
    assert restart is not None
    await restart
    assert sorted(ended) == sorted(job.id for job in jobs)
    await answerer.stop()


async def test_a_killed_broker_keeps_confirmed_jobs(broker: RealBroker, door: AmqpDoor) -> None:
    async with AsyncClient(broker.transport("acme")) as client:
        handles = await client.submit_many([SqlJob(database="d", sql=f"select {number}") for number in range(200)])
        await asyncio.to_thread(broker.node.kill)
        await asyncio.to_thread(broker.node.start)
        answerer = Answerer(door)
        await answerer.start()
        outcomes = [await handle.outcome(timeout=60) for handle in handles]
    assert len({outcome.job_id for outcome in outcomes}) == 200
    await answerer.stop()


async def test_a_client_that_opens_before_its_broker_waits_for_it(broker: RealBroker) -> None:
    await asyncio.to_thread(broker.node.stop)
    try:
        started_s = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="no connection within"):
            await AsyncClient(broker.transport("acme")).open(timeout=0.5)
        assert time.monotonic() - started_s < 5
        opening = asyncio.ensure_future(AsyncClient(broker.transport("acme")).open(timeout=60))
        await asyncio.sleep(0.2)
    finally:
        await asyncio.to_thread(broker.node.start)
    client = await opening
    await client.close()


async def test_a_broker_short_of_memory_blocks_publishers_and_lets_them_go_on(
    broker: RealBroker, door: AmqpDoor
) -> None:
    answerer = Answerer(door)
    await answerer.start()
    async with AsyncClient(broker.transport("acme")) as client:
        await (await client.submit(SqlJob(database="d", sql="select 1"))).outcome(timeout=10)
        await asyncio.to_thread(broker.node.evaluate, HIGH_WATERMARK.format("0.000001"))
        try:
            with pytest.raises(BrokerUnavailable):
                for _ in range(3):  # the broker says so with the first message that it does not take
                    await client.submit(SqlJob(database="d", sql="select 1"), timeout=0.5)
            batch = asyncio.ensure_future(client.submit_many([SqlJob(database="d", sql="select 2")] * 3, timeout=30))
            await asyncio.sleep(0.5)
            assert not batch.done()
        finally:
            await asyncio.to_thread(broker.node.evaluate, HIGH_WATERMARK.format("0.4"))
        for handle in await batch:
            assert (await handle.outcome(timeout=20)).succeeded
    await answerer.stop()


async def test_a_frozen_broker_does_not_hang_a_publisher(broker: RealBroker, door: AmqpDoor) -> None:
    async with AsyncClient(broker.transport("acme")) as client:
        broker.node.freeze()
        try:
            started_s = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="no confirm"):
                await client.submit(SqlJob(database="d", sql="select 1"), timeout=0.5)
            assert time.monotonic() - started_s < 3
        finally:
            broker.node.thaw()
        await client.submit(SqlJob(database="d", sql="select 1"), timeout=20)


async def test_a_door_without_a_broker_says_so_and_settling_does_not_hang(broker: RealBroker, door: AmqpDoor) -> None:
    inbox = Inbox()
    await door.consume(SQL_BATCH, 5, inbox)
    await submit(broker, job())
    (delivery,) = await inbox.wait_for(1)
    await asyncio.to_thread(broker.node.stop)
    try:
        started_s = time.monotonic()
        await door.ack(delivery)
        await door.reply(delivery, b"x")
        await door.retry(delivery, 1, "x")
        await door.dead_letter(delivery, "x")
        assert time.monotonic() - started_s < 5
    finally:
        await asyncio.to_thread(broker.node.start)
    again = (await inbox.wait_for(2, timeout_s=30))[1]
    assert again.message_id == delivery.message_id
    await door.ack(again)


async def test_a_wrong_password_is_said_at_once(broker: RealBroker) -> None:
    url = broker.urls["acme"].replace("for-tests-only", "wrong")
    with pytest.raises(UsageError, match="acme"):
        await AsyncClient(url).open(timeout=20)
    with pytest.raises(AccessRefused):
        await AmqpDoor(url).open()


async def test_a_tenant_cannot_be_the_scheduler(broker: RealBroker) -> None:
    with pytest.raises(AccessRefused):
        await AmqpDoor(broker.urls["acme"]).open()


@pytest.mark.parametrize("name", [".*", "acme.b", "a/b", "acme|globex"])
async def test_a_user_whose_name_separates_or_matches_is_no_tenant(
    broker: RealBroker, door: AmqpDoor, name: str
) -> None:
    broker.add_stranger(name)
    inbox = Inbox()
    await door.consume(SQL_BATCH, 5, inbox)
    await submit(broker, job(tenant=name, reply_to=f"sandpool.reply.{name}.r1"), user=name)
    (delivery,) = await inbox.wait_for(1)
    assert (delivery.tenant, delivery.reply_to) == (None, "")
    await door.dead_letter(delivery, "publisher.unverified")


async def test_a_tenants_reply_dead_lettered_into_the_jobs_belongs_to_nobody(
    broker: RealBroker, door: AmqpDoor
) -> None:
    """A tenant may give its reply queue a dead-letter exchange: our own answer must not come back as our own word."""
    trap = "sandpool.reply.acme.trap"
    arguments = {
        "x-message-ttl": 50,
        "x-dead-letter-exchange": "sandpool.jobs",
        "x-dead-letter-routing-key": "sql.batch",
    }
    await broker.declare("acme", trap, arguments)
    inbox = Inbox()
    await door.consume(SQL_BATCH, 5, inbox)
    await submit(broker, job(reply_to=trap))
    (first,) = await inbox.wait_for(1)
    await door.reply(first, b"an answer of the scheduler")
    sprung = (await inbox.wait_for(2))[1]
    assert sprung.body == b"an answer of the scheduler"
    assert sprung.tenant is None
    await broker.delete(trap)


async def test_other_arguments_of_an_existing_queue_are_named(broker: RealBroker, door: AmqpDoor) -> None:
    with pytest.raises(TopologyMismatch, match=r"sandpool\..*delete it"):
        await AmqpDoor(broker.urls[SERVICE], Limits(delivery_limit=3)).open()


async def test_a_message_above_the_envelope_limit_arrives_whole_to_be_dead_lettered(
    broker: RealBroker, door: AmqpDoor
) -> None:
    inbox = Inbox()
    await door.consume(SQL_BATCH, 5, inbox)
    body = bytes(range(256)) * 4096 * 3  # 3 MiB: many frames
    await submit(broker, job(body=body))
    (delivery,) = await inbox.wait_for(1)
    assert delivery.body == body
    await door.dead_letter(delivery, "oversized")
    dead = await broker.take(SERVICE, "sandpool.dead")
    assert dead is not None
    assert dead.body == body


async def test_a_message_of_no_bytes_arrives(broker: RealBroker, door: AmqpDoor) -> None:
    inbox = Inbox()
    await door.consume(SQL_BATCH, 5, inbox)
    await submit(broker, job(body=b""))
    (delivery,) = await inbox.wait_for(1)
    assert delivery.body == b""
    await door.ack(delivery)


async def test_a_reply_queue_outlives_its_connection(broker: RealBroker, door: AmqpDoor) -> None:
    answerer = Answerer(door, answer=lambda job, tenant: None)
    await answerer.start()
    async with AsyncClient(broker.transport("acme")) as client:
        await client.submit(SqlJob(database="d", sql="select 1"))
        await until(lambda: _has(answerer.deliveries))
        queue = answerer.deliveries[0].reply_to
        await broker.break_connections()
        assert await broker.waiting(queue) == 0
        handle = await client.submit(SqlJob(database="d", sql="select 1"))
        await until(lambda: _has(len(answerer.deliveries) > 1))
        assert answerer.deliveries[-1].reply_to == queue
        del handle
    with pytest.raises((BrokerAway, TopologyMismatch, NotConfirmed)):
        await broker.waiting(queue)  # a client that leaves takes its queue along
    await answerer.stop()


async def _has(what: object) -> bool:
    return bool(what)


def _restart(node: RabbitNode) -> None:
    node.stop()
    node.start()


async def test_a_network_that_breaks_every_connection_at_once_is_not_tried_dozens_of_times(broker: RealBroker) -> None:
    lives = 0

    async def prepare(lane: Lane) -> None:
        nonlocal lives
        lives += 1
        asyncio.get_running_loop().call_later(0.01, lane.broken.set)

    link = Link(broker.urls[SERVICE], "breaking", prepare, lambda: None)
    await link.open(10)
    await asyncio.sleep(1.5)
    in_a_while = lives
    await until(lambda: _has(lives >= 2))
    await link.close()
    assert in_a_while <= 6, "each life is one more delivery of whatever was held"


async def test_what_arrives_while_consuming_stops_is_handed_out_once_more_and_not_over_and_over(
    broker: RealBroker, door: AmqpDoor
) -> None:
    for number in range(300):
        await submit(broker, job(number))
    taken, acks = Inbox(), set[asyncio.Task[None]]()

    def take(delivery: Delivery) -> None:
        taken(delivery)
        acks.add(asyncio.ensure_future(door.ack(delivery)))

    await door.consume(SQL_BATCH, 20, take)
    await taken.wait_for(40)
    await door.stop_consuming()
    await asyncio.gather(*acks)
    done = len(taken.got)
    assert done < 300, "there is something left to hand out again"
    again = Inbox()
    await door.consume(SQL_BATCH, 300, again)
    await again.wait_for(300 - done)
    assert max(delivery.deliveries for delivery in again.got) <= 2

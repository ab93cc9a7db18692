"""What every door must do, on the real broker and on its twin: subclass `DoorSuite`, with a fixture `broker`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from queues.door import Door
from queues.errors import AccessRefused, NotConfirmed, Unroutable
from queues.message import (
    ATTEMPT_HEADER,
    HISTORY_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
    TENANT_HEADER,
    Message,
)
from queues.topology import CONTROL_QUEUE, DEAD, JOB_QUEUES, Limits, parked_name
from sandpool.transport import SUBMITTED_HEADER
from sandpool.wire import CONTROL_EXCHANGE, CONTROL_KEY, EVENTS_EXCHANGE, JOBS_EXCHANGE
from tests.support.brokers import SERVICE, Broker, Inbox, until

SQL_BATCH = "sandpool.jobs.sql.batch"
REPLIES = "sandpool.reply.acme.r1"


def job(number: int = 1, tenant: str = "acme", **changes: Any) -> Message:
    return Message(**{"body": b"job %d" % number, "message_id": f"j{number}", "user_id": tenant, **changes})


async def submit(broker: Broker, message: Message, key: str = "sql.batch", user: str = "acme") -> None:
    await broker.publish(user, JOBS_EXCHANGE, key, message)


class DoorSuite:
    @pytest.fixture
    async def door(self, broker: Broker) -> AsyncIterator[Door]:
        door = broker.door()
        await door.open()
        yield door
        await door.close()

    @pytest.fixture
    async def inbox(self, door: Door) -> Inbox:
        inbox = Inbox()
        await door.consume(SQL_BATCH, 10, inbox)
        return inbox

    # ---- what comes in ----

    async def test_a_job_arrives_with_the_user_that_the_broker_verified(self, broker: Broker, inbox: Inbox) -> None:
        headers = {SUBMITTED_HEADER: 1_795_000_000_123, "traceparent": "00-abc-def-01", "secret": "x"}
        await submit(broker, job(reply_to=REPLIES, correlation_id="c1", headers=headers))
        (delivery,) = await inbox.wait_for(1)
        assert (delivery.tenant, delivery.body, delivery.message_id) == ("acme", b"job 1", "j1")
        assert (delivery.reply_to, delivery.correlation_id) == (REPLIES, "c1")
        assert (delivery.attempt, delivery.deliveries, delivery.history) == (1, 1, ())
        assert delivery.submitted_at_s == 1_795_000_000.123
        assert delivery.headers == {"traceparent": "00-abc-def-01"}

    async def test_a_job_without_verified_user_has_no_tenant(self, broker: Broker, inbox: Inbox) -> None:
        await submit(broker, job(user_id=""))
        (delivery,) = await inbox.wait_for(1)
        assert delivery.tenant is None

    async def test_a_tenant_cannot_claim_attempts_or_another_tenant(self, broker: Broker, inbox: Inbox) -> None:
        claims = {TENANT_HEADER: "globex", ATTEMPT_HEADER: 7, HISTORY_HEADER: ["x"]}
        await submit(broker, job(headers=claims))
        (delivery,) = await inbox.wait_for(1)
        assert (delivery.tenant, delivery.attempt, delivery.history) == ("acme", 1, ())

    async def test_a_tenant_cannot_publish_as_somebody_else(self, broker: Broker, door: Door) -> None:
        with pytest.raises(AccessRefused):
            await submit(broker, job(tenant="globex"), user="acme")
        with pytest.raises(AccessRefused):
            await submit(broker, job(tenant=SERVICE), user="acme")

    @pytest.mark.parametrize(
        "reply_to", ["sandpool.reply.globex.r1", "sandpool.reply.acme.x.r1", "sandpool.jobs.sql.batch", "sandpool.dead"]
    )
    async def test_a_reply_queue_of_somebody_else_is_not_answered(
        self, broker: Broker, inbox: Inbox, reply_to: str
    ) -> None:
        await submit(broker, job(reply_to=reply_to))
        (delivery,) = await inbox.wait_for(1)
        assert delivery.reply_to == ""

    async def test_every_job_queue_takes_its_own_key_only(self, broker: Broker, door: Door) -> None:
        for queue in JOB_QUEUES:
            await submit(broker, job(), queue.removeprefix("sandpool.jobs."))
        for queue in JOB_QUEUES:
            assert await broker.waiting(queue) == 1

    async def test_a_job_that_no_queue_takes_comes_back_to_its_publisher(self, broker: Broker, door: Door) -> None:
        with pytest.raises(Unroutable):
            await submit(broker, job(), "quantum.batch")

    async def test_control_calls_arrive_on_their_own_queue(self, broker: Broker, door: Door) -> None:
        inbox = Inbox()
        await door.consume(CONTROL_QUEUE, 10, inbox)
        await broker.publish("acme", CONTROL_EXCHANGE, CONTROL_KEY, job(reply_to=REPLIES))
        (delivery,) = await inbox.wait_for(1)
        assert (delivery.queue, delivery.tenant, delivery.reply_to) == (CONTROL_QUEUE, "acme", REPLIES)

    # ---- prefetch: what cannot run stays in the broker ----

    async def test_no_more_than_the_prefetch_is_out_at_once(self, broker: Broker, door: Door) -> None:
        inbox = Inbox()
        await door.consume(SQL_BATCH, 3, inbox)
        for number in range(8):
            await submit(broker, job(number))
        await inbox.wait_for(3)
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 3
        assert await broker.waiting(SQL_BATCH) == 5
        for delivery in list(inbox.got):
            await door.ack(delivery)
        await inbox.wait_for(6)

    async def test_more_prefetch_takes_more_at_once(self, broker: Broker, door: Door) -> None:
        inbox = Inbox()
        await door.consume(SQL_BATCH, 2, inbox)
        for number in range(8):
            await submit(broker, job(number))
        await inbox.wait_for(2)
        await door.consume(SQL_BATCH, 5, inbox)
        await inbox.wait_for(5)
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 5

    async def test_less_prefetch_holds_once_enough_is_settled(self, broker: Broker, door: Door) -> None:
        inbox = Inbox()
        await door.consume(SQL_BATCH, 5, inbox)
        for number in range(12):
            await submit(broker, job(number))
        await inbox.wait_for(5)
        await door.consume(SQL_BATCH, 2, inbox)
        await door.ack(inbox.got[0])
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 5, "four are still out, two are allowed"
        for delivery in inbox.got[1:5]:
            await door.ack(delivery)
        await inbox.wait_for(7)
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 7
        for delivery in inbox.got[5:7]:
            await door.ack(delivery)
        await inbox.wait_for(9)
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 9

    async def test_after_stop_nothing_new_comes_and_what_is_out_can_be_settled(
        self, broker: Broker, door: Door
    ) -> None:
        inbox = Inbox()
        await door.consume(SQL_BATCH, 2, inbox)
        for number in range(4):
            await submit(broker, job(number))
        await inbox.wait_for(2)
        await door.stop_consuming()
        for delivery in list(inbox.got):
            await door.ack(delivery)
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 2
        assert await broker.waiting(SQL_BATCH) == 2

    # ---- settling ----

    async def test_an_acknowledged_job_does_not_come_again(self, broker: Broker, door: Door, inbox: Inbox) -> None:
        await submit(broker, job())
        (delivery,) = await inbox.wait_for(1)
        await door.ack(delivery)
        await door.close()
        assert await broker.waiting(SQL_BATCH) == 0

    async def test_closing_hands_back_what_is_unsettled(self, broker: Broker, door: Door, inbox: Inbox) -> None:
        await submit(broker, job())
        await inbox.wait_for(1)
        await door.close()
        second = broker.door()
        await second.open()
        again = Inbox()
        await second.consume(SQL_BATCH, 10, again)
        (delivery,) = await again.wait_for(1)
        assert (delivery.deliveries, delivery.attempt, delivery.tenant) == (2, 1, "acme")
        await second.close()

    async def test_a_job_that_is_never_settled_is_dead_lettered_at_the_delivery_limit(self, broker: Broker) -> None:
        await submit_after_open(broker, Limits(delivery_limit=2), job())
        for deliveries in (1, 2, 3):
            door = broker.door(Limits(delivery_limit=2))
            await door.open()
            inbox = Inbox()
            await door.consume(SQL_BATCH, 1, inbox)
            (delivery,) = await inbox.wait_for(1)
            assert delivery.deliveries == deliveries
            await door.close()
        await until(lambda: _is_waiting(broker, DEAD))
        dead = await broker.take(SERVICE, DEAD)
        assert dead is not None
        assert (dead.body, dead.user_id) == (b"job 1", "acme")

    async def test_a_retry_comes_back_as_the_next_attempt(self, broker: Broker, door: Door, inbox: Inbox) -> None:
        headers = {SUBMITTED_HEADER: 123_500, "traceparent": "00-abc-def-01"}
        await submit(broker, job(reply_to=REPLIES, correlation_id="c1", headers=headers))
        (first,) = await inbox.wait_for(1)
        asked_s = time.monotonic()
        await door.retry(first, 0.2, "database.unavailable")
        second = (await inbox.wait_for(2))[1]
        assert 0.9 < time.monotonic() - asked_s < 5.0
        assert (second.attempt, second.deliveries) == (2, 1)
        assert second.history == ("database.unavailable",)
        unchanged = ("queue", "body", "tenant", "message_id", "reply_to", "correlation_id", "submitted_at_s", "headers")
        for field in unchanged:
            assert getattr(second, field) == getattr(first, field), field
        await door.retry(second, 0.2, "statement.conflict")
        third = (await inbox.wait_for(3))[2]
        assert (third.attempt, third.history) == (3, ("database.unavailable", "statement.conflict"))
        assert third.tenant == "acme"

    async def test_a_parked_job_waits_in_its_tenants_own_queue_and_is_the_same_job(
        self, broker: Broker, door: Door, inbox: Inbox
    ) -> None:
        own = parked_name("acme", SQL_BATCH)
        await door.consume(own, 0, inbox)
        await submit(broker, job(reply_to=REPLIES, headers={"traceparent": "00-1"}))
        (first,) = await inbox.wait_for(1)
        await door.park(first)
        await until(lambda: _is_waiting(broker, own))
        assert await broker.waiting(SQL_BATCH) == 0
        await door.consume(own, 5, inbox)
        second = (await inbox.wait_for(2))[1]
        assert (first.parked, second.parked) == (False, True)
        for field in ("queue", "body", "tenant", "message_id", "reply_to", "headers", "submitted_at_s"):
            assert getattr(second, field) == getattr(first, field), field
        await door.retry(second, 0.2, "worker.lost")
        third = (await inbox.wait_for(3))[2]
        assert (third.parked, third.history) == (False, ("placement.parked", "worker.lost"))
        await door.ack(third)

    async def test_no_tenant_can_take_from_its_own_or_anothers_parked_jobs(self, broker: Broker, door: Door) -> None:
        own = parked_name("acme", SQL_BATCH)
        await door.consume(own, 0, Inbox())
        for tenant in ("acme", "globex"):
            with pytest.raises(AccessRefused):
                await broker.take(tenant, own)

    async def test_a_dead_letter_keeps_its_body_and_says_why(self, broker: Broker, door: Door, inbox: Inbox) -> None:
        await submit(broker, job(body=b"\x00 not json"))
        (delivery,) = await inbox.wait_for(1)
        await door.dead_letter(delivery, "malformed")
        dead = await broker.take(SERVICE, DEAD)
        assert dead is not None
        assert dead.body == b"\x00 not json"
        assert dead.user_id == "", "nothing here may pass for a message of the scheduler when somebody moves it"
        assert dead.headers[REASON_HEADER] == "malformed"
        assert dead.headers[QUEUE_HEADER] == SQL_BATCH
        assert dead.headers[TENANT_HEADER] == "acme"
        await door.close()
        assert await broker.waiting(SQL_BATCH) == 0

    async def test_deliveries_of_a_lost_connection_are_ignored_and_come_again(
        self, broker: Broker, door: Door, inbox: Inbox
    ) -> None:
        await submit(broker, job())
        (lost,) = await inbox.wait_for(1)
        await broker.break_connections()
        again = (await inbox.wait_for(2))[1]
        assert (again.message_id, again.deliveries) == (lost.message_id, 2)
        await door.ack(lost)
        await door.retry(lost, 1, "x")
        await door.dead_letter(lost, "x")
        await door.reply(lost, b"late")
        assert await broker.waiting(DEAD) == 0
        await door.ack(again)
        await submit(broker, job(2))
        assert (await inbox.wait_for(3))[2].message_id == "j2"

    async def test_a_deleted_queue_is_declared_again_and_consumed(
        self, broker: Broker, door: Door, inbox: Inbox
    ) -> None:
        await submit(broker, job())
        (delivery,) = await inbox.wait_for(1)
        await broker.delete(SQL_BATCH)
        await until(lambda: _can_submit(broker, job(2)))
        assert (await inbox.wait_for(2))[1].message_id == "j2"
        await door.ack(delivery)

    # ---- a full queue pushes back ----

    async def test_a_full_queue_refuses_and_loses_nothing(self, broker: Broker) -> None:
        limits = Limits(jobs=3)
        door = broker.door(limits)
        await door.open()
        refused = 0
        for number in range(12):
            try:
                await submit(broker, job(number))
            except NotConfirmed:
                refused += 1
        accepted = await broker.waiting(SQL_BATCH)
        assert refused >= 1
        assert accepted == 12 - refused
        await door.close()

    async def test_a_full_dead_letter_queue_gives_the_message_back(self, broker: Broker) -> None:
        door = broker.door(Limits(dead=1))
        await door.open()
        inbox = Inbox()
        await door.consume(SQL_BATCH, 1, inbox)
        settled = 0
        for number in range(6):
            await submit(broker, job(number))
        with pytest.raises(NotConfirmed):
            for _ in range(6):
                delivery = (await inbox.wait_for(settled + 1))[settled]
                settled += 1
                await door.dead_letter(delivery, "malformed")
        refused = inbox.got[settled - 1].message_id
        again = (await inbox.wait_for(settled + 1))[settled]
        assert (again.message_id, again.deliveries) == (refused, 2)
        await door.close()

    # ---- answers and events ----

    async def test_a_reply_reaches_the_callers_queue_and_only_the_caller_may_read_it(
        self, broker: Broker, door: Door, inbox: Inbox
    ) -> None:
        await broker.declare("acme", REPLIES, {})
        await submit(broker, job(reply_to=REPLIES, correlation_id="c1"))
        (delivery,) = await inbox.wait_for(1)
        await door.reply(delivery, b"answer")
        await until(lambda: _is_waiting(broker, REPLIES))
        with pytest.raises(AccessRefused):
            await broker.take("globex", REPLIES)
        reply = await broker.take("acme", REPLIES)
        assert reply is not None
        assert (reply.body, reply.correlation_id, reply.user_id) == (b"answer", "c1", "")
        await broker.delete(REPLIES)

    async def test_a_reply_to_a_queue_that_is_gone_is_no_error(self, broker: Broker, door: Door, inbox: Inbox) -> None:
        await submit(broker, job(reply_to="sandpool.reply.acme.gone"))
        (delivery,) = await inbox.wait_for(1)
        await door.reply(delivery, b"answer")
        await door.ack(delivery)
        await submit(broker, job(2))
        await inbox.wait_for(2)

    async def test_an_outcome_goes_to_the_caller_and_to_listeners(
        self, broker: Broker, door: Door, inbox: Inbox
    ) -> None:
        events = "sandpool.reply.acme.events"  # the service user may bind any queue of ours
        await broker.declare(SERVICE, events, {})
        await broker.declare("acme", REPLIES, {})
        await broker.bind(SERVICE, events, EVENTS_EXCHANGE, "job.acme.#")
        await submit(broker, job(reply_to=REPLIES))
        (delivery,) = await inbox.wait_for(1)
        await door.publish_outcome(delivery, "job.globex.Succeeded", b"not for this listener")
        await asyncio.sleep(1.1)  # nobody listened to that one, and for a second nobody is asked
        await door.publish_outcome(delivery, "job.acme.Succeeded", b"outcome")
        await door.ack(delivery)
        await until(lambda: _is_waiting(broker, events))
        event = await broker.take(SERVICE, events)
        replies = [await broker.take("acme", REPLIES) for _ in range(2)]
        assert event is not None
        assert event.body == b"outcome"
        assert [reply and reply.body for reply in replies] == [b"not for this listener", b"outcome"]
        await broker.delete(events)
        await broker.delete(REPLIES)

    async def test_a_refusing_listener_does_not_hold_up_outcomes(
        self, broker: Broker, door: Door, inbox: Inbox
    ) -> None:
        events = "sandpool.reply.acme.full"
        arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": 1}
        await broker.declare(SERVICE, events, arguments)
        await broker.bind(SERVICE, events, EVENTS_EXCHANGE, "job.acme.#")
        await submit(broker, job())
        (delivery,) = await inbox.wait_for(1)
        for _ in range(5):
            await door.publish_outcome(delivery, "job.acme.Succeeded", b"outcome")
        await door.ack(delivery)
        await broker.delete(events)

    # ---- what a tenant may not ----

    async def test_a_tenant_cannot_take_jobs_or_dead_letters(self, broker: Broker, door: Door) -> None:
        for queue in (*JOB_QUEUES, DEAD, CONTROL_QUEUE, "sandpool.retry.1s"):
            with pytest.raises(AccessRefused):
                await broker.take("acme", queue)

    async def test_a_tenant_cannot_listen_to_events(self, broker: Broker, door: Door) -> None:
        await broker.declare("acme", REPLIES, {})
        with pytest.raises(AccessRefused):
            await broker.bind("acme", REPLIES, EVENTS_EXCHANGE, "#")
        await broker.delete(REPLIES)

    @pytest.mark.parametrize(
        "queue",
        [
            "sandpool.reply.globex.r1",
            "sandpool.reply.acme-2.r1",
            "sandpool.reply.acme.b.r1",
            "sandpool.jobs.sql.mine",
            "x",
        ],
    )
    async def test_a_tenant_can_declare_only_its_own_reply_queues(self, broker: Broker, door: Door, queue: str) -> None:
        with pytest.raises(AccessRefused):
            await broker.declare("acme", queue, {})

    @pytest.mark.parametrize("exchange", ["", EVENTS_EXCHANGE, DEAD, "sandpool.retry.1s"])
    async def test_a_tenant_can_publish_only_jobs_and_control_calls(
        self, broker: Broker, door: Door, exchange: str
    ) -> None:
        with pytest.raises(AccessRefused):
            await broker.publish("acme", exchange, "sandpool.jobs.sql.batch", job())


async def submit_after_open(broker: Broker, limits: Limits, message: Message) -> None:
    door = broker.door(limits)
    await door.open()
    await door.close()
    await submit(broker, message)


async def _is_waiting(broker: Broker, queue: str) -> bool:
    return await broker.waiting(queue) > 0


async def _can_submit(broker: Broker, message: Message) -> bool:
    try:
        await submit(broker, message)
    except Unroutable:
        return False
    return True

"""What an operator's side of the dead letters must do, on the real broker and on its twin: subclass `DeadSuite`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from queues.dead import DeadLetters
from queues.door import Door
from queues.errors import NotConfirmed, NotRequeueable
from queues.letter import REQUEUED, Letter
from queues.topology import DEAD, Limits
from tests.support.brokers import Broker, Inbox, until
from tests.support.door_suite import SQL_BATCH, job, submit


async def all_of(dead: DeadLetters) -> list[Letter]:
    return [letter async for letter in dead.letters()]


class DeadSuite:
    @pytest.fixture
    async def door(self, broker: Broker) -> AsyncIterator[Door]:
        door = broker.door()
        await door.open()
        yield door
        await door.close()

    @pytest.fixture
    async def dead(self, broker: Broker, door: Door) -> AsyncIterator[DeadLetters]:
        dead = broker.dead()
        await dead.open()
        yield dead
        await dead.close()

    async def kill(self, broker: Broker, door: Door, *numbers: int, reason: str = "tenant.unknown") -> None:
        """Submit these jobs and dead-letter them, in order."""
        inbox = Inbox()
        await door.consume(SQL_BATCH, 10, inbox)
        for number in numbers:
            await submit(broker, job(number, reply_to="sandpool.reply.acme.r1"))
        for delivery in list(await inbox.wait_for(len(numbers))):
            await door.dead_letter(delivery, reason)
        await door.consume(SQL_BATCH, 0, inbox)

    async def test_letters_come_oldest_first_with_what_the_scheduler_wrote(
        self, broker: Broker, door: Door, dead: DeadLetters
    ) -> None:
        await self.kill(broker, door, 1, 2, 3)
        letters = await all_of(dead)
        assert [letter.id for letter in letters] == ["j1", "j2", "j3"]
        first = letters[0]
        assert (first.tenant, first.reason, first.queue) == ("acme", "tenant.unknown", SQL_BATCH)
        assert (first.attempt, first.deliveries, first.history, first.size_bytes) == (1, 1, (), 5)
        assert first.died_at_s > 1_700_000_000

    async def test_looking_changes_neither_number_nor_order(self, broker: Broker, door: Door) -> None:
        await self.kill(broker, door, 1, 2, 3, 4)
        for _ in range(3):
            looking = broker.dead()
            await looking.open()
            assert await looking.count() == 4
            seen = []
            async for letter in looking.letters():
                seen.append(letter.id)
                if len(seen) == 3:
                    break
            assert seen == ["j1", "j2", "j3"]
            await looking.close()
            await until(lambda: self._count_is(broker, 4))

    async def test_many_windows_of_letters_keep_their_order(
        self, broker: Broker, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("queues.dead.WINDOW", 3)
        await self.kill(broker, door, *range(10))
        dead = broker.dead()
        await dead.open()
        assert [letter.id for letter in await all_of(dead)] == [f"j{number}" for number in range(10)]
        await dead.close()
        await until(lambda: self._count_is(broker, 10))
        dead = broker.dead()
        await dead.open()
        kept = []
        async for letter in dead.letters():
            if letter.id in ("j2", "j5", "j6", "j7"):
                await dead.drop(letter)
            else:
                kept.append(letter.id)
        await dead.close()
        assert kept == ["j0", "j1", "j3", "j4", "j8", "j9"]
        await until(lambda: self._count_is(broker, 6))

    async def test_what_another_call_holds_is_not_seen_and_comes_back_when_it_dies(
        self, broker: Broker, door: Door, dead: DeadLetters
    ) -> None:
        await self.kill(broker, door, 1, 2)
        assert len(await all_of(dead)) == 2
        other = broker.dead()
        await other.open()
        assert await all_of(other) == []
        await broker.break_connections()
        await other.close()
        await until(lambda: self._count_is(broker, 2))

    async def test_a_requeued_letter_is_a_job_at_its_first_attempt(
        self, broker: Broker, door: Door, dead: DeadLetters
    ) -> None:
        inbox = Inbox()
        await door.consume(SQL_BATCH, 10, inbox)
        await submit(
            broker, job(reply_to="sandpool.reply.acme.r1", correlation_id="c", headers={"traceparent": "00-1"})
        )
        (first,) = await inbox.wait_for(1)
        await door.retry(first, 0.1, "worker.lost")
        await door.dead_letter((await inbox.wait_for(2))[1], "job.poison")
        (letter,) = await all_of(dead)
        assert (letter.history, letter.delays_s, letter.attempt) == (("worker.lost",), (1,), 2)
        await dead.requeue(letter)
        again = (await inbox.wait_for(3))[2]
        assert (again.tenant, again.body, again.message_id) == ("acme", first.body, first.message_id)
        assert (again.reply_to, again.correlation_id) == (first.reply_to, first.correlation_id)
        assert (again.attempt, again.deliveries, again.history) == (1, 1, (REQUEUED,))
        assert (again.headers, again.submitted_at_s) == (first.headers, first.submitted_at_s)
        await dead.close()
        await door.ack(again)
        assert await broker.waiting(DEAD) == 0

    async def test_a_letter_that_the_broker_gave_up_belongs_to_the_user_it_verified(self, broker: Broker) -> None:
        limits = Limits(delivery_limit=1)
        door = broker.door(limits)
        await door.open()
        forged = {"sandpool-tenant": "globex", "sandpool-reason": "nothing", "sandpool-history": ["x"]}
        await submit(broker, job(headers=forged))
        for _ in range(2):
            inbox = Inbox()
            await door.consume(SQL_BATCH, 1, inbox)
            await inbox.wait_for(1)
            await door.close()
            door = broker.door(limits)
            await door.open()
        await until(lambda: self._count_is(broker, 1))
        dead = broker.dead()
        await dead.open()
        (letter,) = await all_of(dead)
        assert (letter.tenant, letter.reason, letter.queue) == ("acme", "broker.delivery_limit", SQL_BATCH)
        assert letter.history == ()
        inbox = Inbox()
        await door.consume(SQL_BATCH, 1, inbox)
        await dead.requeue(letter)
        (again,) = await inbox.wait_for(1)
        assert (again.tenant, again.deliveries) == ("acme", 1)
        await dead.close()
        await door.close()

    async def test_a_letter_of_nobody_is_never_a_job(self, broker: Broker, door: Door, dead: DeadLetters) -> None:
        inbox = Inbox()
        await door.consume(SQL_BATCH, 1, inbox)
        await submit(broker, job(user_id="", headers={"sandpool-tenant": "globex"}))
        (delivery,) = await inbox.wait_for(1)
        await door.dead_letter(delivery, "publisher.unverified")
        (letter,) = await all_of(dead)
        assert letter.tenant == ""
        with pytest.raises(NotRequeueable):
            await dead.requeue(letter)
        await dead.close()
        await until(lambda: self._count_is(broker, 1))

    async def test_a_dropped_letter_is_gone_and_the_others_stay(
        self, broker: Broker, door: Door, dead: DeadLetters
    ) -> None:
        await self.kill(broker, door, 1, 2, 3)
        async for letter in dead.letters():
            if letter.id == "j2":
                await dead.drop(letter)
        await dead.close()
        await until(lambda: self._count_is(broker, 2))
        again = broker.dead()
        await again.open()
        assert [letter.id for letter in await all_of(again)] == ["j1", "j3"]
        await again.close()

    async def test_a_full_job_queue_keeps_the_letter(self, broker: Broker) -> None:
        limits = Limits(jobs=2)
        door = broker.door(limits)
        await door.open()
        await self.kill(broker, door, 1)
        with pytest.raises(NotConfirmed):
            for number in range(20):
                await submit(broker, job(number))
        dead = broker.dead()
        await dead.open()
        (letter,) = await all_of(dead)
        with pytest.raises(NotConfirmed):
            await dead.requeue(letter)
        await dead.close()
        await until(lambda: self._count_is(broker, 1))
        await door.close()

    async def _count_is(self, broker: Broker, count: int) -> bool:
        return await broker.waiting(DEAD) == count

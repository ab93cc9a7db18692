"""What both clients must do, on the real broker and on its twin: subclass `ClientSuite`, with a fixture `broker`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from queues.topology import Limits
from sandpool import AsyncClient, Client, Ending, Progress, SqlJob
from sandpool.errors import BrokerUnavailable, InvalidEnvelope, JobIdConflict, OutcomeTimeout, UsageError
from sandpool.job import Job
from sandpool.transport import SUBMITTED_HEADER
from tests.support.answerer import Answerer, conflict, succeeded
from tests.support.brokers import Broker, until

INLINE = b"x" * 60_000


def sql(text: str = "select 1", **changes: Any) -> SqlJob:
    return SqlJob(database="flights", sql=text, **changes)


class ClientSuite:
    @pytest.fixture
    async def answerer(self, broker: Broker) -> AsyncIterator[Answerer]:
        door = broker.door()
        await door.open()
        answerer = Answerer(door)
        await answerer.start()
        yield answerer
        await answerer.stop()
        await door.close()

    @pytest.fixture
    async def client(self, broker: Broker, answerer: Answerer) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(broker.transport("acme")) as client:
            yield client

    # ---- one job ----

    async def test_an_outcome_comes_back_to_its_handle(self, client: AsyncClient, answerer: Answerer) -> None:
        job = sql()
        handle = await client.submit(job, traceparent="00-abc-def-01")
        outcome = await handle.outcome(timeout=10)
        assert (outcome.job_id, outcome.tenant, outcome.ending) == (job.id, "acme", Ending.Succeeded)
        (delivery,) = answerer.deliveries
        assert delivery.headers["traceparent"] == "00-abc-def-01"
        assert delivery.message_id == job.id
        assert delivery.submitted_at_s > 1.7e9, SUBMITTED_HEADER
        assert handle.ended
        assert await handle.outcome(timeout=0.001) == outcome

    async def test_a_job_without_an_outcome_in_time_goes_on(self, client: AsyncClient, answerer: Answerer) -> None:
        answerer.answer = lambda job, tenant: None
        handle = await client.submit(sql())
        with pytest.raises(OutcomeTimeout) as raised:
            await handle.outcome(timeout=0.1)
        assert (raised.value.job_id, raised.value.retry) == (handle.job_id, True)

    async def test_submitting_the_same_job_twice_gives_the_same_outcome(
        self, client: AsyncClient, answerer: Answerer
    ) -> None:
        job = sql()
        first, second = await client.submit(job), await client.submit(job)
        assert await first.outcome(timeout=10) == await second.outcome(timeout=10)

    async def test_other_work_under_an_id_that_waits_is_refused_at_once(
        self, client: AsyncClient, answerer: Answerer
    ) -> None:
        handle = await client.submit(sql("select 1", id="same"))
        with pytest.raises(JobIdConflict):
            await client.submit(sql("select 2", id="same"))
        assert (await handle.outcome(timeout=10)).succeeded

    async def test_an_id_used_before_for_other_work_is_a_conflict(
        self, client: AsyncClient, answerer: Answerer
    ) -> None:
        answerer.answer = conflict
        handle = await client.submit(sql(id="same"))
        with pytest.raises(JobIdConflict) as raised:
            await handle.outcome(timeout=10)
        assert raised.value.job_id == "same"

    async def test_an_outcome_of_other_work_is_a_conflict_too(self, client: AsyncClient, answerer: Answerer) -> None:
        answerer.answer = lambda job, tenant: succeeded(job, tenant, digest="f" * 64)
        handle = await client.submit(sql())
        with pytest.raises(JobIdConflict):
            await handle.outcome(timeout=10)

    async def test_duplicate_and_unknown_outcomes_are_dropped(self, client: AsyncClient, answerer: Answerer) -> None:
        answerer.copies = 3
        forgotten = await client.submit(sql())
        del forgotten
        for _ in range(3):
            handle = await client.submit(sql())
            assert (await handle.outcome(timeout=10)).succeeded

    async def test_a_cancelled_job_ends_cancelled(self, client: AsyncClient, answerer: Answerer) -> None:
        answerer.answer = lambda job, tenant: None
        handle = await client.submit(sql())
        await until(lambda: _has(answerer.jobs))
        status = await handle.cancel(timeout=10)
        assert status.state == "ended"
        assert (await handle.outcome(timeout=10)).ending is Ending.Cancelled
        (call,) = answerer.calls
        assert (call.action, call.job_id, call.volume) == ("cancel", handle.job_id, "results")
        assert call.digest, "a handle knows its work, so the cancelled id stays bound to it"

    async def test_the_status_of_a_job_that_nobody_knows_is_unknown(
        self, client: AsyncClient, answerer: Answerer
    ) -> None:
        assert (await client.status("nothing", timeout=10)).state == "unknown"
        assert (await client.cancel("nothing", timeout=10)).state == "unknown"

    async def test_a_status_answer_also_ends_the_wait(self, client: AsyncClient, answerer: Answerer) -> None:
        answerer.answer = lambda job, tenant: None
        job = sql()
        handle = await client.submit(job)
        answerer.outcomes[job.id] = succeeded(job, "acme")
        assert (await handle.status(timeout=10)).state == "ended"
        assert (await handle.outcome(timeout=0.01)).succeeded

    async def test_without_a_scheduler_a_control_call_says_so_in_time(self, broker: Broker) -> None:
        door = broker.door()
        await door.open()
        async with AsyncClient(broker.transport("acme")) as client:
            with pytest.raises(BrokerUnavailable, match="no scheduler"):
                await client.status("x", timeout=0.2)
        await door.close()

    async def test_an_oversized_job_is_refused_before_it_is_sent(self, client: AsyncClient, answerer: Answerer) -> None:
        with pytest.raises(InvalidEnvelope) as raised:
            await client.submit(sql(params=["x" * 1_100_000]))
        assert raised.value.code == "oversized"

    async def test_closing_wakes_whoever_waits(self, broker: Broker, answerer: Answerer) -> None:
        answerer.answer = lambda job, tenant: None
        client = await AsyncClient(broker.transport("acme")).open()
        handle = await client.submit(sql())
        waiting = asyncio.ensure_future(handle.outcome(timeout=30))
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(BrokerUnavailable, match="closed"):
            await waiting
        with pytest.raises(BrokerUnavailable):
            await client.submit(sql(), timeout=0.5)

    # ---- many jobs ----

    async def test_many_outcomes_come_in_bounded_memory(self, client: AsyncClient, answerer: Answerer) -> None:
        seen: list[Progress] = []
        started = 0

        def jobs() -> Iterator[Job]:
            nonlocal started
            for number in range(500):
                started += 1
                yield sql(f"select {number}")

        ended = 0
        async for outcome in client.run_many(jobs(), max_in_flight=20, on_progress=seen.append, timeout=20):
            ended += 1
            assert outcome.succeeded
            # One more is read before its place is free.
            assert started - ended <= 20 + 1
        assert ended == 500
        assert seen[-1] == Progress(submitted=500, ended=500, total=None)

    async def test_a_sized_batch_knows_its_total(self, client: AsyncClient, answerer: Answerer) -> None:
        seen: list[Progress] = []
        jobs = [sql(f"select {number}") for number in range(30)]
        handles = await client.submit_many(jobs, on_progress=seen.append, window=7)
        assert [handle.job_id for handle in handles] == [job.id for job in jobs]
        assert seen[-1] == Progress(submitted=30, ended=0, total=30)
        outcomes = [await handle.outcome(timeout=10) for handle in handles]
        assert [outcome.job_id for outcome in outcomes] == [job.id for job in jobs]

    async def test_no_jobs_are_no_outcomes(self, client: AsyncClient, answerer: Answerer) -> None:
        assert [outcome async for outcome in client.run_many([])] == []
        assert await client.submit_many([]) == []

    async def test_one_job_twice_in_a_batch_gives_two_outcomes(self, client: AsyncClient, answerer: Answerer) -> None:
        job = sql()
        outcomes = [outcome async for outcome in client.run_many([job, job, sql()], timeout=10)]
        assert sorted(outcome.job_id == job.id for outcome in outcomes) == [False, True, True]

    async def test_a_batch_that_stalls_names_its_oldest_job(self, client: AsyncClient, answerer: Answerer) -> None:
        answerer.answer = lambda job, tenant: None
        jobs = [sql(), sql()]
        with pytest.raises(OutcomeTimeout) as raised:
            async for _ in client.run_many(jobs, timeout=0.3):
                pass
        assert raised.value.job_id == jobs[0].id

    async def test_leaving_a_batch_early_stops_submitting(self, client: AsyncClient, answerer: Answerer) -> None:
        outcomes = client.run_many((sql(f"select {n}") for n in range(100_000)), max_in_flight=10, timeout=20)
        async for _ in outcomes:
            break
        await outcomes.aclose()
        submitted = len(answerer.jobs)
        await asyncio.sleep(0.2)
        assert len(answerer.jobs) <= submitted + 10

    async def test_unclaimed_inline_results_are_bounded(self, client: AsyncClient, answerer: Answerer) -> None:
        client._session.pending._budget.left_bytes = 3 * len(INLINE)
        answerer.answer = lambda job, tenant: succeeded(job, tenant, inline=INLINE)
        handles = await client.submit_many(sql(f"select {number}") for number in range(6))
        await until(lambda: _has(all(handle.ended for handle in handles)))
        kept = [bool((await handle.outcome(timeout=10)).inline) for handle in handles]
        assert kept.count(True) == 3
        again = await client.submit(sql("select 7"))
        assert (await again.outcome(timeout=10)).inline == INLINE, "claiming freed the budget"

    # ---- trouble ----

    async def test_jobs_and_outcomes_survive_a_lost_connection(
        self, client: AsyncClient, answerer: Answerer, broker: Broker
    ) -> None:
        ended = 0
        breaks = 0
        async for outcome in client.run_many(
            (sql(f"select {number}") for number in range(400)), max_in_flight=40, timeout=30
        ):
            assert outcome.succeeded
            ended += 1
            if ended in (50, 200):
                await broker.break_connections()
                breaks += 1
        assert (ended, breaks) == (400, 2)

    async def test_a_reply_lost_with_its_queue_is_asked_for(
        self, client: AsyncClient, answerer: Answerer, broker: Broker
    ) -> None:
        answerer.answer = lambda job, tenant: None
        job = sql()
        handle = await client.submit(job)
        await until(lambda: _has(answerer.deliveries))
        answerer.outcomes[job.id] = succeeded(job, "acme")
        await broker.delete(answerer.deliveries[0].reply_to)
        assert (await handle.outcome(timeout=20)).succeeded

    async def test_a_job_that_no_queue_takes_is_an_error(self, broker: Broker, answerer: Answerer) -> None:
        async with AsyncClient(broker.transport("acme")) as client:
            await broker.delete("sandpool.jobs.sql.interactive")
            with pytest.raises(UsageError, match="no queue"):
                await client.submit(sql(priority="interactive"), timeout=5)

    async def test_a_full_queue_is_an_error_within_the_time_limit(self, broker: Broker) -> None:
        door = broker.door(Limits(jobs=2))
        await door.open()
        async with AsyncClient(broker.transport("acme")) as client:
            with pytest.raises(BrokerUnavailable, match="full"):
                for _ in range(20):
                    await client.submit(sql(), timeout=0.5)
        await door.close()

    async def test_a_full_queue_that_empties_takes_the_whole_batch(self, broker: Broker) -> None:
        door = broker.door(Limits(jobs=5))
        await door.open()
        answerer = Answerer(door)
        async with AsyncClient(broker.transport("acme")) as client:
            # The limit is soft by what is under way at once, so far more than the window is submitted.
            jobs = [sql(f"select {n}") for n in range(300)]
            batch = asyncio.ensure_future(client.submit_many(jobs, window=10, timeout=20))
            await asyncio.sleep(0.3)
            assert not batch.done()
            await answerer.start(prefetch=20)
            handles = await batch
            assert len({(await handle.outcome(timeout=10)).job_id for handle in handles}) == 300
        await answerer.stop()
        await door.close()

    # ---- the synchronous client ----

    async def test_the_synchronous_client_does_the_same(self, broker: Broker, answerer: Answerer) -> None:
        def use() -> None:
            seen: list[Progress] = []
            with Client(broker.transport("acme")) as client:
                assert client.tenant == "acme"
                handle = client.submit(sql())
                assert handle.outcome(timeout=10).succeeded
                assert handle.ended
                assert handle.status(timeout=10).state == "ended"
                assert client.cancel("nothing", timeout=10).state == "unknown"
                handles = client.submit_many([sql(f"select {n}") for n in range(20)])
                assert all(handle.outcome(timeout=10).succeeded for handle in handles)
                jobs = (sql(f"select {n}") for n in range(200))
                outcomes = list(client.run_many(jobs, max_in_flight=30, on_progress=seen.append, timeout=20))
                assert len(outcomes) == 200
                assert seen[-1].ended == 200
                for _ in client.run_many((sql(f"select {n}") for n in range(100_000)), max_in_flight=5):
                    break
            with pytest.raises(UsageError, match="closed"):
                client.submit(sql())
            with pytest.raises(UsageError, match="closed"):
                handle.status()

        await asyncio.to_thread(use)

    async def test_the_synchronous_client_raises_the_same_errors(self, broker: Broker, answerer: Answerer) -> None:
        answerer.answer = lambda job, tenant: None

        def use() -> None:
            with Client(broker.transport("acme")) as client:
                handle = client.submit(sql())
                with pytest.raises(OutcomeTimeout):
                    handle.outcome(timeout=0.1)
                with pytest.raises(InvalidEnvelope):
                    client.submit(sql(params=["x" * 1_100_000]))
                with pytest.raises(OutcomeTimeout):
                    list(client.run_many([sql()], timeout=0.2))

        await asyncio.to_thread(use)


async def _has(what: object) -> bool:
    return bool(what)

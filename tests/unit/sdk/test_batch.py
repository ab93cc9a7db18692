"""A batch goes on when its messages get lost, however full its flight is. `sandpool.batch`."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sandpool import AsyncClient, Client, Ending, Outcome, SqlJob
from sandpool.errors import BrokerUnavailable
from sandpool.job import digest
from sandpool.transport import Listener, Outgoing
from sandpool.wire import decode_job, encode_outcome


class ForgetfulTransport:
    """Loses the first `losses` messages, as a connection that breaks before their confirms; answers the others."""

    tenant = "acme"

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.published = 0

    async def open(self, listener: Listener, timeout_s: float) -> None:
        self.listener = listener

    async def close(self) -> None:
        """Nothing to disconnect."""

    async def publish(self, message: Outgoing, timeout_s: float) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        confirm: asyncio.Future[None] = loop.create_future()
        self.published += 1
        if self.published <= self.losses:
            loop.call_later(0.01, confirm.set_exception, BrokerUnavailable("lost"))
        else:
            loop.call_soon(confirm.set_result, None)
            loop.call_later(0.001, self._answer, message)
        return confirm

    def _answer(self, message: Outgoing) -> None:
        job = decode_job(message.body)
        moment = datetime(2026, 11, 23, tzinfo=UTC)
        outcome = Outcome(
            job_id=job.id, tenant="acme", ending=Ending.Succeeded, digest=digest(job), volume="results", ended_at=moment
        )
        self.listener.on_reply(encode_outcome(outcome), message.correlation_id)


def jobs(count: int) -> list[SqlJob]:
    return [SqlJob(database="d", sql=f"select {number}") for number in range(count)]


@pytest.mark.parametrize("losses", [1, 3, 5, 9])
async def test_a_full_flight_of_lost_messages_is_published_again(losses: int) -> None:
    async with AsyncClient(ForgetfulTransport(losses)) as client:
        outcomes = [outcome async for outcome in client.run_many(jobs(20), max_in_flight=5, timeout=5)]
    assert len(outcomes) == 20


def test_lost_messages_are_published_again_while_the_next_job_is_long_in_coming() -> None:
    got_one = threading.Event()

    def slow() -> Iterator[SqlJob]:
        yield SqlJob(database="d", sql="select 1")
        # The second job comes only when the first has its outcome: a caller that feeds on results.
        assert got_one.wait(10)
        yield SqlJob(database="d", sql="select 2")

    with Client(ForgetfulTransport(losses=1)) as client:
        ended = 0
        for _ in client.run_many(slow(), timeout=5):
            ended += 1
            got_one.set()
    assert ended == 2


def test_what_the_callers_iterable_raises_reaches_the_caller() -> None:
    def broken() -> Iterator[SqlJob]:
        yield SqlJob(database="d", sql="select 1")
        raise LookupError("no more rows")

    with Client(ForgetfulTransport(losses=0)) as client, pytest.raises(LookupError, match="no more rows"):
        list(client.run_many(broken(), timeout=5))


async def test_memory_of_a_run_is_its_window_however_many_jobs_there_are() -> None:
    async def peak_bytes(count: int) -> int:
        """Most that a run of so many jobs held at once."""
        made = (SqlJob(database="d", sql=f"select {number}") for number in range(count))
        async with AsyncClient(ForgetfulTransport(0)) as client:
            tracemalloc.start()
            ended = [outcome.job_id async for outcome in client.run_many(made, max_in_flight=20, timeout=10)]
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert len(ended) == count
        return peak - count * 100  # what this list of ids itself takes

    small, large = await peak_bytes(200), await peak_bytes(1600)
    assert large - small < 100_000, "1,400 jobs more; one of them held is a kilobyte"

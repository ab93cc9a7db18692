"""What a client is given by mistake is a typed error that says what it wants, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from queues.memory.broker import MemoryBroker
from queues.memory.transport import MemoryTransport
from sandpool import AsyncClient, SqlJob
from sandpool.errors import InvalidJob, UsageError


def client() -> AsyncClient:
    broker = MemoryBroker()
    broker.add_tenant("acme")
    return AsyncClient(MemoryTransport(broker, "acme"))


def job() -> SqlJob:
    return SqlJob(database="d", sql="select 1")


@pytest.mark.parametrize("given", ["select 1", None, {"database": "d"}, SqlJob, 5])
async def test_what_is_no_job_is_not_submitted(given: Any) -> None:
    async with client() as opened:
        with pytest.raises(InvalidJob, match="expected SqlJob, PythonJob or CommandJob, got"):
            await opened.submit(given)
        with pytest.raises(InvalidJob, match="expected SqlJob"):
            await opened.submit_many([job(), given])


@pytest.mark.parametrize("given", [None, 5, job()])
async def test_one_job_where_many_are_meant_is_told_where_to_go(given: Any) -> None:
    async with client() as opened:
        with pytest.raises(UsageError, match=r"submit\(job\)"):
            await opened.submit_many(given)
        with pytest.raises(UsageError, match=r"submit\(job\)"):
            async for _ in opened.run_many(given):
                pass


@pytest.mark.parametrize("timeout", ["5", None, float("nan")])
async def test_a_wait_without_a_number_of_seconds_is_refused(timeout: Any) -> None:
    async with client() as opened:
        handle = await opened.submit(job())
        with pytest.raises(UsageError, match="a number of seconds"):
            await handle.outcome(timeout=timeout)


@pytest.mark.parametrize("broker", [None, 5])
def test_a_broker_that_is_neither_url_nor_transport_is_refused(broker: Any) -> None:
    with pytest.raises(UsageError, match="amqp"):
        AsyncClient(broker)

"""The shell that Ray makes an actor of, driven as `cluster.dispatch` drives it, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from cluster.local.postgres import PostgresServer
from cluster.stream import Stream
from sandpool.outcome import Ending
from tests.support.pools import make_role, statement
from workers.actors import PoolActor
from workers.attempt import Attempt, encode_statement
from workers.errors import DatabaseUnavailable
from workers.mailbox import decode_attempt
from workers.sql.policy.catalog import Catalog
from workers.sql.pool import PoolStatus
from workers.sql.spec import PoolSpec
from workers.volumes.spec import VolumeSpec

pytestmark = pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")

DATABASE = "actor"


@pytest.fixture(scope="module")
def dsn(postgres: PostgresServer) -> Iterator[str]:
    postgres.create_database(DATABASE)
    postgres.execute("CREATE TABLE t (a int PRIMARY KEY, b numeric(5,2))", DATABASE)
    yield make_role(postgres, DATABASE, {"public.t": ()})
    postgres.drop_database(DATABASE)


async def test_statements_go_in_and_attempts_come_out(dsn: str, tmp_volume: VolumeSpec) -> None:
    actor = PoolActor(PoolSpec(database="test", dsn=dsn), {"results": tmp_volume})
    try:
        jobs = [statement("SELECT $1::int AS v", number) for number in range(50)]
        await actor.submit([encode_statement(job) for job in jobs])
        got: list[Attempt] = []
        epoch, received = "", 0
        while len(got) < 50:
            epoch, received, letters = await actor.collect(5.0, epoch, received)
            got += [decode_attempt(letter) for letter in letters]
        catalog = msgspec.msgpack.decode(await actor.catalog(), type=Catalog)
        status = msgspec.msgpack.decode(await actor.status(), type=PoolStatus)
        assert await actor.drain(1.0) is True
    finally:
        await actor.close()
    assert {attempt.job_id for attempt in got} == {job.job_id for job in jobs}
    assert {attempt.ending for attempt in got} == {Ending.Succeeded}
    assert catalog.by_name["public", "t"].primary_key == ("a",)
    assert (status.state, status.running) == ("open", 0)


async def test_statements_travel_over_a_stream_as_by_calls(dsn: str, tmp_volume: VolumeSpec) -> None:
    actor = PoolActor(PoolSpec(database="test", dsn=dsn), {"results": tmp_volume})
    try:
        stream = await Stream.open(await actor.listen(), "", 0)
        jobs = [statement("SELECT $1::int AS v", number) for number in range(50)]
        await stream.submit([encode_statement(job) for job in jobs])
        got: list[Attempt] = []
        while len(got) < 50:
            _, _, letters = await stream.collect(5.0, stream.epoch, len(got), 0.0)
            got += [decode_attempt(letter) for letter in letters]
        stream.close()
    finally:
        await actor.close()
    assert {attempt.job_id for attempt in got} == {job.job_id for job in jobs}
    assert {attempt.ending for attempt in got} == {Ending.Succeeded}


async def test_a_running_statement_is_cancelled_through_the_shell(dsn: str, tmp_volume: VolumeSpec) -> None:
    actor = PoolActor(PoolSpec(database="test", dsn=dsn), {"results": tmp_volume})
    try:
        job = statement("SELECT count(*) FROM generate_series(1, 1000000000000)")
        await actor.submit([encode_statement(job)])
        await asyncio.sleep(0.2)
        assert await actor.cancel(job.job_id) is True
        _, _, letters = await actor.collect(5.0)
        assert decode_attempt(letters[0]).ending is Ending.Cancelled
    finally:
        await actor.close()


async def test_a_database_that_is_away_shows_at_every_call_until_it_is_there(tmp_volume: VolumeSpec) -> None:
    actor = PoolActor(PoolSpec(database="test", dsn="postgresql://u@127.0.0.1:1/x"), {"results": tmp_volume})
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await actor.catalog()
    await actor.close()

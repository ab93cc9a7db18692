"""Whatever a tenant sends through the real broker ends in a typed outcome or, where it is no job, in the dead letters
with its reason; and the jobs beside it are not held up."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest

from cluster.demo.house import House
from queues.topology import DEAD
from sandpool import Client, Ending, SqlJob, wire
from sandpool.job import MAX_SQL_BYTES

WAIT_S = 20.0
pytestmark = pytest.mark.timeout(400)  # the cluster starts with the first test
BODIES = {
    "envelope.malformed": b"\x00 no JSON",
    "envelope.oversized": b'{"v":1,"kind":"sql","job":{"database":"flights","sql":"' + b"x" * 2**20 + b'"}}',
    "envelope.version": b'{"v":2,"kind":"sql","job":{"database":"flights","sql":"select 1"}}',
    "envelope.kind": b'{"v":1,"kind":"quantum","job":{}}',
    "envelope.field": b'{"v":1,"kind":"sql","job":{"database":"flights","sql":"select \xff"}}',
    "envelope.message_id": b'{"v":1,"kind":"sql","job":{"database":"flights","sql":"select 1","id":"other"}}',
}


async def publish(url: str, body: bytes, message_id: str, user: str | None) -> None:
    async with await aio_pika.connect(url) as connection:
        exchange = await (await connection.channel()).get_exchange(wire.JOBS_EXCHANGE, ensure=False)
        message = aio_pika.Message(body, message_id=message_id, user_id=user, delivery_mode=2)
        await exchange.publish(message, "sql.batch")


async def dead_letter(url: str, message_id: str) -> dict[str, object]:
    """The headers of this dead letter, which is taken out; the others stay."""
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue(DEAD, ensure=False)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            letter = await queue.get(fail=False)
            if letter is None:
                await asyncio.sleep(0.05)
            elif letter.message_id == message_id:
                await letter.ack()
                return dict(letter.headers)
            else:
                await letter.nack(requeue=True)
                await asyncio.sleep(0.01)
    raise AssertionError(f"no dead letter {message_id}")


@pytest.mark.parametrize("reason", BODIES)
def test_a_message_that_is_no_job_is_kept_as_a_dead_letter_with_its_reason(house: House, reason: str) -> None:
    name = f"m-{secrets.token_hex(4)}"
    asyncio.run(publish(house.stage.urls["acme"], BODIES[reason], name, "acme"))
    headers = asyncio.run(dead_letter(house.stage.urls["sandpool"], name))
    assert str(headers["sandpool-reason"]).startswith(reason) and headers["sandpool-tenant"] == "acme"


def test_a_message_whose_publisher_the_broker_did_not_verify_is_nobodys(house: House) -> None:
    body = wire.encode_job(SqlJob(database="flights", sql="select 1", id="anonymous"))
    asyncio.run(publish(house.stage.urls["acme"], body, "anonymous", None))
    headers = asyncio.run(dead_letter(house.stage.urls["sandpool"], "anonymous"))
    assert headers["sandpool-reason"] == "publisher.unverified"


STATEMENTS = {
    "empty": "",
    "blank": " ;\n",
    "no SQL": "quantum \x01 leap",
    "as large as a job may be": "select '" + "x" * (MAX_SQL_BYTES - 9) + "'",
    "1,000 deep": "select " + "(" * 1000 + "1" + ")" * 1000,
    "1,000 subqueries": "select * from (" * 1000 + "select 1" + ") a" * 1000,
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_that_no_policy_can_read_is_denied_with_a_rule(acme: Client, name: str) -> None:
    outcome = acme.submit(SqlJob(database="flights", sql=STATEMENTS[name])).outcome(timeout=60)
    if outcome.ending is not Ending.Succeeded:  # the deep one may well be harmless
        assert outcome.ending is Ending.Denied and outcome.error is not None and outcome.error.code
        assert outcome.verdict is not None and not outcome.verdict.allowed and outcome.verdict.reason


@pytest.mark.parametrize(
    ("fields", "ending", "code"),
    [
        ({"database": "nowhere"}, Ending.Denied, "database.unknown"),
        ({"database": "airline"}, Ending.Denied, "database.unknown"),
        ({"volume": "nowhere"}, Ending.Denied, "volume.unknown"),
        ({"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, Ending.TimedOut, "job.expired"),
        ({"sql": "select $1::int as n", "params": (10**30,)}, Ending.Failed, "statement.parameter"),
        ({"sql": "select 1 / (select 0) as n"}, Ending.Failed, "statement.failed"),
    ],
)
def test_a_job_that_cannot_succeed_ends_with_a_typed_error(
    acme: Client, fields: dict[str, object], ending: Ending, code: str
) -> None:
    chosen = {"database": "flights", "sql": "select 1 as n", **fields}
    outcome = acme.submit(SqlJob(**chosen)).outcome(timeout=60)  # type: ignore[arg-type]
    assert outcome.ending is ending and outcome.error is not None and outcome.error.code == code


def test_a_number_beyond_64_bits_is_a_parameter_like_any_other(acme: Client) -> None:
    started = time.monotonic()
    jobs = [SqlJob(database="flights", sql="select $1::numeric as n", params=(10**30 + n,)) for n in range(5)]
    found = {int(outcome.table()["n"][0].as_py()) for outcome in acme.run_many(jobs)}
    assert found == {10**30 + n for n in range(5)} and time.monotonic() - started < 30


@pytest.mark.parametrize("limit", [{"max_rows": 7}, {"max_rows": 50_000}, {"max_bytes": 200_000}])
def test_a_result_over_its_limit_ends_capped_with_what_fits(acme: Client, limit: dict[str, int]) -> None:
    job = SqlJob(database="flights", sql="select year, month, day, dep_time, carrier from flights", **limit)  # type: ignore[arg-type]
    outcome = acme.submit(job).outcome(timeout=60)
    assert outcome.ending is Ending.OutputCapped and outcome.manifest.partial
    rows = outcome.table(allow_partial=True).num_rows
    assert rows == outcome.manifest.rows == limit.get("max_rows", rows) and 0 < rows < 336_776


def test_a_deadline_that_passes_while_the_database_is_busy_ends_the_job(acme: Client) -> None:
    slow = "select count(*) as n from weather a, flights b where a.hour <> b.distance + 1"
    soon = datetime.now(UTC) + timedelta(seconds=2)
    outcome = acme.submit(SqlJob(database="flights", sql=slow, deadline=soon)).outcome(timeout=30)
    assert outcome.ending is Ending.TimedOut and outcome.ended_at < soon + timedelta(seconds=10)

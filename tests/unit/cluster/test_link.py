"""The scheduler's end of a pool actor: nothing that one statement, one reply or one node does may hold up the others.

The actor is a fake with Ray's calling convention around a real mailbox; real actors run in tests/e2e.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from cluster.dispatch import RayBench
from cluster.errors import WorkerLost
from cluster.link import WorkerLink
from cluster.membership import Member
from cluster.placement import Need, Placed, Wait, place
from sandpool.outcome import Ending
from workers.attempt import Attempt, Statement, decode_statement, encode_statement
from workers.errors import DatabaseRefusesRole
from workers.mailbox import Mailbox


def statement(name: str, params: tuple[Any, ...] = (), timeout_s: float = 2.0) -> Statement:
    return Statement(
        tenant="acme",
        job_id=name,
        attempt_id=f"1-{name}",
        digest="d",
        sql="select 1",
        params=params,
        timeout_s=timeout_s,
        max_rows=1,
        max_bytes=1,
        volume="results",
    )


Link = WorkerLink[Statement]


class Method:
    """`actor.method.remote(...)`."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self.remote = function


class FakeActor:
    """A pool actor that can be made to fail at each of its calls."""

    def __init__(self) -> None:
        self.got: list[Statement] = []
        self.cancelled: list[str] = []
        self.box = Mailbox(decode_statement, self._run)
        self.trouble: list[BaseException] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.taking = asyncio.Event()
        self.taking.set()
        self.submit, self.collect, self.cancel = Method(self._submit), Method(self._collect), Method(self._cancel)

    async def _run(self, statement: Statement) -> Attempt:
        self.got.append(statement)
        await self.gate.wait()
        return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Succeeded)

    async def _submit(self, statements: list[bytes]) -> None:
        await self.taking.wait()
        self.box.submit(statements)

    async def _collect(self, timeout_s: float, epoch: str, received: int, linger_s: float) -> Any:
        if self.trouble:
            raise self.trouble.pop()
        return await self.box.collect(min(timeout_s, 0.05), epoch, received, linger_s)

    async def _cancel(self, job_id: str, tenant: str) -> bool:
        self.cancelled.append(job_id)
        return True


@pytest.fixture
async def actor() -> FakeActor:
    return FakeActor()


@pytest.fixture
async def link(actor: FakeActor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    monkeypatch.setattr("cluster.link.BACKOFF_S", 0.01)
    made = WorkerLink(actor, encode_statement, slots=8, grace_s=1.0)
    yield made
    made._collector.cancel()


async def test_a_parameter_beyond_64_bits_travels_and_holds_up_nobody(link: Link, actor: FakeActor) -> None:
    params = (10**30, -(2**63) - 1, {"a": [2**70]}, 1.5, "x", None, True)
    attempts = await asyncio.gather(*(link.run(statement(f"j{n}", params if n == 1 else ())) for n in range(3)))
    assert [attempt.ending for attempt in attempts] == [Ending.Succeeded] * 3
    assert next(got for got in actor.got if got.job_id == "j1").params == params


async def test_an_unexpected_error_while_collecting_loses_its_statements_but_not_the_collector(
    link: Link, actor: FakeActor
) -> None:
    actor.gate.clear()
    running = asyncio.create_task(link.run(statement("first")))
    await asyncio.sleep(0.02)
    actor.trouble = [KeyError("a bug")]
    with pytest.raises(WorkerLost):
        await asyncio.wait_for(running, 1.0)
    actor.gate.set()
    assert (await link.run(statement("second"))).ending is Ending.Succeeded


async def test_an_unexpected_error_while_sending_loses_that_batch_at_once(link: Link, actor: FakeActor) -> None:
    async def broken(_: list[bytes]) -> None:
        raise KeyError("a bug")

    actor.submit = Method(broken)
    with pytest.raises(WorkerLost, match="gone"):
        await asyncio.wait_for(link.run(statement("first", timeout_s=60.0)), 1.0)
    actor.submit = Method(actor._submit)
    assert (await link.run(statement("second"))).ending is Ending.Succeeded


async def test_a_statement_that_did_not_leave_yet_is_cancelled_and_never_runs(link: Link, actor: FakeActor) -> None:
    actor.taking.clear()
    first = asyncio.create_task(link.run(statement("first")))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(link.run(statement("second")))
    await asyncio.sleep(0.01)
    await link.cancel("acme", "second")
    assert (await second).ending is Ending.Cancelled
    actor.taking.set()
    assert (await first).ending is Ending.Succeeded
    await asyncio.sleep(0.02)
    assert [got.job_id for got in actor.got] == ["first"] and actor.cancelled == []


async def test_a_statement_that_nobody_waits_for_any_more_is_not_sent(link: Link, actor: FakeActor) -> None:
    actor.taking.clear()
    first = asyncio.create_task(link.run(statement("first")))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(link.run(statement("second")))
    await asyncio.sleep(0.01)
    second.cancel()
    actor.taking.set()
    await first
    await asyncio.sleep(0.02)
    assert [got.job_id for got in actor.got] == ["first"]


async def test_a_node_that_vanished_draws_no_jobs_while_another_answers(
    link: Link, actor: FakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = RayBench({}, {}, grace_s=1.0)
    other = WorkerLink(FakeActor(), encode_statement, slots=8, grace_s=1.0)
    bench._pools.links = {"a": {"flights": link}, "b": {"flights": other}}
    bench._members = {name: Member(name, name, "here") for name in ("a", "b")}
    link.on_answers, other.on_answers = (partial(bench._worker_changed, name) for name in ("a", "b"))
    bench._views.all_changed(bench._members)
    other.busy = 3
    try:
        assert place(Need("flights"), bench.nodes()) == Placed("a")
        actor.trouble = [RaySystemError("the node is gone") for _ in range(1000)]
        await asyncio.sleep(0.1)
        assert place(Need("flights"), bench.nodes()) == Placed("b")
        other.answers = False
        assert place(Need("flights"), bench.nodes()) == Wait("no pool of 'flights' answers")
        actor.trouble = []
        await asyncio.sleep(0.1)
        assert place(Need("flights"), bench.nodes()) == Placed("a")
    finally:
        other._collector.cancel()


async def test_a_pool_that_says_why_it_does_not_open_still_counts_as_answering(link: Link, actor: FakeActor) -> None:
    refused = RaySystemError("carries")
    refused.cause = DatabaseRefusesRole("the role may do too much: INSERT on t")  # type: ignore[attr-defined]
    actor.trouble = [refused] * 1000
    await asyncio.sleep(0.05)
    assert link.answers

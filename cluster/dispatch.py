"""The bench on Ray: one long-lived pool actor per (node, database). The only way from the scheduler to a worker.

A Ray call costs about a millisecond and a sandbox job less, so statements bound for one pool travel together: those of
one event-loop tick, and all that gather while a call is under way. Results come back the same way, by one long poll per
pool (`workers.mailbox`). An actor that dies takes its statements with it: each becomes WorkerLost, which is retried.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import ray
import structlog
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import WorkerLost
from cluster.placement import PIPELINE, Node, PoolView
from sandpool.outcome import Ending, ErrorInfo
from workers.actors import PoolActor
from workers.attempt import Attempt, Statement, not_started
from workers.errors import WorkerError
from workers.mailbox import decode_attempt, encode_statement
from workers.sql.policy.catalog import Catalog
from workers.sql.spec import PoolSpec
from workers.volumes.spec import VolumeSpec

log = structlog.get_logger("sandpool.dispatch")

NAMESPACE = "sandpool"
POOL_PREFIX = "pool:"
COLLECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 15.0
BACKOFF_S = 0.5
LINGER_S = 0.004
"""When more than half of a pool's slots are busy, results wait this long for each other: a call costs more than a
result, and the next statement is there already (`PIPELINE`)."""


class PoolLink:
    """The scheduler's end of one pool actor's mailbox."""

    def __init__(self, actor: Any, slots: int, grace_s: float) -> None:
        self.slots = slots
        self.busy = 0
        self._actor = actor
        self._grace_s = grace_s
        self.answers = True
        """Whether the last call to the pool came back, be it with an error of the pool's own."""
        self._outbox: list[Statement] = []
        self._waiting: dict[str, asyncio.Future[Attempt]] = {}
        self._sender: asyncio.Task[None] | None = None
        self._collector = asyncio.create_task(self._collect())
        self._epoch, self._received = "", 0

    async def open(self) -> None:
        """Wait until the pool is connected, so that no first job pays for it; not for long, and not for a database that
        is away: the pool then opens with the first statement after it is back."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._actor.start.remote()
        except (RayError, TimeoutError) as error:
            log.warning("pool not open", error=str(_own_error(error) or type(error).__name__))

    async def run(self, statement: Statement) -> Attempt:
        """One attempt on this pool. Raises WorkerLost."""
        self.busy += 1
        future: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._waiting[statement.attempt_id] = future
        self._outbox.append(statement)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        try:
            async with asyncio.timeout(statement.timeout_s + self._grace_s):
                return await future
        except TimeoutError:
            raise WorkerLost(f"no answer {self._grace_s:g} s after the statement's time limit") from None
        finally:
            self._waiting.pop(statement.attempt_id, None)
            self.busy -= 1

    async def _send(self) -> None:
        """One call at a time; what comes meanwhile travels in the next one."""
        try:
            while self._outbox:
                batch, self._outbox = self._outbox, []
                # Who gave up meanwhile must not find its statement running for nobody.
                batch = [statement for statement in batch if self._is_wanted(statement.attempt_id)]
                try:
                    async with asyncio.timeout(CALL_TIMEOUT_S):
                        await self._actor.submit.remote([encode_statement(statement) for statement in batch])
                except Exception as error:  # noqa: BLE001 - whatever it is, only this batch may be lost by it
                    self._fail(batch, error)
        finally:
            self._sender = None

    async def _collect(self) -> None:
        """Every result of this pool comes through here, so nothing but `close` may end it."""
        while True:
            try:
                await self._collect_once()
                self.answers = True
            except Exception as error:
                # A pool that does not open (its own error) has taken nothing; `_send` hears the same.
                self.answers = _own_error(error) is not None
                if not self.answers:
                    if not isinstance(error, RayError | TimeoutError):
                        log.exception("unexpected error while collecting results")
                    self._lose(list(self._waiting), error)
                await asyncio.sleep(BACKOFF_S)

    async def _collect_once(self) -> None:
        async with asyncio.timeout(COLLECT_TIMEOUT_S + CALL_TIMEOUT_S):
            linger_s = LINGER_S if 2 * self.busy > self.slots else 0.0
            epoch, number, letters = await self._actor.collect.remote(
                COLLECT_TIMEOUT_S, self._epoch, self._received, linger_s
            )
        if self._epoch and epoch != self._epoch:
            # The actor was restarted between two calls: what it had taken before is gone.
            self._lose(list(self._waiting), RuntimeError("the pool was restarted"))
        self._epoch, self._received = epoch, number
        for letter in letters:
            attempt = decode_attempt(letter)
            future = self._waiting.get(attempt.attempt_id)
            if future is not None and not future.done():
                future.set_result(attempt)

    def _is_wanted(self, attempt_id: str) -> bool:
        future = self._waiting.get(attempt_id)
        return future is not None and not future.done()

    def _fail(self, batch: Sequence[Statement], error: BaseException) -> None:
        """The pool did not take these: with its own reason when it gave one, else it is lost."""
        reason = _own_error(error)
        if reason is None:
            self._lose([statement.attempt_id for statement in batch], error)
            return
        for statement in batch:
            future = self._waiting.get(statement.attempt_id)
            if future is not None and not future.done():
                future.set_result(not_started(statement, reason))

    def _lose(self, attempt_ids: Sequence[str], error: BaseException) -> None:
        if attempt_ids:
            log.warning("statements lost with their pool", count=len(attempt_ids), error=type(error).__name__)
        for attempt_id in attempt_ids:
            future = self._waiting.get(attempt_id)
            if future is not None and not future.done():
                future.set_exception(WorkerLost(f"the pool that ran it is gone ({type(error).__name__})"))

    async def cancel(self, tenant: str, job_id: str) -> None:
        """Stop a statement: here if it did not leave yet, else at its pool; a pool that is gone has nothing to stop."""
        for statement in self._outbox:
            if (statement.tenant, statement.job_id) == (tenant, job_id) and self._is_wanted(statement.attempt_id):
                self._waiting[statement.attempt_id].set_result(_cancelled(statement))
                return
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._actor.cancel.remote(job_id, tenant)

    async def catalog(self) -> Catalog:
        """Raises WorkerError as the pool raised it, WorkerLost when it does not answer."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return msgspec.msgpack.decode(await self._actor.catalog.remote(), type=Catalog)
        except (RayError, TimeoutError) as error:
            if reason := _own_error(error):
                raise reason from error
            raise WorkerLost(f"the pool does not tell its catalog ({type(error).__name__})") from error

    async def close(self, drain_timeout_s: float) -> None:
        """Drain the pool and end its actor."""
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(drain_timeout_s + CALL_TIMEOUT_S):
                await self._actor.drain.remote(drain_timeout_s)
        self._collector.cancel()
        if self._sender is not None:
            self._sender.cancel()
        self._outbox.clear()
        self._lose(list(self._waiting), RuntimeError("closing"))
        ray.kill(self._actor)


class RayBench:
    """Pools on every node of the Ray cluster; each gets an equal share of its database's connection budget."""

    def __init__(self, specs: Mapping[str, PoolSpec], volumes: Mapping[str, VolumeSpec], *, grace_s: float) -> None:
        self._specs = specs
        self._volumes = dict(volumes)
        self._grace_s = grace_s
        self._links: dict[str, dict[str, PoolLink]] = {}

    async def start(self) -> None:
        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        for node in alive:
            name = node["NodeManagerHostname"] if len(alive) == 1 else node["NodeID"][:8]
            self._links[name] = {
                database: self._open(name, node["NodeID"], _share(spec, len(alive)))
                for database, spec in self._specs.items()
            }
        await asyncio.gather(*(link.open() for links in self._links.values() for link in links.values()))

    def _open(self, node: str, node_id: str, spec: PoolSpec) -> PoolLink:
        # Detached and named: a pool outlives a scheduler that is restarted, and is found again by its name.
        actor: Any = (
            ray.remote(PoolActor)
            .options(
                name=f"{POOL_PREFIX}{spec.database}@{node}",
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                max_concurrency=1000,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote(spec, self._volumes)
        )
        return PoolLink(actor, spec.budget * PIPELINE, spec.acquire_timeout_s + self._grace_s)

    def nodes(self) -> Sequence[Node]:
        # A node that went away has no busy slots, so it would draw every job to itself: while any other node answers
        # for a database, those that do not are left out. Where none answers, its jobs find out by themselves.
        answering = {database for links in self._links.values() for database, link in links.items() if link.answers}
        return [
            Node(
                name,
                {
                    database: PoolView(link.slots, link.busy)
                    for database, link in links.items()
                    if link.answers or database not in answering
                },
            )
            for name, links in self._links.items()
        ]

    async def run(self, node: str, database: str, statement: Statement) -> Attempt:
        return await self._links[node][database].run(statement)

    async def cancel(self, node: str, database: str, tenant: str, job_id: str) -> None:
        await self._links[node][database].cancel(tenant, job_id)

    async def catalog(self, database: str) -> Catalog:
        links = [links[database] for links in self._links.values() if database in links]
        for link in sorted(links, key=lambda link: not link.answers):
            return await link.catalog()
        raise WorkerLost(f"no node has a pool for database {database!r}")

    async def close(self, drain_timeout_s: float) -> None:
        links = [link for pools in self._links.values() for link in pools.values()]
        await asyncio.gather(*(link.close(drain_timeout_s) for link in links))


def _cancelled(statement: Statement) -> Attempt:
    error = ErrorInfo("job.cancelled", "cancelled before it ran")
    return Attempt(job_id=statement.job_id, attempt_id=statement.attempt_id, ending=Ending.Cancelled, error=error)


def _own_error(error: BaseException) -> WorkerError | None:
    """What the actor itself raised, where Ray only carries it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, WorkerError) else None


def _share(spec: PoolSpec, nodes: int) -> PoolSpec:
    """One node's part of a database's connection budget, which holds across all nodes."""
    return msgspec.structs.replace(spec, budget=max(1, spec.budget // nodes))

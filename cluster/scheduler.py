"""The scheduler: take -> admit -> place -> run -> record -> settle, for one job after another, many at once.

Read `_conduct` first: it is the life of a job. Everything it decides is decided by pure functions elsewhere (run,
admission, placement, retry, outcomes); everything it does goes through three doors: `queues.door` (the broker),
`cluster.bench` (the workers), `workers.volumes` (the record). Runs in a detached Ray actor (cluster/conductor.py) or
embedded in one process (cluster/embedded.py).

What holds at every await: the message is unacked, or the ending is recorded. Never neither.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from cluster import explaining, outcomes, retry
from cluster.admission import Admitted, Refused, admit, denied
from cluster.bench import Bench
from cluster.catalogs import Catalogs
from cluster.errors import WorkerLost
from cluster.explaining import Returned
from cluster.extracting import Extracting
from cluster.fairness import Rooms
from cluster.groups import Groups
from cluster.observing import Observer
from cluster.placement import Need, Never, Placed, SandboxNeed
from cluster.run import Rules, Run, Unacceptable, open_delivery
from cluster.slots import Slots
from cluster.stages import Stage, stages_of
from cluster.tasks import on_gpus, traced
from cluster.tracing import Span
from queues.door import Delivery, Door
from queues.errors import QueueError
from sandpool import wire
from sandpool.job import SqlJob
from sandpool.outcome import Ending, Outcome
from sandpool.wire import Explanation
from workers.attempt import Attempt, Statement
from workers.errors import VolumeError, WorkerError
from workers.sandbox.tail import Heard
from workers.sandbox.task import SandboxTask
from workers.volumes.record import acreate_record, aread_record
from workers.volumes.store import Volume

log = structlog.get_logger("sandpool.scheduler")

LONGEST_WAIT_FOR_A_SLOT_S = 600.0
"""Well under RabbitMQ's default of 30 minutes for an unacked delivery; after it the job goes back to the broker."""
REPEAT_DELAY_S = 10.0
"""Before a job comes back that found no slot, or no volume to record its ending in."""

NEVER_NOW = "placement.never"
MOST_NEVER = 20
"""Times that a job comes back in vain to a cluster that grows: ten minutes, in which a machine starts."""


class Scheduler:
    """Conducts jobs. `take` is the door's callback; `drain` ends it."""

    def __init__(
        self,
        rules: Rules,
        door: Door,
        bench: Bench,
        catalogs: Catalogs,
        volumes: Mapping[str, Volume],
        observer: Observer | None = None,
    ) -> None:
        self.rules = rules
        self.observer = observer or Observer()
        self._door = door
        self._bench = bench
        self._catalogs = catalogs
        self._extracting = Extracting(catalogs, bench, volumes)
        self._groups = Groups(door, volumes)
        self._volumes = volumes
        self._slots = Slots(bench.nodes, {name: tenant.share for name, tenant in rules.tenants.items()})
        self._rooms: dict[str, Rooms] = {}
        self._running: dict[tuple[str, str], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.returned = Returned()

    def share_out(self, queue: str, prefetch: int) -> None:
        """Let no tenant fill this queue's prefetch: what is too much waits in the tenant's own queue, of which somebody
        must take too."""
        self._rooms[queue] = Rooms(prefetch)

    def take(self, delivery: Delivery) -> None:
        """A message arrived: conduct it in a task of its own, owned here."""
        task = asyncio.create_task(self._guard(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cluster_changed(self) -> None:
        """A node has what it had not before: whoever waits looks again."""
        self._slots.cluster_changed()

    async def drain(self, timeout_s: float) -> int:
        """Wait for what runs, then cancel the rest, which the broker hands out again. Returns how many those were."""
        _, late = await asyncio.wait(self._tasks, timeout=timeout_s) if self._tasks else (set(), set())
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=5.0)
        await self._groups.drain(1.0)
        return len(late)

    # ---- the life of a job ----

    async def _conduct(self, delivery: Delivery) -> None:
        try:
            run = open_delivery(delivery, self.rules)
        except Unacceptable as error:
            log.warning("dead letter", job=delivery.message_id, tenant=delivery.tenant, reason=error.reason)
            if answer := outcomes.unacceptable(delivery, error.reason, _now()):
                await self._door.reply(delivery, wire.encode_outcome(answer))
            return await self._dead_letter(delivery, error.reason)
        rooms = self._rooms.get(delivery.queue)
        if rooms is None or delivery.parked:
            return await self._live(run)
        if not rooms.enter(run.tenant):
            self.observer.parked(run.tenant)
            return await self._door.park(delivery)
        try:
            await self._live(run)
        finally:
            rooms.leave(run.tenant)

    async def _live(self, run: Run) -> None:
        """From its record, or its ending, to its settlement."""
        key = (run.tenant, run.job.id)
        if twin := self._running.get(key):
            return await self._follow(twin, run)
        self._running[key] = run
        self.returned.drop(*key)
        run.task = asyncio.current_task()
        self.observer.taken(run)
        try:
            with self.observer.stage(run, "find"):
                outcome = await self._find_record(run)
            outcome = outcome or await self._end(run)
            if outcome is not None:
                with self.observer.stage(run, "settle"):
                    await self._settle(run, outcome)
        except VolumeError as error:
            if error.retry:
                # It has ended, but its group was not told: the message comes again and finds the record.
                run.reason = error.message
                await self._again(run, retry.Again(REPEAT_DELAY_S, f"placement.{error.code}"))
            else:
                await self._cannot_end(run, error)
        finally:
            del self._running[key]
            self.observer.left(run)
            if not run.ended.done():
                run.ended.set_result(None)

    async def _end(self, run: Run) -> Outcome | None:
        """This job's outcome, recorded; or None after it went back to the broker."""
        conclusion = await self._decide(run)
        if isinstance(conclusion, Outcome):
            try:
                with self.observer.stage(run, "record"):
                    recorded = await acreate_record(self._volumes[run.home.name], conclusion)
                if recorded is conclusion:
                    self.observer.ended(run, recorded)
                return recorded
            except VolumeError as error:
                if not error.retry:
                    raise
                # No record, no ending: the broker keeps the job until the volume takes records again.
                conclusion = retry.Again(REPEAT_DELAY_S, f"placement.{error.code}")
                run.reason = error.message
        await self._again(run, conclusion)
        return None

    async def _again(self, run: Run, again: retry.Again) -> None:
        """Back to the broker, for another time."""
        self.observer.retried(run, again.code)
        log.info("retry", job=run.job.id, tenant=run.tenant, attempt=run.number, code=again.code)
        self.returned.add(run, again.code, again.delay_s)
        await self._door.retry(run.delivery, again.delay_s, again.code)

    async def _decide(self, run: Run) -> Outcome | retry.Again:
        """Admit, place, run: what the job's ending would be, or that it comes back for another attempt."""
        if run.delivery.deliveries > self.rules.max_deliveries:
            message = f"lost its scheduler or worker {run.delivery.deliveries - 1} times"
            return self._conclude(run, outcomes.lost(run, outcomes.POISON, message))
        admitted = self._admit(run)
        if isinstance(admitted, Refused):
            return self._conclude(run, outcomes.refused(run, admitted))
        attempt = await self._judge_and_run(run, admitted)
        if isinstance(attempt, retry.Again):
            return attempt
        run.reason = attempt.error.message if attempt.error else ""
        decision = retry.decide(attempt, run.number, admitted.max_attempts, run.job.deadline, _now(), random.random())
        return self._conclude(run, attempt) if isinstance(decision, retry.Final) else decision

    def _admit(self, run: Run) -> Admitted | Refused:
        rules = self.rules
        return admit(
            run.job,
            rules.tenants[run.tenant],
            rules.databases,
            _now(),
            name=run.tenant,
            sandboxes=rules.sandboxes,
            shared=rules.shared,
            sealed=rules.sealed,
        )

    async def _judge_and_run(self, run: Run, admitted: Admitted) -> Attempt | retry.Again:
        """The policy's word on a statement, then stage after stage; the first that does not succeed is the end."""
        try:
            if isinstance(run.job, SqlJob):
                with self.observer.stage(run, "admit"):
                    run.verdict = await self._catalogs.judge(run.job, run.tenant)
                if not run.verdict.allowed:
                    return outcomes.refused(run, denied(run.verdict))
            attempt: Attempt | None = None
            for stage in stages_of(run, admitted, self.rules):
                answer = await self._run_stage(run, stage, attempt)
                if not isinstance(answer, Attempt) or answer.ending is not Ending.Succeeded:
                    return answer
                attempt = answer
            assert attempt is not None, "every job has a stage"
            return attempt
        except WorkerLost as error:
            return outcomes.lost(run, "worker.lost", str(error))
        except WorkerError as error:
            return outcomes.failed(run, error)

    async def _run_stage(self, run: Run, stage: Stage, before: Attempt | None) -> Attempt | retry.Again:
        with self.observer.stage(run, "place"):
            placed = outcomes.stopped(run) if run.cancel_asked else await self._place(run, stage.need)
        if not isinstance(placed, Placed):
            return placed
        try:
            # Time went by in line: what is left of the deadline is less, or nothing.
            limits = self._admit(run)
            if isinstance(limits, Refused):
                return outcomes.refused(run, limits)
            with self.observer.stage(run, "run") as span:
                attempt = await self._work(run, stage, placed, stage.work(limits, before), span)
                self.observer.attempted(run, attempt, span)
            return attempt
        finally:
            run.placed = None
            self._slots.freed(stage.need, run.tenant)

    async def _work(self, run: Run, stage: Stage, placed: Placed, work: Statement | SandboxTask, span: Span) -> Attempt:
        run.span.note("sandpool.node", placed.node)
        if not isinstance(work, Statement):
            task = traced(on_gpus(work, placed.gpus, stage.need), span.traceparent or run.span.traceparent)
            return await self._bench.run_task(placed.node, task)
        if run.sql.extraction is not None:
            return await self._extracting.run(run, placed.node, work)
        return await self._bench.run(placed.node, stage.need.database, work)

    async def _place(self, run: Run, need: Need) -> Placed | Attempt | retry.Again:
        """The node with the slot that is this run's now; or how it ended, or goes back, without one."""
        interactive = run.job.priority == "interactive"
        deadline = run.job.deadline
        longest_s = (deadline - _now()).total_seconds() if deadline else LONGEST_WAIT_FOR_A_SLOT_S
        timeout_s = max(0.0, min(longest_s, LONGEST_WAIT_FOR_A_SLOT_S))
        run.waiting, run.need, run.since_s = True, need, time.monotonic()
        try:
            answer = await self._slots.take(need, tenant=run.tenant, interactive=interactive, timeout_s=timeout_s)
        except asyncio.CancelledError:
            if run.task is None or not run.cancel_asked:
                raise
            run.task.uncancel()  # the job was cancelled, not the scheduler
            return outcomes.stopped(run)
        finally:
            run.waiting = False
        if isinstance(answer, Placed):
            run.placed, run.since_s = answer, time.monotonic()
            return answer
        run.reason = answer.reason
        if isinstance(answer, Never) and need.sandbox is not None and not self._may_yet_run(run):
            return outcomes.never(run, answer.reason)
        expired = self._admit(run)
        if isinstance(expired, Refused):
            return outcomes.refused(run, expired)
        return retry.Again(REPEAT_DELAY_S, NEVER_NOW if isinstance(answer, Never) else "placement.wait")

    def _may_yet_run(self, run: Run) -> bool:
        """Whether a node may come that can run what none of today's can."""
        return self.rules.grows and run.delivery.history.count(NEVER_NOW) < MOST_NEVER

    async def _find_record(self, run: Run) -> Outcome | None:
        """The ending that is recorded already: this id ran before, or was cancelled while it was queued."""
        try:
            return await aread_record(self._volumes[run.home.name], run.tenant, run.job.id)
        except VolumeError as error:
            if not error.retry:
                raise
            log.warning("record not readable", job=run.job.id, tenant=run.tenant, code=error.code)
            return None  # whatever is there, the create-only put of this run's record will find it

    def _conclude(self, run: Run, attempt: Attempt) -> Outcome:
        return outcomes.conclude(run, attempt, _now())

    async def _settle(self, run: Run, outcome: Outcome) -> None:
        """Tell whoever waits, then let the broker forget the message."""
        if outcome.digest and outcome.digest != run.digest:
            answer = outcomes.conflict(run, outcome)
            await self._door.reply(run.delivery, wire.encode_outcome(answer))
        else:
            if not run.ended.done():
                run.ended.set_result(outcome)
            await self.announce(run.delivery, outcome)
            await self._groups.ended(run, outcome)
        if outcome.error is not None and outcome.error.code == outcomes.POISON:
            await self._dead_letter(run.delivery, outcomes.POISON)
        else:
            await self._door.ack(run.delivery)

    async def announce(self, delivery: Delivery, outcome: Outcome) -> None:
        """Publish an outcome as an event, and to the caller who waits for this delivery's answer."""
        key = f"job.{outcome.tenant}.{outcome.ending}"
        await self._door.publish_outcome(delivery, key, wire.encode_outcome(outcome))

    async def _follow(self, twin: Run, run: Run) -> None:
        """The same job id is under way here: this message shares its ending."""
        outcome = await asyncio.shield(twin.ended)
        if outcome is None:
            await self._door.retry(run.delivery, retry.FIRST_DELAY_S, "placement.duplicate")
        else:
            await self._settle(run, outcome)

    def explain(self, tenant: str, job_id: str) -> Explanation | None:
        """Why this job waits or where it runs, as far as it is known here; None: it is not."""
        run = self._running.get((tenant, job_id))
        return explaining.of_run(run, self._slots) if run else self.returned.explain(tenant, job_id)

    def wanted(self) -> list[SandboxNeed]:
        """The sandboxes that want room now, or have it; of what went back to the broker, too."""
        needs = [*(run.need for run in self._running.values()), *self.returned.needs()]
        return [need.sandbox for need in needs if need is not None and need.sandbox is not None]

    def in_line(self) -> Mapping[str, int]:
        """How many jobs wait in each line for a slot."""
        return self._slots.waiting()

    def under_way(self) -> int:
        """How many messages are held here."""
        return len(self._tasks)

    # ---- from the control room ----

    def running(self, tenant: str, job_id: str) -> Run | None:
        """The run of this job, if it is under way here."""
        return self._running.get((tenant, job_id))

    async def hear(self, run: Run, stdout_from: int, stderr_from: int) -> Heard:
        """What the job's code has written so far, from these offsets on; nothing while none of it runs."""
        if run.placed is None or run.need is None or run.need.sandbox is None:
            return Heard()
        return await self._bench.hear_task(run.placed.node, run.tenant, run.job.id, stdout_from, stderr_from)

    async def stop(self, run: Run) -> None:
        """Cancel a job that is under way; its own task records what came of it.

        Its task is only ever cancelled in line for a slot: elsewhere that would leave its message unsettled. One that
        is not there yet sees `cancel_asked` when it gets there.
        """
        run.cancel_asked = True
        if run.placed is not None and run.need is not None:
            if run.need.sandbox is not None:
                await self._bench.cancel_task(run.placed.node, run.tenant, run.job.id)
            else:
                await self._bench.cancel(run.placed.node, run.need.database, run.tenant, run.job.id)
        elif run.waiting and run.task is not None:
            run.task.cancel()

    # ---- what must never happen ----

    async def _guard(self, delivery: Delivery) -> None:
        """Nothing that a single message does may end the scheduler or lose the message."""
        try:
            await self._conduct(delivery)
        except QueueError as error:
            # The broker hands it out again; by then the record, if there is one, is adopted.
            log.warning("not settled", job=delivery.message_id, error=str(error))
        except Exception:
            log.exception("unexpected error while conducting a job", job=delivery.message_id, tenant=delivery.tenant)
            await self._give_back(delivery)

    async def _give_back(self, delivery: Delivery) -> None:
        failures = 1 + delivery.history.count(outcomes.SCHEDULER_ERROR)
        try:
            if failures <= self.rules.max_deliveries:
                await self._door.retry(delivery, retry.backoff_s(failures, random.random()), outcomes.SCHEDULER_ERROR)
            else:
                await self._give_up(delivery)
        except QueueError as error:
            log.warning("not given back", job=delivery.message_id, error=str(error))

    async def _give_up(self, delivery: Delivery) -> None:
        """End the job that always finds the same bug of ours: recorded where that works, and kept as a dead letter."""
        try:
            run = open_delivery(delivery, self.rules)
            ending = self._conclude(run, outcomes.failed_here(run))
            await self.announce(delivery, await acreate_record(self._volumes[run.home.name], ending))
        except QueueError:
            raise
        except Exception:
            log.exception("this job's ending cannot be recorded", job=delivery.message_id, tenant=delivery.tenant)
        await self._dead_letter(delivery, outcomes.SCHEDULER_ERROR)

    async def _cannot_end(self, run: Run, error: VolumeError) -> None:
        """Neither the volume nor another attempt will ever let this job end: tell the caller, keep the message."""
        log.error("no ending can be recorded", job=run.job.id, tenant=run.tenant, code=error.code, error=error.message)
        answer = outcomes.unrecorded(run, error, _now())
        await self._door.reply(run.delivery, wire.encode_outcome(answer))
        await self._dead_letter(run.delivery, error.code)

    async def _dead_letter(self, delivery: Delivery, reason: str) -> None:
        self.observer.died(reason)
        await self._door.dead_letter(delivery, reason)


def _now() -> datetime:
    return datetime.now(UTC)

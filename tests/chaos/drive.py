"""Submits a plan's jobs as a service would, through everything that breaks: what has no outcome is submitted again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from random import Random

from cluster.local.leash import descendants
from sandpool import AsyncClient, Outcome
from sandpool.errors import SandpoolError
from sandpool.job import Job
from tests.chaos.faults import break_it, title_of
from tests.chaos.house import ChaosHouse
from tests.chaos.plan import Fault, Plan, Step

IN_FLIGHT = 200
SILENCE_S = 60.0
"""Without any outcome for this long, the client starts over: the submission may be lost with its connection."""
LOOK_S = 1.0
LONGEST_HOLD_S = 2.0
"""How long one job is held back for a fault; bounded, for the client that draws the jobs may be broken itself."""
PAGE_MIB = 4096 / 2**20


async def drive(house: ChaosHouse, plan: Plan, timeout_s: float, say: Callable[[str], None]) -> dict[str, Outcome]:
    """Every job's outcome, after every fault. Raises TimeoutError, naming what is missing, when it takes too long."""
    waiting = {step.job.id: step for step in plan.steps}
    outcomes: dict[str, Outcome] = {}
    monkey = _Monkey(house, plan, say)
    deadline = time.monotonic() + timeout_s
    monkey.start()
    try:
        while waiting:
            monkey.check()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{len(waiting)} jobs without an outcome, such as {sorted(waiting)[:5]}")
            try:
                async with asyncio.timeout(left_s), AsyncClient(house.client_url) as client:
                    await _submit(client, list(waiting.values()), waiting, outcomes, monkey)
            except (SandpoolError, TimeoutError) as error:
                say(f"client: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)
    finally:
        await asyncio.to_thread(monkey.finish)
    assert monkey.over == plan.faults, "the jobs ran out before the faults did"
    return outcomes


async def _submit(
    client: AsyncClient, steps: list[Step], waiting: dict[str, Step], outcomes: dict[str, Outcome], monkey: _Monkey
) -> None:
    cancelling = asyncio.create_task(_cancel(client, [step for step in steps if step.cancel], waiting))
    try:
        # As `run_many`, but of an iterable that may block.
        batches = client.batches(_held_back(steps, monkey), None, IN_FLIGHT, "", SILENCE_S, off_loop=True)
        async with aclosing(batches):
            async for batch in batches:
                for outcome in batch:
                    known = outcomes.setdefault(outcome.job_id, outcome)
                    assert (known.ending, known.ended_at) == (outcome.ending, outcome.ended_at), "two endings"
                    waiting.pop(outcome.job_id, None)
                    monkey.seen = len(outcomes)
    finally:
        cancelling.cancel()
        await asyncio.gather(cancelling, return_exceptions=True)


def _held_back(steps: list[Step], monkey: _Monkey) -> Iterator[Job]:
    """The jobs, no faster than the faults: on a fast machine the work would else be done before the worst has come."""
    for step in steps:
        monkey.hold(len(monkey.given))
        monkey.given.add(step.job.id)
        yield step.job


async def _cancel(client: AsyncClient, steps: list[Step], waiting: dict[str, Step]) -> None:
    """Each at some moment before, while or after it runs: an unknown one is cancelled before it is submitted."""
    for step in steps:
        if step.job.id in waiting:
            try:
                await client.cancel(step.job.id, timeout=5)
            except SandpoolError:
                continue  # nobody answered; then it just runs
        await asyncio.sleep(0.02)


class _Monkey:
    """Lets the faults happen, those of one part of the house in their order, each once enough endings were seen;
    measures memory meanwhile."""

    def __init__(self, house: ChaosHouse, plan: Plan, say: Callable[[str], None]) -> None:
        self._house = house
        self._plan = plan
        self._say = say
        self._ending = threading.Event()
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._work, args=(part,)) for part in plan.faults]
        self._threads.append(threading.Thread(target=self._watch))
        self._ahead = {part: list(faults) for part, faults in plan.faults.items()}
        """Faults that have not begun, by what they break."""
        self.over: dict[str, tuple[Fault, ...]] = dict.fromkeys(plan.faults, ())
        """Those that happened."""
        self.seen = 0
        self.given: set[str] = set()
        """Jobs that were submitted at least once."""
        self.most_mib: dict[str, float] = {}

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def hold(self, number: int) -> None:
        """Wait, a bounded while, until every fault has begun that is due well before this job, as its number goes."""
        until = time.monotonic() + LONGEST_HOLD_S
        while time.monotonic() < until and not self._ending.is_set() and self._error is None:
            if not any(ahead and ahead[0].after <= number - IN_FLIGHT for ahead in self._ahead.values()):
                return
            time.sleep(0.02)

    def check(self) -> None:
        """Raises what went wrong in a fault: it did not heal, so waiting is in vain."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait for the fault under way. Raises what went wrong in one."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        largest = sorted(self.most_mib.items(), key=lambda item: -item[1])[:8]
        self._say(f"most memory of one process, MiB: { ({kind: round(mib) for kind, mib in largest}) }")
        self.check()
        assert not self.most_mib or max(self.most_mib.values()) < MOST_MIB

    def _work(self, part: str) -> None:
        ahead = self._ahead[part]
        try:
            while ahead:
                while self.seen < ahead[0].after and not self._ending.is_set():
                    time.sleep(0.05)
                if self._ending.is_set():
                    return
                started = time.monotonic()
                fault = ahead.pop(0)
                break_it(self._house, fault.name, Random(f"{self._plan.seed}/{part}/{fault.number}"))
                self.over[part] += (fault,)
                self._say(f"{self.seen} endings: {fault.name}, {time.monotonic() - started:.1f} s")
        except BaseException as error:
            self._error = error

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_S):
            pid = self._house.running_pid
            for below in descendants(pid) if pid else ():
                kind, mib = _memory(below)
                if kind:
                    self.most_mib[kind] = max(mib, self.most_mib.get(kind, 0.0))


MOST_MIB = 512.0
"""Far above what scheduler, pools and Ray's own processes take (130 to 200 MiB), far below a leak of this many jobs."""


def _memory(pid: int) -> tuple[str, float]:
    """(kind, private memory in MiB) of a process of the cluster; kind "" for one that is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()
        kind = title_of(pid) or Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return "", 0.0
    # Of a title, what stays the same: `ray::PoolActor.collect` and `ray::pool:flights@node` are pools.
    return kind.removeprefix("ray::").split(".")[0].split(":")[0].strip(), (int(pages[1]) - int(pages[2])) * PAGE_MIB

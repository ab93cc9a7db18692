"""Why a job waits, where it runs, or how it ended: one sentence for whoever asks. Called by `cluster.control`.

What a scheduler holds is asked of its run and of the line it waits in; what went back to the broker is remembered here,
for a while and for so many jobs, since the broker cannot be asked about one message. Changes nothing about any job.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cluster.placement import Need
from cluster.run import Run
from cluster.slots import Slots
from queues.topology import PARKED_PREFIX
from sandpool.outcome import Outcome
from sandpool.wire import JOBS_EXCHANGE, Explanation

JOBS_PREFIX = f"{JOBS_EXCHANGE}."
NO_PLACE = ("placement.never", "placement.wait")
MOST_REMEMBERED = 10_000
"""Jobs that went back to the broker; the longest gone are forgotten first."""


@dataclass(frozen=True, slots=True)
class _Returned:
    """A job that went back, and comes again at `back_s`."""

    code: str
    reason: str
    attempt: int
    back_s: float
    need: Need | None


class Returned:
    """Jobs that went back to the broker and have not been taken again here. With several schedulers another may take
    one: then that one is asked first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs: OrderedDict[tuple[str, str], _Returned] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, run: Run, code: str, delay_s: float) -> None:
        """This run goes back, for `code`, and comes again after about `delay_s`."""
        key = (run.tenant, run.job.id)
        self._jobs[key] = _Returned(code, run.reason, run.number, self._clock() + delay_s, run.need)
        self._jobs.move_to_end(key)
        if len(self._jobs) > MOST_REMEMBERED:
            self._jobs.popitem(last=False)

    def drop(self, tenant: str, job_id: str) -> None:
        """It was taken again."""
        if self._jobs:
            self._jobs.pop((tenant, job_id), None)

    def needs(self) -> Iterator[Need]:
        """What those lacked that found no place."""
        return (gone.need for gone in self._jobs.values() if gone.need is not None and gone.code in NO_PLACE)

    def explain(self, tenant: str, job_id: str) -> Explanation | None:
        """None: nothing is remembered of it."""
        gone = self._jobs.get((tenant, job_id))
        if gone is None:
            return None
        left_s = max(0.0, gone.back_s - self._clock())
        why = f"{gone.code}: {gone.reason}" if gone.reason else gone.code
        again = f"comes again in {left_s:.0f} s" if left_s >= 1 else "is due again, behind what waits in its queue"
        return Explanation(
            state="returned",
            reason=f"went back to the broker ({why}) and {again}",
            code=gone.code,
            attempt=gone.attempt,
        )


def of_run(run: Run, slots: Slots) -> Explanation:
    """Of a job that is under way here."""
    since_s = round(max(0.0, time.monotonic() - run.since_s), 3)
    if run.placed is not None and run.need is not None:
        what = f"a statement on {run.need.database!r}" if run.need.sandbox is None else "a sandbox"
        gpus = f" with GPU {', '.join(run.placed.gpus)}" if run.placed.gpus else ""
        reason = f"runs as {what}{gpus} on node {run.placed.node}"
        return Explanation(state="running", reason=reason, attempt=run.number, node=run.placed.node, since_s=since_s)
    if run.waiting and run.need is not None:
        reason, own = slots.why(run.need, run.tenant)
        return Explanation(state="waiting", reason=reason, attempt=run.number, since_s=since_s, in_line=own)
    return Explanation(
        state="waiting", reason="is being admitted, or its ending recorded", attempt=run.number, since_s=since_s
    )


def of_outcome(outcome: Outcome) -> Explanation:
    """Of a job that has ended."""
    reason = str(outcome.ending)
    if outcome.error is not None:
        reason += f": {outcome.error.message}" + (f" ({outcome.error.hint})" if outcome.error.hint else "")
    code = outcome.error.code if outcome.error else ""
    return Explanation(state="ended", reason=reason, code=code, attempt=outcome.attempt)


def of_nobody(tenant: str, depths: Mapping[str, int], *, alone: bool = False) -> Explanation:
    """Of a job that no scheduler holds and whose ending is recorded nowhere. How much lies in the queues of all is told
    to a tenant that is `alone`: else it would say what the others do."""
    shown = {queue: queue.removeprefix(JOBS_PREFIX) for queue in depths if alone and queue.startswith(JOBS_PREFIX)}
    shown |= {queue: f"{tenant}'s own queues" for queue in depths if queue.startswith(f"{PARKED_PREFIX}{tenant}.")}
    waiting: Counter[str] = Counter()
    for queue, name in sorted(shown.items()):
        waiting[name] += depths[queue]
    where = ", ".join(f"{count:,} in {name}" for name, count in waiting.items() if count)
    reason = "no scheduler holds it and no ending is recorded: it waits in the broker, or was never submitted"
    return Explanation(state="unknown", reason=f"{reason}; jobs there now: {where or 'none'}" if shown else reason)

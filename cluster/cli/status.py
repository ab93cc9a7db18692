"""`sandpool status` and `sandpool cancel`: ask the scheduler about jobs of this tenant, many at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import click
import msgspec

from cluster.cli.exits import Exit
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.invocation import Invocation, connected
from cluster.cli.ranges import span_text
from cluster.cli.safe_text import one_line
from sandpool import AsyncClient, JobStatus
from sandpool.job import check_job_id

_AT_ONCE = 32
_POLL_S = (0.05, 0.1, 0.2, 0.5, 1.0)

Ask = Callable[[AsyncClient, str], Awaitable[JobStatus]]


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...")
@click.option("--volume", default="results", show_default=True, help="Registered volume of the jobs' results.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=0.0, help="Seconds to wait until all have ended.")
@connected
def status(invocation: Invocation, job_ids: tuple[str, ...], volume: str, wait_s: float) -> Exit:
    """Say how jobs stand.

    A job is running, ended (with its ending), or unknown: queued, or never seen. Exit code 0 when the scheduler
    answered, whatever the endings; 4 when --wait was not long enough.
    """

    async def ask(client: AsyncClient, job_id: str) -> JobStatus:
        return await wait_until_ended(client, job_id, volume, wait_s)

    answers = asyncio.run(_ask_about(invocation, job_ids, ask))
    _print(invocation, answers)
    goes_on = wait_s > 0 and any(answer.state != "ended" for answer in answers)
    return Exit.GoesOn if goes_on else Exit.Ok


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...")
@click.option("--volume", default="results", show_default=True, help="Registered volume of the jobs' results.")
@connected
def cancel(invocation: Invocation, job_ids: tuple[str, ...], volume: str) -> Exit:
    """Cancel queued or running jobs.

    Says how each stands now: it may have ended before. A job that nobody has seen yet is cancelled too: should it
    arrive later, it does not run.
    """

    async def ask(client: AsyncClient, job_id: str) -> JobStatus:
        return await client.cancel(job_id, volume=volume)

    _print(invocation, asyncio.run(_ask_about(invocation, job_ids, ask)))
    return Exit.Ok


async def wait_until_ended(client: AsyncClient, job_id: str, volume: str, wait_s: float) -> JobStatus:
    """The job's status once it has ended, or as it is after `wait_s`. Raises BrokerUnavailable."""
    deadline_s = time.monotonic() + wait_s
    poll = 0
    while True:
        answer = await client.status(job_id, volume=volume)
        left_s = deadline_s - time.monotonic()
        if answer.state == "ended" or left_s <= 0:
            return answer
        await asyncio.sleep(min(left_s, _POLL_S[min(poll, len(_POLL_S) - 1)]))
        poll += 1


async def _ask_about(invocation: Invocation, job_ids: Sequence[str], ask: Ask) -> list[JobStatus]:
    """The answers in the order of the ids. One that fails fails the call: they share one broker and one scheduler."""
    for job_id in job_ids:
        check_job_id(job_id)
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(client: AsyncClient, job_id: str) -> JobStatus:
        async with room:
            return await ask(client, job_id)

    async with invocation.connection() as client:
        return await asyncio.gather(*(one(client, job_id) for job_id in job_ids))


def _print(invocation: Invocation, answers: Sequence[JobStatus]) -> None:
    if invocation.as_json:
        for answer in answers:
            outcome = answer.outcome and msgspec.structs.replace(answer.outcome, inline=b"")
            document = msgspec.to_builtins(msgspec.structs.replace(answer, outcome=outcome))
            invocation.emit({**document, "outcome": document.get("outcome")})
        return
    names = ("job", "state", "ending", "rows", "ran", "ended", "error")
    print_grid(grid_from_rows(names, [_row(answer) for answer in answers], right=("rows", "ran")))


def _row(answer: JobStatus) -> tuple[str, ...]:
    outcome = answer.outcome
    if outcome is None:
        return (answer.job_id, answer.state, "", "", "", "", "")
    error = f"{outcome.error.code}: {one_line(outcome.error.message)}" if outcome.error else ""
    ended = outcome.ended_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    rows = f"{outcome.manifest.rows:,}"
    return (answer.job_id, answer.state, str(outcome.ending), rows, span_text(outcome.usage.run_s), ended, error)

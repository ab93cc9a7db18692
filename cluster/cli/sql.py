"""`sandpool sql`: run one statement and print its rows. Interactive: it waits, and Ctrl-C cancels the job first."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from cluster.cli.answer import form_of, print_answer, result_options
from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, connected
from cluster.cli.jobspec import job_of, job_options, statement_of
from sandpool.errors import SandpoolError
from sandpool.job import SqlJob
from sandpool.outcome import Outcome

_CANCEL_TIMEOUT_S = 5.0
_WAIT_BEYOND_RUN_S = 540.0
"""How much longer than the job's own time limit we wait for it, by default: it may queue behind others."""


@click.command()
@click.argument("statement")
@job_options
@click.option("--wait", "wait_s", type=click.FloatRange(0, min_open=True), help="Most seconds to wait for the outcome.")
@result_options
@connected
def sql(
    invocation: Invocation,
    statement: str,
    wait_s: float | None,
    form: str | None,
    output: Path | None,
    show: int,
    partial: bool,
    **fields: Any,
) -> Exit:
    """Run one SQL statement and print its result.

    STATEMENT is the text, or - to read it from standard input. Values for $1, $2, ... come from --param. Rows go to
    standard output, everything else to standard error.

    Ending -> exit code: Succeeded 0, Denied 10, Failed 11, TimedOut 12, OutOfMemory 13, OutputCapped 14, Cancelled 15,
    Lost 16. Also: usage 2, broker unavailable 3, no outcome within --wait 4 (the job goes on), interrupted 130.
    """
    wish = form_of(form, output, show, partial, as_json=invocation.as_json)
    job = job_of(statement_of(statement), priority="interactive", **fields)
    started_s = time.monotonic()
    outcome = asyncio.run(_run(invocation, job, wait_s or job.timeout_s + _WAIT_BEYOND_RUN_S))
    return print_answer(invocation, outcome, wish, time.monotonic() - started_s)


async def _run(invocation: Invocation, job: SqlJob, wait_s: float) -> Outcome:
    async with invocation.connection() as client:
        try:
            handle = await client.submit(job)
            return await handle.outcome(timeout=wait_s)
        except asyncio.CancelledError:
            # Ctrl-C: nobody wants this job any more, so it must not go on using the database. By its id, because it may
            # have been sent without being confirmed yet.
            try:
                await client.cancel(job.id, volume=job.volume, timeout=_CANCEL_TIMEOUT_S)
                invocation.say(f"cancelled job {job.id}")
            except SandpoolError as error:
                invocation.say(f"job {job.id} may go on: {error}")
            raise

"""`sandpool result`: the rows of a job that has ended, as `sandpool sql` would have printed them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from cluster.cli.answer import form_of, print_answer, result_options
from cluster.cli.code_answer import print_code_answer
from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, connected
from cluster.cli.status import wait_until_ended
from sandpool.errors import OutcomeTimeout
from sandpool.outcome import Outcome


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--volume", default="results", show_default=True, help="Registered volume of the job's result.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=0.0, help="Seconds to wait until it has ended.")
@result_options
@connected
def result(
    invocation: Invocation,
    job_id: str,
    volume: str,
    wait_s: float,
    form: str | None,
    output: Path | None,
    show: int,
    partial: bool,
) -> Exit:
    """Print the result of a job that has ended.

    Exit codes as `sandpool sql`: that of the ending; 4 when the job has not ended (within --wait).
    """
    wish = form_of(form, output, show, partial, as_json=invocation.as_json)
    outcome = asyncio.run(_find(invocation, job_id, volume, wait_s))
    if outcome.said is not None and not outcome.manifest.parts:
        return print_code_answer(invocation, outcome, None)
    return print_answer(invocation, outcome, wish)


async def _find(invocation: Invocation, job_id: str, volume: str, wait_s: float) -> Outcome:
    async with invocation.connection() as client:
        answer = await wait_until_ended(client, job_id, volume, wait_s)
    if answer.outcome is None:
        raise OutcomeTimeout(job_id, wait_s)
    return answer.outcome

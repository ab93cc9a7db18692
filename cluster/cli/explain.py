"""`sandpool explain`: one sentence about one job. The scheduler says it (`cluster.explaining`); this prints it."""

from __future__ import annotations

import asyncio

import click

from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, connected
from cluster.cli.ranges import span_text
from cluster.cli.safe_text import one_line
from sandpool import Explanation
from sandpool.job import check_job_id


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--volume", default="results", show_default=True, help="Registered volume of the job's results.")
@connected
def explain(invocation: Invocation, job_id: str, volume: str) -> Exit:
    """Say why a job waits, where it runs or how it ended.

    A job is waiting (for what, and how many of its tenant wait in that line), running (on which node), returned (in the
    broker until its next attempt, and why) or ended. Exit code 0 when there was something to say; 6 when no scheduler
    holds the job and no ending of it is recorded: then it waits in the broker, or was never submitted.
    """
    check_job_id(job_id)
    why = asyncio.run(_ask(invocation, job_id, volume))
    if invocation.as_json:
        invocation.emit({"job": job_id, **{name: getattr(why, name) for name in Explanation.__struct_fields__}})
    else:
        click.echo(sentence(job_id, why))
    return Exit.Ok


async def _ask(invocation: Invocation, job_id: str, volume: str) -> Explanation:
    async with invocation.connection() as client:
        return await client.explain(job_id, volume=volume)


def sentence(job_id: str, why: Explanation) -> str:
    """For people."""
    beside = [f"attempt {why.attempt}"] if why.attempt > 1 else []
    if why.state in ("waiting", "running"):
        beside.append(f"for {span_text(why.since_s)}")
    if why.in_line > 1:
        beside.append(f"{why.in_line} of its tenant in this line")
    return f"{job_id} {why.state}: {one_line(why.reason)}" + (f" ({', '.join(beside)})" if beside else "")

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
from cluster.cli.waiting import wait_for


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
    outcome = asyncio.run(wait_for(invocation, job, wait_s))
    return print_answer(invocation, outcome, wish, time.monotonic() - started_s)

"""`sandpool submit`: enqueue one job, print its id, do not wait."""

from __future__ import annotations

import asyncio
from typing import Any, BinaryIO

import click
import msgspec

from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, connected
from cluster.cli.jobspec import job_of, job_options, statement_of
from sandpool.errors import InvalidJob
from sandpool.job import KINDS, Job
from sandpool.wire import MAX_ENVELOPE_BYTES


@click.command()
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE.json|-]")
@click.option("--sql", "statement", help="The statement, instead of FILE; - reads it from standard input.")
@job_options
@connected
def submit(invocation: Invocation, file: BinaryIO | None, statement: str | None, **fields: Any) -> Exit:
    """Enqueue one job and print its id.

    FILE holds the job as one JSON object, for example {"database": "flights", "sql": "select 1"} or {"kind": "python",
    "code": "print(1)"}; - is standard input.
    Without FILE the job is made of the options. The broker has the job safe when this returns; submitting the same id
    again runs it once.
    """
    if (file is None) == (statement is None):
        raise click.UsageError("give either FILE.json or --sql STATEMENT")
    if file is not None:
        if any(value for value in fields.values()):
            raise click.UsageError("with FILE every field of the job stands in the file; leave the options out")
        job = decode_job_object(file.read(MAX_ENVELOPE_BYTES + 1))
    else:
        job = job_of(statement_of(statement or ""), **fields)
    asyncio.run(_submit(invocation, job))
    if invocation.as_json:
        invocation.emit({"job_id": job.id})
    else:
        click.echo(job.id)
    return Exit.Ok


def decode_job_object(data: bytes) -> Job:
    """A job written as one JSON object; `kind` is `sql` (the default), `python` or `command`. Raises InvalidJob."""
    if len(data) > MAX_ENVELOPE_BYTES:
        raise InvalidJob("job", f"more than {MAX_ENVELOPE_BYTES} bytes; put its text or parameters in a volume")
    try:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        kind = fields.pop("kind", "sql")
        if kind not in KINDS:
            raise InvalidJob("kind", f"{str(kind)[:40]!r} is none of {', '.join(KINDS)}")
        return msgspec.convert(fields, KINDS[kind])
    except InvalidJob:
        raise
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidJob("job", str(error)) from error


async def _submit(invocation: Invocation, job: Job) -> None:
    async with invocation.connection() as client:
        await client.submit(job)

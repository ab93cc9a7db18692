"""`sandpool run`: run a Python file in a sandbox of its own and print what it writes, as it writes it.

Waits for its end; Ctrl-C cancels the job.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from cluster.cli.code_answer import LiveAnswer, print_code_answer
from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, connected
from cluster.cli.waiting import wait_for
from sandpool.job import Limits, PythonJob


@click.command()
@click.argument("file", metavar="FILE.py")
@click.option("--image", default="data", show_default=True, metavar="NAME", help="Image, or NAME@DIGEST.")
@click.option("--db", "databases", multiple=True, metavar="DB", help="Database that the code may use (repeat it).")
@click.option(
    "--in",
    "inputs",
    multiple=True,
    metavar="NAME=VOLUME:PATH",
    help="Object of a volume, seen at /in/NAME (repeat it).",
)
@click.option(
    "--out", "outputs", multiple=True, metavar="GLOB", help="Files to keep, in the working folder (repeat it)."
)
@click.option(
    "--out-dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Save outputs and figures."
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Environment variable (repeat it).")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Most seconds it may run.")
@click.option("--memory", "memory_mib", type=click.IntRange(128), metavar="MIB", help="Memory of its sandbox.")
@click.option("--cpus", type=click.FloatRange(0.05), help="CPUs of its sandbox.")
@click.option("--id", "job_id", help="Job id, the idempotency key: the same id runs once.  [default: a new one]")
@click.option("--volume", default="results", show_default=True, help="Registered volume of what it leaves.")
@click.option("--wait", "wait_s", type=click.FloatRange(0, min_open=True), help="Most seconds to wait for the outcome.")
@connected
def run(
    invocation: Invocation,
    file: str,
    image: str,
    databases: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    out_dir: Path | None,
    variables: tuple[str, ...],
    timeout_s: float,
    memory_mib: int | None,
    cpus: float | None,
    job_id: str | None,
    volume: str,
    wait_s: float | None,
) -> Exit:
    """Run a Python file in a sandbox and print what it wrote.

    FILE.py is a file of this machine, or - for standard input. Its working folder inside is empty and writable; inputs
    lie below /in. The value of its last expression is printed too. With --json: the outcome as one JSON object, with
    `ending`, `stdout`, `stderr`, `value`, `usage` and more.

    Ending -> exit code: Succeeded 0, Denied 10, Failed 11, TimedOut 12, OutOfMemory 13, OutputCapped 14, Cancelled 15,
    Lost 16. Also: usage 2, broker unavailable 3, no outcome within --wait 4 (the job goes on), interrupted 130.
    """
    fields: dict[str, object] = {"id": job_id} if job_id else {}
    job = _job(
        file,
        image=image,
        databases=databases,
        inputs=_pairs("--in", inputs),
        outputs=outputs,
        env=_pairs("--env", variables),
        timeout_s=timeout_s,
        limits=Limits(memory_bytes=memory_mib << 20 if memory_mib else None, cpus=cpus),
        volume=volume,
        priority="interactive",
        **fields,
    )
    live = None if invocation.as_json else LiveAnswer()
    outcome = asyncio.run(wait_for(invocation, job, wait_s, live))
    return print_code_answer(invocation, outcome, out_dir, live)


def _job(file: str, **fields: object) -> PythonJob:
    """Raises InvalidJob, click.UsageError."""
    if file == "-":
        code = sys.stdin.buffer.read().decode("utf-8", "replace")
        return PythonJob(code=code or "\n", name="<stdin>", **fields)  # type: ignore[arg-type]
    try:
        return PythonJob.read(file, **fields)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from error


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.UsageError(f"{option} {text!r}: it takes NAME=VALUE")
        if name in pairs:
            raise click.UsageError(f"{option} {name}: given twice")
        pairs[name] = value
    return pairs

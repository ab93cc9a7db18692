"""The options that describe a job, and how they become one. Called by `sql` and `submit`; talks to nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec

from sandpool.job import MAX_SQL_BYTES, SqlJob

Command = Callable[..., Any]


def job_options(command: Command) -> Command:
    """Options that `job_of` takes."""
    for option in reversed(
        (
            click.option("-d", "--database", help="Registered name of the database."),
            click.option(
                "-p", "--param", "params", multiple=True, metavar="TEXT", help="Value of $1, $2, ...: repeat it."
            ),
            click.option(
                "--params", "params_json", metavar="JSON", help="All parameters as one JSON array; allows null."
            ),
            click.option("--writes", is_flag=True, help="The statement may change data, where the policy allows it."),
            click.option("--timeout", "timeout_s", type=float, help="Most seconds one attempt may run.  [default: 60]"),
            click.option("--max-rows", type=int, help="Most rows; can only lower the policy's limit."),
            click.option("--max-bytes", type=int, help="Most bytes of result; can only lower the policy's limit."),
            click.option("--id", help="Job id, the idempotency key: the same id runs once.  [default: a new one]"),
            click.option("--volume", help="Registered volume of the result.  [default: results]"),
            click.option(
                "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Shown in listings (repeat it)."
            ),
        )
    ):
        command = option(command)
    return command


def job_of(
    sql: str,
    *,
    params: tuple[str, ...] = (),
    params_json: str | None = None,
    labels: tuple[str, ...] = (),
    **fields: Any,
) -> SqlJob:
    """A job from its options; what is None takes the job's own default. Raises InvalidJob, click.UsageError."""
    given = {name: value for name, value in fields.items() if value is not None}
    if "database" not in given:
        raise click.UsageError("Missing option '-d' / '--database': the registered name of a database.")
    return SqlJob(sql=sql, params=_params(params, params_json), labels=_labels(labels), **given)


def statement_of(argument: str) -> str:
    """The statement itself, or standard input for `-`. Raises click.UsageError."""
    if argument != "-":
        return argument
    data = sys.stdin.buffer.read(MAX_SQL_BYTES + 1)
    if len(data) > MAX_SQL_BYTES:
        raise click.UsageError(f"a statement of more than {MAX_SQL_BYTES} bytes on standard input")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8: {error}") from error


def _params(texts: tuple[str, ...], as_json: str | None) -> tuple[Any, ...]:
    if as_json is None:
        return texts
    if texts:
        raise click.UsageError("give --param or --params, not both")
    try:
        return tuple(msgspec.json.decode(as_json, type=list[Any]))
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        message = f"--params: {error}; it takes one JSON array, for example '[1, null, \"EWR\"]'"
        raise click.UsageError(message) from error


def _labels(texts: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise click.UsageError(f"--label {text!r}: it takes KEY=VALUE")
        labels[key] = value
    return labels

"""An error -> one line, a hint and an exit code. Called by the group when a command raises; knows no command.

Pure but for `report`, which prints. Secrets cannot leak from here: the messages of typed errors hold none by contract,
and what has no type is named by its class alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import click

from cluster.cli.exits import Exit, exit_for
from cluster.cli.safe_text import one_line
from cluster.errors import ClusterError, NotRunning, RayNotStarted, SandboxRefused, SettingsInvalid
from cluster.local.errors import LocalServiceError, ServiceMissing
from queues.errors import AccessRefused, QueueError, TopologyMismatch
from sandpool.errors import (
    BrokerUnavailable,
    JobError,
    JobUnknown,
    OutcomeTimeout,
    ResultUnavailable,
    SandpoolError,
    UsageError,
)
from workers.errors import ConfigurationError, WorkerError


@dataclass(frozen=True, slots=True)
class Failure:
    """What the user is told: `kind` is the stable name of the error, `hint` what to do about it."""

    kind: str
    message: str
    hint: str
    exit: Exit


def explain(error: Exception) -> Failure:
    """What an error means for the user of the command line."""
    kind, message = type(error).__name__, str(error)
    match error:
        case click.ClickException():
            return Failure(kind, error.format_message(), _usage_hint(error), Exit.Usage)
        case SettingsInvalid():
            return Failure(kind, message, "fix the configuration; configs/README.md explains every key", Exit.Usage)
        case JobError():
            return Failure(kind, message, "", exit_for(error.outcome.ending))
        case UsageError():
            return Failure(kind, message, "", Exit.Usage)
        case BrokerUnavailable():
            hint = "is the cluster up and the URL right? `sandpool doctor` looks"
            return Failure(kind, message, hint, Exit.Unavailable)
        case OutcomeTimeout():
            hint = f"`sandpool status {error.job_id}` or `sandpool cancel {error.job_id}`"
            return Failure(kind, message, hint, Exit.GoesOn)
        case JobUnknown():
            return Failure(kind, message, "", Exit.Unknown)
        case ResultUnavailable():
            return Failure(kind, message, "", Exit.ResultUnavailable)
        case ConfigurationError():
            return Failure(kind, message, error.hint, Exit.Usage)
        case WorkerError():
            return Failure(error.code, message, error.hint, Exit.ResultUnavailable)
        case AccessRefused():
            return Failure(kind, message, "is broker.url that of the scheduler's own user?", Exit.Usage)
        case TopologyMismatch():
            hint = "queues are declared by a scheduler when it starts; has one ever run at this broker?"
            return Failure(kind, message, hint, Exit.Unavailable)
        case QueueError():
            return Failure(kind, message, "is the broker up, and has it room?", Exit.Unavailable)
        case NotRunning():
            return Failure(kind, message, "", Exit.Unavailable)
        case RayNotStarted():
            hint = (
                "Ray gives itself half a minute, which a busy machine may not: try again; its logs are below ray.folder"
            )
            return Failure(kind, message, hint, Exit.Unavailable)
        case SandboxRefused():
            return Failure(error.code, message, error.hint, Exit.Unavailable if error.again else Exit.Usage)
        case ServiceMissing():
            return Failure(kind, f"{error.service} is not installed on this machine", error.remedy, Exit.Usage)
        case LocalServiceError():
            return Failure(kind, message, "", Exit.Unavailable)
        case SandpoolError() | ClusterError():
            return Failure(kind, message, "", Exit.Incomplete)
        case OSError():
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or kind
            return Failure(kind, text, "", Exit.ResultUnavailable)
        case _:
            hint = "this is a fault of Sandpool: SANDPOOL_DEBUG=1 shows where; please report it"
            return Failure(kind, f"internal error ({kind})", hint, Exit.Internal)


def report(error: Exception, *, as_json: bool) -> int:
    """Print the error: one line and its hint on standard error; with `as_json` also a document on standard output."""
    failure = explain(error)
    if as_json:
        document = {"error": {"kind": failure.kind, "message": failure.message, "hint": failure.hint}}
        click.echo(json.dumps({**document, "exit": int(failure.exit)}, ensure_ascii=False))
    else:
        # A configuration may have several mistakes, each on a line of its own; all other messages are one line.
        for line in failure.message.splitlines() or [failure.kind]:
            click.echo(f"error: {one_line(line)}", err=True)
        if failure.hint:
            click.echo(f"hint: {one_line(failure.hint)}", err=True)
    return int(failure.exit)


def _usage_hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"`{context.command_path} --help` shows what it takes" if context else ""

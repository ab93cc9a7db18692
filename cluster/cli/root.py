"""The group `sandpool`: which commands there are, and what becomes of an error that one of them raises.

`sandpool --help` imports click and nothing else of weight: a command's module is imported when the command is called,
and its one-line help stands here (a test compares it with the command's own). Called by the console entry point and by
tests. Never prints a traceback unless SANDPOOL_DEBUG=1.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import click

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives: module, attribute, and the line that `sandpool --help` shows."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Entry] = {
    "up": Entry("up", "up", "Run the cluster in the foreground; Ctrl-C drains it."),
    "sql": Entry("sql", "sql", "Run one SQL statement and print its result."),
    "run": Entry("run", "run", "Run a Python file in a sandbox and print what it wrote."),
    "submit": Entry("submit", "submit", "Enqueue one job and print its id."),
    "status": Entry("status", "status", "Say how jobs stand."),
    "explain": Entry("explain", "explain", "Say why a job waits, where it runs or how it ended."),
    "result": Entry("result", "result", "Print the result of a job that has ended."),
    "cancel": Entry("status", "cancel", "Cancel queued or running jobs."),
    "jobs": Entry("jobs", "jobs", "List recorded outcomes, newest first."),
    "batch": Entry("batch", "batch", "Run every job of a JSON Lines file."),
    "dead": Entry("dead", "dead", "List, show, requeue and drop dead letters."),
    "database": Entry("database", "database", "List, check and harden the registered databases."),
    "policy": Entry("policy", "policy", "Check statements against a policy without a server."),
    "image": Entry("image", "image", "Build, list, inspect, prune and import sandbox images."),
    "sandbox": Entry("sandbox", "sandbox", "Keep sandboxes: create, use, pause, resume, snapshot and fork them."),
    "restart": Entry(
        "restart", "restart", "Restart schedulers, or workers too, one after the other, with the configuration of now."
    ),
    "node": Entry("node", "node", "List the nodes of the cluster, and drain one."),
    "doctor": Entry("doctor", "doctor", "Say what is present on this machine, what is missing and what to do."),
}


class Commands(click.Group):
    """A group that imports its commands late and explains every error in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - overrides
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"cluster.cli.{entry.module}"), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has seen enough (`| head`). Caught here because click would make it exit code 1;
            # the interpreter must not try to flush the rest again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return code

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        call = partial(super().main, given, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return call()
        sys.exit(_exit_code(call, as_json="--json" in given))


def _exit_code(call: Callable[[], Any], *, as_json: bool) -> int:
    """Make the call; whatever it raises becomes one line and a code."""
    try:
        return int(call() or 0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost place: nothing is above that could do better
        if os.environ.get("SANDPOOL_DEBUG") == "1":
            traceback.print_exc()
        failures = importlib.import_module("cluster.cli.failures")
        return int(failures.report(error, as_json=as_json))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="sandpool-cluster", prog_name="sandpool")
def root() -> None:
    """Run SQL that agents wrote, next to the databases it works on.

    Every command takes --json (machine-readable output), --config FILE and, where it talks to the cluster, --url
    AMQP_URL. Exit codes: 0 Succeeded, 2 usage, 3 broker unavailable, 10 to 16 the other endings; docs/cli.md has all.
    """


def main() -> NoReturn:
    """Console entry point."""
    root.main(prog_name="sandpool")
    raise SystemExit(0)

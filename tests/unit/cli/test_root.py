"""The group itself: help, errors, exit codes, start-up cost."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import click
import pytest

from cluster.cli.exits import Exit, exit_for, exit_for_all
from cluster.cli.failures import explain
from cluster.cli.root import COMMANDS, root
from cluster.errors import NotRunning, RayNotStarted, SettingsInvalid
from sandpool import errors
from sandpool.outcome import Ending, Outcome
from workers.errors import ConfigurationError, DatabaseUnavailable, VolumeUnavailable

HEAVY = ("pyarrow", "ray", "pydantic", "aio_pika", "rich", "asyncpg", "sqlglot", "duckdb", "msgspec")


def outcome(ending: Ending) -> Outcome:
    return Outcome(job_id="j", tenant="t", ending=ending, digest="", volume="results", ended_at=datetime.now(UTC))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_with_the_help_that_the_group_shows(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert isinstance(command, click.Command)
    assert command.get_short_help_str(200).rstrip(".") == COMMANDS[name].help.rstrip(".")


def _all_commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = root.get_command(click.Context(root), name)
        assert command is not None
        children = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        found += [(f"{name} {child}".strip(), each) for child, each in children]
    return found


@pytest.mark.parametrize(("name", "command"), _all_commands())
def test_every_command_can_answer_in_json(name: str, command: click.Command) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    # `policy check` answers JSON lines and nothing else.
    assert "--json" in options or name.startswith("policy"), f"{name} has no --json"


def test_the_groups_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom cluster.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Commands:" in run.stdout
    assert run.stderr.strip() == "[]"


def test_every_ending_has_one_exit_code() -> None:
    codes = {exit_for(ending) for ending in Ending}
    assert len(codes) == len(Ending)
    assert exit_for(Ending.Succeeded) == 0
    assert {ending: int(exit_for(ending)) for ending in Ending} == {
        "Succeeded": 0, "Denied": 10, "Failed": 11, "TimedOut": 12, "OutOfMemory": 13, "OutputCapped": 14,
        "Cancelled": 15, "Lost": 16,
    }  # fmt: skip
    assert exit_for_all([Ending.Succeeded, Ending.Succeeded]) == 0
    assert exit_for_all([Ending.Succeeded, Ending.Lost]) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.UsageError("x"), Exit.Usage),
        (SettingsInvalid("x"), Exit.Usage),
        (errors.InvalidJob("sql", "x"), Exit.Usage),
        (errors.InvalidEnvelope("oversized", "x"), Exit.Usage),
        (errors.JobIdConflict("j"), Exit.Usage),
        (errors.BrokerUnavailable("x"), Exit.Unavailable),
        (NotRunning("x"), Exit.Unavailable),
        (RayNotStarted("x"), Exit.Unavailable),
        (errors.OutcomeTimeout("j", 1), Exit.GoesOn),
        (errors.ResultUnavailable("x"), Exit.ResultUnavailable),
        (VolumeUnavailable("x", hint="y"), Exit.ResultUnavailable),
        (DatabaseUnavailable("x"), Exit.ResultUnavailable),
        (ConfigurationError("x"), Exit.Usage),
        (errors.JobDenied(outcome(Ending.Denied)), Exit.Denied),
        (PermissionError(13, "Permission denied", "f"), Exit.ResultUnavailable),
        (ZeroDivisionError("amqp://u:topsecret@h"), Exit.Internal),
    ],
)
def test_every_error_becomes_one_message_and_one_code(error: Exception, code: Exit) -> None:
    failure = explain(error)
    assert failure.exit is code
    assert failure.message
    assert "topsecret" not in failure.message


def test_an_unexpected_error_shows_no_traceback_unless_asked(run_alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.cli.invocation.Invocation.client", lambda _self: 1 / 0)
    args = ("sql", "-d", "flights", "select 1", "--url", "amqp://a:b@localhost/x")
    result = run_alone(*args)
    assert result.exit_code == 70
    assert "Traceback" not in result.stderr
    assert "SANDPOOL_DEBUG=1" in result.stderr
    monkeypatch.setenv("SANDPOOL_DEBUG", "1")
    assert "ZeroDivisionError" in run_alone(*args).stderr


def test_without_a_broker_url_the_error_says_where_to_give_one(run_alone) -> None:
    result = run_alone("sql", "-d", "flights", "select 1")
    assert result.exit_code == 2
    assert "--url" in result.stderr
    assert "SANDPOOL_URL" in result.stderr


def test_a_broker_that_is_away_exits_3_without_showing_the_password(run_alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.cli.invocation.CONNECT_TIMEOUT_S", 0.5)
    url = "amqp://acme:topsecret@127.0.0.1:1/sandpool?connection_attempts=1"
    result = run_alone("sql", "-d", "flights", "select 1", "--url", url)
    assert result.exit_code == 3, result.output
    assert "topsecret" not in result.output
    assert result.stderr.startswith("error: ")

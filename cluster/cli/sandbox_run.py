"""`sandpool sandbox exec|code`: run something in a kept sandbox and print what it writes, as it writes it.

What a sandbox printed is shown as it is when it goes into a pipe, and with its control characters escaped on a
terminal. With --json it is one object at the end. Ctrl-C ends what runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cluster.cli.exits import Exit, exit_for
from cluster.cli.invocation import Invocation, configured
from cluster.cli.live_text import LiveText
from cluster.cli.sandbox_call import hosts_of, owned, tenant_of
from sandpool.outcome import Ending

if TYPE_CHECKING:
    from workers.sandbox.requests import Code, Exec, Ran

MAX_STDIN_BYTES = 16 << 20
LONGEST_CALL_S = 86_400.0


@click.command("exec")
@click.argument("sandbox_id", metavar="ID")
@click.argument("argv", nargs=-1, required=True, metavar="COMMAND [ARGUMENT]...")
@click.option("--cwd", metavar="DIR", help="Folder inside.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE")
@click.option("--stdin", "feed", is_flag=True, help="Hand our standard input to the command.")
@click.option("-t", "--tty", is_flag=True, help="Run it in a terminal, and hand ours over.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@owned
@configured
def execute(
    invocation: Invocation,
    tenant: str | None,
    sandbox_id: str,
    argv: Sequence[str],
    cwd: str | None,
    variables: Sequence[str],
    feed: bool,
    tty: bool,
    timeout: float | None,
) -> Exit:
    """Run a command inside; a paused sandbox is resumed first."""
    from workers.sandbox.requests import Exec  # noqa: PLC0415 - as above

    if tty:
        env = {"TERM": invocation.environment.get("TERM", "xterm"), **dict(map(_variable, variables))}
        _check_terminal(invocation, feed)
        return _interact(invocation, tenant, Exec(id=sandbox_id, argv=tuple(argv), cwd=cwd, env=env, timeout_s=timeout))
    stdin = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1) if feed else b""
    if len(stdin) > MAX_STDIN_BYTES:
        raise click.UsageError(f"standard input of at most {MAX_STDIN_BYTES >> 20} MiB")
    env = dict(map(_variable, variables))
    request = Exec(id=sandbox_id, argv=tuple(argv), cwd=cwd, env=env, stdin=stdin, timeout_s=timeout)
    return _run(invocation, tenant, request)


@click.command("code")
@click.argument("sandbox_id", metavar="ID")
@click.argument("file", type=click.File("r"), default="-", metavar="[FILE]")
@click.option("-c", "--code", "text", metavar="CODE", help="The code itself, instead of a file.")
@click.option("--context", default="main", show_default=True, metavar="NAME", help="Namespace that the code runs in.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@owned
@configured
def run_code(
    invocation: Invocation,
    tenant: str | None,
    sandbox_id: str,
    file: Any,
    text: str | None,
    context: str,
    timeout: float | None,
) -> Exit:
    """Run Python inside, in a namespace that stays; FILE `-` is standard input."""
    from workers.sandbox.requests import Code  # noqa: PLC0415 - as above

    source = text if text is not None else file.read()
    request = Code(id=sandbox_id, code=source, context=context, timeout_s=timeout)
    return _run(invocation, tenant, request)


def _run(invocation: Invocation, tenant: str | None, request: Code | Exec) -> Exit:
    whose = tenant_of(invocation, tenant)  # before seconds are spent on connecting
    stdout, stderr = LiveText(sys.stdout, raw=True), LiveText(sys.stderr, raw=True)

    def show(out: bytes, err: bytes) -> None:
        stdout.write(out)
        stderr.write(err)

    with hosts_of(invocation) as hosts:
        ran = hosts.run(whose, request, request.timeout_s or LONGEST_CALL_S, None if invocation.as_json else show)
    if invocation.as_json:
        invocation.emit(_document(request.id, ran))
        return exit_for(Ending(ran.ending))
    stdout.finish_bytes(ran.stdout)
    stderr.finish_bytes(ran.stderr)
    return _show_ending(invocation, ran)


def _check_terminal(invocation: Invocation, feed: bool) -> None:
    if invocation.as_json or feed or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("--tty needs a terminal for input and output, and neither --json nor --stdin")


def _interact(invocation: Invocation, tenant: str | None, request: Exec) -> Exit:
    """The command's own bytes go to our terminal as they are: that is what a terminal is for."""
    from cluster.cli.keyboard import Keyboard  # noqa: PLC0415 - termios, which only this needs

    whose = tenant_of(invocation, tenant)
    shown = 0

    def show(out: bytes, _: bytes) -> None:
        nonlocal shown
        shown += len(out)
        sys.stdout.buffer.write(out)
        sys.stdout.buffer.flush()

    with hosts_of(invocation) as hosts, Keyboard(sys.stdin.fileno()) as keyboard:
        rows, columns = keyboard.size
        sized = msgspec.structs.replace(request, rows=rows, columns=columns)
        ran = hosts.run(whose, sized, request.timeout_s or LONGEST_CALL_S, show, keyboard.begin)
        show(ran.stdout[shown:], b"")
    return _show_ending(invocation, ran)


def _show_ending(invocation: Invocation, ran: Ran) -> Exit:
    """Its value, or why there is none."""
    ending = Ending(ran.ending)
    if value := ran.value.get("text/plain", b""):
        LiveText(sys.stdout, raw=True).finish_bytes(value + b"\n")
    if ran.error_kind:
        said = ran.traceback or f"{ran.error_kind}: {ran.error_message}\n"
        LiveText(sys.stderr, raw=True).finish_bytes(said.encode())
    elif ending not in (Ending.Succeeded, Ending.Failed):
        invocation.say(f"ended {ran.ending}")
    return exit_for(ending)


def _document(sandbox_id: str, ran: Ran) -> dict[str, Any]:
    error = {"kind": ran.error_kind, "message": ran.error_message, "traceback": ran.traceback}
    value = ran.value.get("text/plain", b"").decode(errors="replace")
    return {
        "id": sandbox_id,
        "ending": ran.ending,
        "code": ran.code,
        "stdout": ran.stdout.decode(errors="replace"),
        "stderr": ran.stderr.decode(errors="replace"),
        "value": value if ran.value else None,
        "types": sorted({kind for bundle in (ran.value, *ran.displays) for kind in bundle}),
        "error": error if ran.error_kind else None,
        "usage": {"wall_s": ran.wall_s, "output_bytes": len(ran.stdout) + len(ran.stderr)},
    }


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--env {text}: not NAME=VALUE")
    return name, value

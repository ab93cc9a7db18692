"""`sandpool sandbox create|exec|code|ls|pause|resume|fork|snapshot|timeout|rm`: sandboxes that are kept between calls.

On a machine of a running cluster, through Ray. Only asks the hosts and shows what they answer; what a sandbox printed
is shown as it is when it goes into a pipe, and with its control characters escaped on a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cluster.cli.exits import Exit, exit_for
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.invocation import Invocation, configured
from cluster.cli.safe_text import one_line
from sandpool.outcome import Ending

if TYPE_CHECKING:
    from cluster.dispatch_kept import KeptHosts
    from workers.sandbox.keeping import KeptView, SavedView
    from workers.sandbox.requests import Ran, Request, Views

MAX_STDIN_BYTES = 16 << 20
LONGEST_CALL_S = 86_400.0
Command = Callable[..., Any]


@click.group()
def sandbox() -> None:
    """Keep sandboxes: create, use, pause, resume, snapshot and fork them."""


def owned(command: Command) -> Command:
    """The option that says whose sandboxes are meant."""
    text = "Whose sandboxes; else the only tenant of the configuration."
    return click.option("--tenant", metavar="NAME", help=text)(command)


def lived(command: Command) -> Command:
    """How long a sandbox stays."""
    span = click.FloatRange(min=0, min_open=True)
    lifetime = click.option(
        "--lifetime", type=span, default=300.0, show_default=True, metavar="SECONDS", help="Then it is destroyed."
    )
    forever = click.option("--forever", is_flag=True, help="It is never destroyed by itself.")
    idle = click.option("--idle", type=span, metavar="SECONDS", help="Unused for so long, it is paused.")
    return lifetime(forever(idle(command)))


@sandbox.command()
@click.option("--image", default="base", show_default=True, metavar="NAME[@DIGEST]")
@click.option("--from", "snapshot", default="", metavar="SNAPSHOT", help="Go on where this snapshot was taken.")
@click.option("--limit", "limits", multiple=True, metavar="KEY=NUMBER", help="memory_bytes, cpus, ...: docs/images.md.")
@lived
@owned
@configured
def create(
    invocation: Invocation, tenant: str | None, image: str, snapshot: str, limits: Sequence[str], **life: Any
) -> Exit:
    """Create a sandbox and print its id."""
    from workers.sandbox.requests import Create  # noqa: PLC0415 - 60 ms that --help need not pay

    changed = dict(map(_limit, limits))
    request = Create(image=image, snapshot=snapshot, limits=changed, **_life(life))
    return _show_ids(invocation, _ask(invocation, tenant, request))


@sandbox.command("exec")
@click.argument("sandbox_id", metavar="ID")
@click.argument("argv", nargs=-1, required=True, metavar="COMMAND [ARGUMENT]...")
@click.option("--cwd", metavar="DIR", help="Folder inside.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE")
@click.option("--stdin", "feed", is_flag=True, help="Hand our standard input to the command.")
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
    timeout: float | None,
) -> Exit:
    """Run a command inside; a paused sandbox is resumed first."""
    from workers.sandbox.requests import Exec  # noqa: PLC0415 - as above

    stdin = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1) if feed else b""
    if len(stdin) > MAX_STDIN_BYTES:
        raise click.UsageError(f"standard input of at most {MAX_STDIN_BYTES >> 20} MiB")
    env = dict(map(_variable, variables))
    request = Exec(id=sandbox_id, argv=tuple(argv), cwd=cwd, env=env, stdin=stdin, timeout_s=timeout)
    return _show_run(invocation, sandbox_id, _ask(invocation, tenant, request, timeout or LONGEST_CALL_S))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@click.argument("file", type=click.File("r"), default="-", metavar="[FILE]")
@click.option("-c", "--code", "text", metavar="CODE", help="The code itself, instead of a file.")
@click.option("--context", default="main", show_default=True, metavar="NAME", help="Namespace that the code runs in.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@owned
@configured
def code(
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
    return _show_run(invocation, sandbox_id, _ask(invocation, tenant, request, timeout or LONGEST_CALL_S))


@sandbox.command("ls")
@owned
@configured
def list_all(invocation: Invocation, tenant: str | None) -> Exit:
    """List the sandboxes and snapshots of a tenant."""
    from workers.sandbox.requests import List  # noqa: PLC0415 - as above

    whose = _tenant(invocation, tenant)
    with _hosts(invocation) as hosts:
        answers = hosts.ask_all(whose, List())
    if invocation.as_json:
        everything = [(node, one) for node, views in answers.items() for one in (*views.sandboxes, *views.snapshots)]
        invocation.emit([{**msgspec.to_builtins(one), "node": node} for node, one in everything])
        return Exit.Ok
    rows = [
        (one.id, str(one.state), one.image[:40], _moment(one.created_at_s), _moment(one.expires_at_s), node)
        for node, views in answers.items()
        for one in views.sandboxes
    ]
    rows += [
        (one.id, f"snapshot {one.label}".strip(), one.image[:40], _moment(one.created_at_s), "", node)
        for node, views in answers.items()
        for one in views.snapshots
    ]
    if rows:
        print_grid(grid_from_rows(("id", "state", "image", "created (UTC)", "until (UTC)", "node"), rows, ()))
    return Exit.Ok


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@owned
@configured
def pause(invocation: Invocation, tenant: str | None, sandbox_id: str) -> Exit:
    """Save a sandbox to disk and free its memory."""
    from workers.sandbox.requests import Pause  # noqa: PLC0415 - as above

    return _show_ids(invocation, _ask(invocation, tenant, Pause(id=sandbox_id)))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@owned
@configured
def resume(invocation: Invocation, tenant: str | None, sandbox_id: str) -> Exit:
    """Have a paused sandbox go on."""
    from workers.sandbox.requests import Resume  # noqa: PLC0415 - as above

    return _show_ids(invocation, _ask(invocation, tenant, Resume(id=sandbox_id)))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@click.option("-n", "--count", type=click.IntRange(1), default=1, show_default=True, help="How many copies.")
@owned
@configured
def fork(invocation: Invocation, tenant: str | None, sandbox_id: str, count: int) -> Exit:
    """Copy a sandbox as it is now, and print the ids of the copies."""
    from workers.sandbox.requests import Fork  # noqa: PLC0415 - as above

    return _show_ids(invocation, _ask(invocation, tenant, Fork(id=sandbox_id, count=count)))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@click.option("--label", default="", metavar="TEXT", help="Shown by `ls`.")
@owned
@configured
def snapshot(invocation: Invocation, tenant: str | None, sandbox_id: str, label: str) -> Exit:
    """Save a sandbox as it is now, and print the snapshot's id for `create --from`."""
    from workers.sandbox.requests import Save  # noqa: PLC0415 - as above

    return _show_ids(invocation, _ask(invocation, tenant, Save(id=sandbox_id, label=label)))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@lived
@owned
@configured
def timeout(invocation: Invocation, tenant: str | None, sandbox_id: str, **life: Any) -> Exit:
    """Say anew how long a sandbox stays, from now on."""
    from workers.sandbox.requests import SetTimeout  # noqa: PLC0415 - as above

    return _show_ids(invocation, _ask(invocation, tenant, SetTimeout(id=sandbox_id, **_life(life))))


@sandbox.command("rm")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@owned
@configured
def remove(invocation: Invocation, tenant: str | None, ids: Sequence[str]) -> Exit:
    """Destroy sandboxes, whatever they do, and delete snapshots."""
    from workers.sandbox.requests import Remove  # noqa: PLC0415 - as above

    whose = _tenant(invocation, tenant)
    with _hosts(invocation) as hosts:
        for any_id in ids:
            hosts.ask(whose, Remove(id=any_id))
            if not invocation.as_json:
                click.echo(any_id)
    if invocation.as_json:
        invocation.emit({"removed": list(ids)})
    return Exit.Ok


@contextmanager
def _hosts(invocation: Invocation) -> Iterator[KeptHosts]:
    from cluster import dispatch_kept as kept  # noqa: PLC0415 - ray costs 1 s, which --help need not pay
    from cluster.dispatch import NAMESPACE  # noqa: PLC0415 - as above

    wanted = invocation.settings.ray
    folder = Path(wanted.folder) if wanted.folder else Path(invocation.settings.folder) / "ray"
    ours = kept.join(NAMESPACE, wanted.address, folder)
    try:
        yield kept.KeptHosts(NAMESPACE)
    finally:
        if ours:
            kept.leave()


def _ask(invocation: Invocation, tenant: str | None, request: Request, timeout_s: float = 0.0) -> Any:
    whose = _tenant(invocation, tenant)  # before seconds are spent on connecting
    with _hosts(invocation) as hosts:
        return hosts.ask(whose, request, timeout_s)


def _tenant(invocation: Invocation, asked: str | None) -> str:
    known = sorted(invocation.settings.tenants)
    if asked is not None and asked in known:
        return asked
    if asked is not None or len(known) != 1:
        raise click.UsageError(f"say whose sandboxes with --tenant: {', '.join(known)}")
    return known[0]


def _show_ids(invocation: Invocation, views: Views) -> Exit:
    shown: list[KeptView | SavedView] = [*views.sandboxes, *views.snapshots]
    if invocation.as_json:
        built = [msgspec.to_builtins(one) for one in shown]
        invocation.emit(built[0] if len(built) == 1 else built)
    else:
        for one in shown:
            click.echo(one.id)
    return Exit.Ok


def _show_run(invocation: Invocation, sandbox_id: str, ran: Ran) -> Exit:
    ending = Ending(ran.ending)
    value = ran.value.get("text/plain", b"").decode(errors="replace")
    if invocation.as_json:
        invocation.emit(
            {
                "id": sandbox_id,
                "ending": ran.ending,
                "code": ran.code,
                "stdout": ran.stdout.decode(errors="replace"),
                "stderr": ran.stderr.decode(errors="replace"),
                "value": value if ran.value else None,
                "types": sorted({kind for bundle in (ran.value, *ran.displays) for kind in bundle}),
                "error": {"kind": ran.error_kind, "message": ran.error_message, "traceback": ran.traceback}
                if ran.error_kind
                else None,
                "usage": {"wall_s": ran.wall_s, "output_bytes": len(ran.stdout) + len(ran.stderr)},
            }
        )
        return exit_for(ending)
    _write(sys.stdout, ran.stdout)
    _write(sys.stderr, ran.stderr)
    if value:
        _write(sys.stdout, value.encode() + b"\n")
    if ran.error_kind:
        _write(sys.stderr, (ran.traceback or f"{ran.error_kind}: {ran.error_message}\n").encode())
    elif ending not in (Ending.Succeeded, Ending.Failed):
        invocation.say(f"ended {ran.ending}")
    return exit_for(ending)


def _write(target: Any, content: bytes) -> None:
    """Bytes as they are; on a terminal nothing that could command it."""
    if target.isatty():
        text = content.decode(errors="replace")
        target.write("".join(f"{one_line(line)}\n" for line in text.splitlines()))
    else:
        target.buffer.write(content)
    target.flush()


def _life(life: dict[str, Any]) -> dict[str, Any]:
    return {"lifetime_s": None if life["forever"] else life["lifetime"], "idle_s": life["idle"]}


def _limit(text: str) -> tuple[str, float | int]:
    key, _, value = text.partition("=")
    try:
        return key, int(value) if value.isdigit() else float(value)
    except ValueError:
        raise click.UsageError(f"--limit {text}: not KEY=NUMBER") from None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--env {text}: not NAME=VALUE")
    return name, value


def _moment(at_s: float | None) -> str:
    return "" if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")

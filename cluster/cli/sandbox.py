"""`sandpool sandbox create|exec|code|ls|pause|resume|fork|snapshot|push|pull|timeout|rm`: sandboxes that are kept.

On a machine of a running cluster, through Ray (`sandbox_call`). Only asks the hosts and shows what they answer; `exec`
and `code` are in `sandbox_run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cluster.cli.exits import Exit
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.invocation import Invocation, configured
from cluster.cli.safe_text import one_line
from cluster.cli.sandbox_call import Command, ask, hosts_of, owned, show_ids, tenant_of
from cluster.cli.sandbox_run import execute, run_code

if TYPE_CHECKING:
    from workers.sandbox.requests import Views


@click.group()
def sandbox() -> None:
    """Keep sandboxes: create, use, pause, resume, snapshot and fork them."""


sandbox.add_command(execute)
sandbox.add_command(run_code)


def lived(command: Command) -> Command:
    """How long a sandbox stays."""
    span = click.FloatRange(min=0, min_open=True)
    lifetime = click.option(
        "--lifetime", type=span, default=300.0, show_default=True, metavar="SECONDS", help="Then it is destroyed."
    )
    forever = click.option("--forever", is_flag=True, help="It is never destroyed by itself.")
    idle = click.option("--idle", type=span, metavar="SECONDS", help="Unused for so long, it is paused.")
    return lifetime(forever(idle(command)))


def stored(command: Command) -> Command:
    """The option that says in which volume."""
    return click.option("--volume", default="results", show_default=True, metavar="NAME", help="Registered volume.")(
        command
    )


@sandbox.command()
@click.option("--image", default="base", show_default=True, metavar="NAME[@DIGEST]")
@click.option("--from", "snapshot", default="", metavar="SNAPSHOT", help="Go on where this snapshot was taken.")
@click.option("--limit", "limits", multiple=True, metavar="KEY=NUMBER", help="memory_bytes, cpus, ...: docs/images.md.")
@click.option("--db", "databases", multiple=True, metavar="DB", help="Database that it may use (repeat it).")
@lived
@owned
@configured
def create(
    invocation: Invocation,
    tenant: str | None,
    image: str,
    snapshot: str,
    limits: Sequence[str],
    databases: Sequence[str],
    **life: Any,
) -> Exit:
    """Create a sandbox and print its id."""
    from workers.sandbox.requests import Create  # noqa: PLC0415 - 60 ms that --help need not pay

    changed = dict(map(_limit, limits))
    reach = _reach(invocation, tenant_of(invocation, tenant), databases)
    request = Create(image=image, snapshot=snapshot, limits=changed, **reach, **_life(life))
    return show_ids(invocation, ask(invocation, tenant, request))


@sandbox.command("ls")
@owned
@configured
def list_all(invocation: Invocation, tenant: str | None) -> Exit:
    """List the sandboxes and snapshots of a tenant."""
    from workers.sandbox.requests import List  # noqa: PLC0415 - as above

    whose = tenant_of(invocation, tenant)
    with hosts_of(invocation) as hosts:
        answers = hosts.ask_all(whose, List())
    if invocation.as_json:
        everything = [(node, one) for node, views in answers.items() for one in (*views.sandboxes, *views.snapshots)]
        invocation.emit([{**msgspec.to_builtins(one), "node": node} for node, one in everything])
        return Exit.Ok
    rows = rows_of(answers)
    if rows:
        print_grid(grid_from_rows(("id", "state", "image", "created (UTC)", "until (UTC)", "node"), rows, ()))
    return Exit.Ok


def rows_of(answers: Mapping[str, Views]) -> list[tuple[str, ...]]:
    """Node -> what it has, as `ls` shows it. A label may come out of a volume, so it is made harmless."""
    rows: list[tuple[str, ...]] = [
        (one.id, str(one.state), one.image[:40], _moment(one.created_at_s), _moment(one.expires_at_s), node)
        for node, views in answers.items()
        for one in views.sandboxes
    ]
    return rows + [
        (one.id, one_line(f"snapshot {one.label}".strip()), one.image[:40], _moment(one.created_at_s), "", node)
        for node, views in answers.items()
        for one in views.snapshots
    ]


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@owned
@configured
def pause(invocation: Invocation, tenant: str | None, sandbox_id: str) -> Exit:
    """Save a sandbox to disk and free its memory."""
    from workers.sandbox.requests import Pause  # noqa: PLC0415 - as above

    return show_ids(invocation, ask(invocation, tenant, Pause(id=sandbox_id)))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@owned
@configured
def resume(invocation: Invocation, tenant: str | None, sandbox_id: str) -> Exit:
    """Have a paused sandbox go on."""
    from workers.sandbox.requests import Resume  # noqa: PLC0415 - as above

    return show_ids(invocation, ask(invocation, tenant, Resume(id=sandbox_id)))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@click.option("-n", "--count", type=click.IntRange(1), default=1, show_default=True, help="How many copies.")
@owned
@configured
def fork(invocation: Invocation, tenant: str | None, sandbox_id: str, count: int) -> Exit:
    """Copy a sandbox as it is now, and print the ids of the copies."""
    from workers.sandbox.requests import Fork  # noqa: PLC0415 - as above

    return show_ids(invocation, ask(invocation, tenant, Fork(id=sandbox_id, count=count)))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@click.option("--label", default="", metavar="TEXT", help="Shown by `ls`.")
@owned
@configured
def snapshot(invocation: Invocation, tenant: str | None, sandbox_id: str, label: str) -> Exit:
    """Save a sandbox as it is now, and print the snapshot's id for `create --from`."""
    from workers.sandbox.requests import Save  # noqa: PLC0415 - as above

    return show_ids(invocation, ask(invocation, tenant, Save(id=sandbox_id, label=label)))


@sandbox.command()
@click.argument("any_id", metavar="ID")
@stored
@owned
@configured
def push(invocation: Invocation, tenant: str | None, any_id: str, volume: str) -> Exit:
    """Send a snapshot, or a paused sandbox as it is saved, into a volume.

    Its memory is in it, with all that the code had loaded: whoever reads the volume reads that.
    """
    from workers.sandbox.requests import Push  # noqa: PLC0415 - as above

    return show_ids(invocation, ask(invocation, tenant, Push(id=any_id, volume=_volume(invocation, tenant, volume))))


@sandbox.command()
@click.argument("any_id", metavar="ID")
@stored
@click.option("--node", default="", metavar="NAME", help="The node that shall have it; else the first that can.")
@owned
@configured
def pull(invocation: Invocation, tenant: str | None, any_id: str, volume: str, node: str) -> Exit:
    """Take over what was pushed, as a snapshot, and print its id for `create --from`.

    The node must have the same kind of CPU, release of runsc and version of the image.
    """
    from workers.sandbox.requests import Pull  # noqa: PLC0415 - as above

    request = Pull(id=any_id, volume=_volume(invocation, tenant, volume))
    return show_ids(invocation, ask(invocation, tenant, request, node))


@sandbox.command()
@click.argument("sandbox_id", metavar="ID")
@lived
@owned
@configured
def timeout(invocation: Invocation, tenant: str | None, sandbox_id: str, **life: Any) -> Exit:
    """Say anew how long a sandbox stays, from now on."""
    from workers.sandbox.requests import SetTimeout  # noqa: PLC0415 - as above

    return show_ids(invocation, ask(invocation, tenant, SetTimeout(id=sandbox_id, **_life(life))))


@sandbox.command("rm")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@owned
@configured
def remove(invocation: Invocation, tenant: str | None, ids: Sequence[str]) -> Exit:
    """Destroy sandboxes, whatever they do, and delete snapshots."""
    from workers.sandbox.requests import Remove  # noqa: PLC0415 - as above

    whose = tenant_of(invocation, tenant)
    with hosts_of(invocation) as hosts:
        for any_id in ids:
            hosts.ask(whose, Remove(id=any_id))
            if not invocation.as_json:
                click.echo(any_id)
    if invocation.as_json:
        invocation.emit({"removed": list(ids)})
    return Exit.Ok


def _volume(invocation: Invocation, tenant: str | None, name: str) -> str:
    allowed = invocation.settings.tenants[tenant_of(invocation, tenant)].volumes
    if name not in allowed:
        raise click.UsageError(f"--volume {name}: this tenant's volumes are {', '.join(allowed)}")
    return name


def _life(life: dict[str, Any]) -> dict[str, Any]:
    return {"lifetime_s": None if life["forever"] else life["lifetime"], "idle_s": life["idle"]}


def _reach(invocation: Invocation, tenant: str, databases: Sequence[str]) -> dict[str, Any]:
    """The databases, which the tenant must have the right to, and where its statements are recorded. Those that are
    files come whole, so their policies are asked."""
    from cluster.admission import sealed_words  # noqa: PLC0415 - as above
    from cluster.app import policies_of  # noqa: PLC0415 - as above
    from cluster.hosting import engine_rules  # noqa: PLC0415 - as above

    if not databases:
        return {}
    settings = invocation.settings
    rules, engines = settings.tenants[tenant], engine_rules(settings, policies_of(settings))
    for name in databases:
        if name not in rules.databases:
            raise click.UsageError(f"--db {name}: no database of this name can be used by {tenant}'s sandboxes")
        if name in engines and engines[name].keeps_back:
            message, hint = sealed_words(name, engines[name].keeps_back)
            raise click.UsageError(f"--db {name}: {message}; {hint}")
    named = tuple(dict.fromkeys(databases))
    return {
        "databases": tuple(name for name in named if name not in engines),
        "files": tuple(engines[name].as_file(name) for name in named if name in engines),
        "most_files_bytes": settings.sandboxes.most_input_bytes,
        "volume": rules.volumes[0],
    }


def _limit(text: str) -> tuple[str, float | int]:
    key, _, value = text.partition("=")
    try:
        return key, int(value) if value.isdigit() else float(value)
    except ValueError:
        raise click.UsageError(f"--limit {text}: not KEY=NUMBER") from None


def _moment(at_s: float | None) -> str:
    return "" if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")

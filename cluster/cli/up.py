"""`sandpool up`: run the cluster in the foreground until Ctrl-C. The work is done by `cluster.conductor.up`; this says
what runs where.

`--local` puts a private RabbitMQ and PostgreSQL with the real flights data below it, for trying things out.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, configured
from cluster.local.household import furnish
from cluster.local.stage import Stage
from cluster.settings import Settings, load

LOCAL_FOLDER = Path(".sandpool/local")


@click.command()
@click.option("--local", is_flag=True, help=f"On private servers with example data in {LOCAL_FOLDER}, made anew.")
@configured
def up(invocation: Invocation, local: bool) -> int:
    """Run the cluster in the foreground; Ctrl-C drains it.

    That is the scheduler, one pool per database, and Ray when it is local. Ctrl-C (or SIGTERM) drains: nothing more is
    taken, what runs is finished or handed back to the broker. A second Ctrl-C stops at once; no job is lost by that
    either. With --json: one line per change of state.

    With --local it needs no configuration: it starts a private RabbitMQ and a private PostgreSQL that holds the flights
    of 2013, writes a configuration for them, and stops everything at the end. A later --local starts from nothing.
    """
    if not local:
        return _run(invocation, invocation.settings, invocation.config_path)
    if invocation.config is not None:
        raise click.UsageError("--local writes a configuration of its own; leave --config out")
    folder = LOCAL_FOLDER.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o755)
    # Until the cluster is up and drains on signals itself, SIGTERM takes the servers down as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    _tell(invocation, {"state": "starting servers"}, "starting a private RabbitMQ and PostgreSQL, loading the flights")
    with Stage(folder) as stage:
        config = furnish(stage)
        _tell(
            invocation,
            {"state": "starting", "config": str(config)},
            f"in another shell: export SANDPOOL_CONFIG={config}",
        )
        return _run(invocation, load(config), config)


def _run(invocation: Invocation, settings: Settings, config: Path) -> int:
    from cluster.conductor import up as run  # noqa: PLC0415 - ray costs 1 s, which --help and a wrong file need not pay

    said: list[str] = []

    def on_state(state: str) -> None:
        if said[-1:] == [state]:
            return
        said.append(state)
        _tell(invocation, {"state": state}, state)

    def on_ready() -> None:
        overview = overview_of(settings)
        _tell(invocation, {"state": "up", **overview}, "\n".join(overview_lines(overview)))

    on_state("starting")
    code = run(settings, config, on_ready=on_ready, on_state=on_state)
    if code == Exit.Ok:
        on_state("stopped")
    return code


def overview_of(settings: Settings) -> dict[str, Any]:
    """What runs where, without a secret: of the broker's URL only host, port and virtual host."""
    return {
        "broker": shown_url(settings.broker.url.get_secret_value()),
        "ray": settings.ray.address,
        "databases": {
            name: {"engine": database.engine, "connections": database.budget, "read_only": database.read_only}
            for name, database in settings.databases.items()
        },
        "volumes": {name: volume.url for name, volume in settings.volumes.items()},
        "tenants": {name: list(tenant.databases) for name, tenant in settings.tenants.items()},
    }


def overview_lines(overview: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [f"up: jobs come from {overview['broker']}, Ray is {overview['ray']}"]
    for name, database in overview["databases"].items():
        kind = "read only" if database["read_only"] else "with writes"
        lines.append(f"  database {name}: {database['engine']}, {kind}, {database['connections']} connections")
    lines += [f"  volume {name}: {url}" for name, url in overview["volumes"].items()]
    for name, databases in overview["tenants"].items():
        lines.append(f"  tenant {name}: {', '.join(databases) or 'no database'}")
    return [*lines, "Ctrl-C drains; a second Ctrl-C stops at once"]


def shown_url(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _tell(invocation: Invocation, document: dict[str, Any], text: str) -> None:
    if invocation.as_json:
        invocation.emit(document)
    else:
        invocation.say(text)

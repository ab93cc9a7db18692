"""`sandpool database proxy|connect`: a database through the broker, for people and tools on this machine.

No password: who may use the socket is who may enter its folder. Both need the configuration and the tenant's right to
the database, and neither RabbitMQ nor Ray.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
import uvloop

from cluster.app import parts_of
from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, configured
from cluster.errors import SettingsInvalid
from cluster.proxy import open_proxy, tenant_of
from workers.sql.broker.broker import SOCKET_NAME

MOST_CLIENTS = 1000
_DRAIN_S = 10.0


@click.command()
@click.argument("name", metavar="DB")
@click.option("--socket", "folder", type=click.Path(path_type=Path), metavar="DIR", required=True,
              help="Folder for the socket; made, for you alone, when it is missing.")  # fmt: skip
@click.option("--tenant", metavar="T", help="Whose rights; needed where several tenants may use the database.")
@click.option("--clients", type=click.IntRange(1, 10_000), default=MOST_CLIENTS, show_default=True,
              metavar="N", help="Most connections of clients at once.")  # fmt: skip
@configured
def proxy(invocation: Invocation, name: str, folder: Path, tenant: str | None, clients: int) -> Exit:
    """Serve a database on a Unix socket, in the foreground; Ctrl-C drains it.

    Prints one line when it is ready. Then any PostgreSQL client reaches the database, without a password, as far as the
    policy lets the tenant: psql -h DIR -d DB. Every statement passes the policy and shares few connections.
    """
    parts = parts_of(invocation.settings)
    chosen = tenant_of(parts, name, tenant)
    folder = _private(folder)

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with open_proxy(parts, name, chosen, folder, most_sessions=clients) as broker:
            if invocation.as_json:
                invocation.emit({"state": "ready", "database": name, "tenant": chosen, "socket": str(folder)})
            else:
                click.echo(f"ready: psql -h {folder} -d {name}   (tenant {chosen}; Ctrl-C drains)")
            await stop.wait()
            await broker.drain(_DRAIN_S)

    uvloop.run(serve())
    return Exit.Ok


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="DB")
@click.option("--tenant", metavar="T", help="Whose rights; needed where several tenants may use the database.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- PSQL-ARGUMENTS]")
@configured
def connect(invocation: Invocation, name: str, tenant: str | None, arguments: tuple[str, ...]) -> int:
    """Open psql on a database, through the broker. The exit code is psql's."""
    parts = parts_of(invocation.settings)
    chosen = tenant_of(parts, name, tenant)
    program = shutil.which("psql")
    if program is None:
        raise click.UsageError("psql is not installed: install PostgreSQL's client, or use `sandpool database proxy`")

    async def run(folder: Path) -> int:
        surroundings = _environment(invocation.environment, folder, name)
        # Ctrl-C is psql's: it cancels its statement.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
        async with open_proxy(parts, name, chosen, folder, most_sessions=MOST_CLIENTS):
            shell = await asyncio.create_subprocess_exec(program, *arguments, env=surroundings)
            return await shell.wait()

    with tempfile.TemporaryDirectory(prefix="sp-") as made:
        return uvloop.run(run(Path(made)))


def _environment(environment: Mapping[str, str], folder: Path, database: str) -> dict[str, str]:
    """The caller's own, without anything that would lead psql elsewhere."""
    kept = {key: value for key, value in environment.items() if not key.startswith("PG")}
    return {**kept, "PGHOST": str(folder), "PGDATABASE": database, "PGUSER": "sandpool"}


def _private(folder: Path) -> Path:
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / SOCKET_NAME).exists() and _is_served(folder / SOCKET_NAME):
        raise SettingsInvalid(f"{folder}: another proxy serves there; choose another folder")
    return folder


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0

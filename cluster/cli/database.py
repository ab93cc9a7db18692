"""`sandpool database list|check|harden`: the registered databases, seen by whoever runs the cluster.

Needs the configuration; `check` and `harden --connect` connect with the registered role. No DSN is ever printed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import click

from cluster.app import Parts, parts_of
from cluster.cli.exits import Exit
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.hardening import hardening_of
from cluster.cli.invocation import Invocation, configured
from cluster.cli.proxy import connect, proxy
from cluster.cli.safe_text import one_line
from workers.sql.faults import translate
from workers.sql.harden import harden as harden_sql
from workers.sql.policy.catalog import Catalog
from workers.sql.policy.document import EVERY_TABLE, Policy
from workers.sql.pool import Pool
from workers.sql.role import find_problems
from workers.sql.session import Session
from workers.sql.spec import PoolSpec

_CHECK_DEADLINE_S = 60.0


@click.group()
def database() -> None:
    """List, check and harden the registered databases."""


@database.command("list")
@configured
def list_databases(invocation: Invocation) -> Exit:
    """List the databases of the configuration."""
    settings = invocation.settings
    documents: list[dict[str, Any]] = [
        {
            "name": name,
            "engine": each.engine,
            "read_only": each.read_only,
            "connections": each.budget,
            "policy": each.policy,
            "tenants": [tenant for tenant, rules in settings.tenants.items() if name in rules.databases],
        }
        for name, each in settings.databases.items()
    ]
    if invocation.as_json:
        for document in documents:
            invocation.emit(document)
        return Exit.Ok
    rows = [
        (
            str(d["name"]),
            str(d["engine"]),
            "read only" if d["read_only"] else "with writes",
            str(d["connections"]),
            str(d["policy"]),
            ", ".join(map(str, d["tenants"])),
        )
        for d in documents
    ]
    print_grid(
        grid_from_rows(("database", "engine", "mode", "connections", "policy", "tenants"), rows, ("connections",))
    )
    return Exit.Ok


@database.command()
@click.argument("name", metavar="DB")
@configured
def check(invocation: Invocation, name: str) -> Exit:
    """Connect, and say what the role may do beyond its registration and what the policy names in vain.

    Exit code 0 when nothing is wrong, 1 when something is, 5 when the database cannot be reached.
    """
    spec, policy = _registered(parts_of(invocation.settings), name)
    problems = asyncio.run(_check(spec, policy))
    if invocation.as_json:
        invocation.emit({"database": name, "problems": [{"problem": what, "fix": fix} for what, fix in problems]})
    for what, fix in problems if not invocation.as_json else ():
        click.echo(f"{name}: {one_line(what)}\n    fix: {one_line(fix)}")
    if not problems and not invocation.as_json:
        click.echo(f"{name}: the role holds exactly what the registration allows")
    return Exit.Incomplete if problems else Exit.Ok


@database.command()
@click.argument("name", metavar="DB")
@click.option("--connect", is_flag=True, help="Read the database's columns first, for the narrowest grants.")
@configured
def harden(invocation: Invocation, name: str, connect: bool) -> Exit:
    """Print the SQL that gives the database's role exactly what its policy needs.

    Read it, then run it as a superuser in that database; it may be run again. It changes nothing by itself.
    """
    spec, policy = _registered(parts_of(invocation.settings), name)
    catalog = asyncio.run(_catalog(spec)) if connect else None
    timeout_s = invocation.settings.databases[name].statement_timeout_s
    wanted, remarks = hardening_of(spec, policy, catalog, statement_timeout_s=timeout_s)
    sql = harden_sql(wanted)
    if invocation.as_json:
        invocation.emit({"database": name, "sql": sql, "remarks": remarks})
        return Exit.Ok
    for remark in remarks:
        invocation.say(f"remark: {one_line(remark)}")
    click.echo(sql, nl=False)
    return Exit.Ok


database.add_command(proxy)
database.add_command(connect)


def _registered(parts: Parts, name: str) -> tuple[PoolSpec, Policy]:
    if name not in parts.pools:
        known = ", ".join(sorted(parts.pools)) or "none"
        raise click.UsageError(f"database {one_line(name, 80)!r} is not registered; registered are: {known}")
    return parts.pools[name], parts.policies[name]


async def _check(spec: PoolSpec, policy: Policy) -> list[tuple[str, str]]:
    """(what is wrong, how to mend it). Raises WorkerError when the database cannot be asked."""
    try:
        async with asyncio.timeout(_CHECK_DEADLINE_S):
            session = await Session.open(spec)
            try:
                role = str((await session.query("SELECT quote_ident(current_user)"))[0][0])
                problems = await find_problems(session, role, spec)
            finally:
                await session.close()
    except Exception as error:  # noqa: BLE001 - every vendor error becomes one of ours
        raise translate(error) from None
    return problems + in_vain(policy, await _catalog(spec))


async def _catalog(spec: PoolSpec) -> Catalog:
    """What the role sees. Raises WorkerError."""
    pool = Pool(spec, {})
    try:
        return await pool.catalog()
    finally:
        await pool.close()


def in_vain(policy: Policy, catalog: Catalog) -> list[tuple[str, str]]:
    """Tables and columns that the policy names and the role cannot see."""
    schema = policy.schema_name or (catalog.search_path[0] if catalog.search_path else "public")
    columns = {f"{table.schema}.{table.name}": {column.name for column in table.columns} for table in catalog.tables}
    faults = []
    for written, rules in policy.table_policies.items():
        name = written if "." in written else f"{schema}.{written}"
        if written == EVERY_TABLE:
            continue
        if name not in columns:
            faults.append((f"the policy lists {name}, which the role cannot see", "grant SELECT on it or unlist it"))
            continue
        for column in sorted({*(rules.columns or ()), *(rules.mask or {})} - columns[name]):
            what = f"the policy names column {column} of {name}, which the role cannot see"
            faults.append((what, "grant SELECT on it or unlist it"))
    return faults

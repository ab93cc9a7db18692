"""`sandpool node ls|drain`: the nodes of the Ray cluster, as the scheduler counts them. On a machine of the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.exits import Exit
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.invocation import Invocation, configured
from cluster.cli.joining import joined

if TYPE_CHECKING:
    from cluster.membership import Member


@click.group()
def node() -> None:
    """List the nodes of the cluster, and drain one."""


@node.command("ls")
@configured
def list_nodes(invocation: Invocation) -> Exit:
    """List the nodes: roles, labels, and which one is the head or drains."""
    with _ray(invocation) as nodes:
        members = sorted(nodes.look().values(), key=lambda member: member.name)
    rows = [_facts(member) for member in members]
    if invocation.as_json:
        for row in rows:
            invocation.emit(row)
    else:
        names = ("node", "roles", "labels", "state")
        print_grid(grid_from_rows(names, [tuple(str(row[name]) for name in names) for row in rows]))
    return Exit.Ok


@node.command()
@click.argument("name", metavar="NODE")
@click.option(
    "--within",
    "deadline_s",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Then it goes although something runs there.",
)
@configured
def drain(invocation: Invocation, name: str, deadline_s: float) -> Exit:
    """Have a node finish its work, take no more and leave the cluster.

    Ray ends the node once nothing runs there; there is no way back for it but to start it anew. What still runs when
    the time is up is tried again elsewhere. Kept sandboxes of the node end with it: snapshot them first.
    """
    with _ray(invocation) as nodes:
        members = nodes.look()
        if name not in members:
            raise click.UsageError(f"no node {name!r}; there are: {', '.join(sorted(members)) or 'none'}")
        if members[name].is_head:
            raise click.UsageError(f"{name} is Ray's head: stop the cluster instead (SIGTERM to `sandpool up`)")
        nodes.drain(members[name], deadline_s)
    if invocation.as_json:
        invocation.emit({"node": name, "state": "draining"})
    else:
        click.echo(f"{name} drains")
    return Exit.Ok


@contextmanager
def _ray(invocation: Invocation) -> Iterator[Any]:
    from cluster import dispatch_nodes  # noqa: PLC0415 - ray costs 1 s, which --help need not pay

    with joined(invocation):
        yield dispatch_nodes


def _facts(member: Member) -> dict[str, str]:
    labels = " ".join(f"{key}={value}" for key, value in sorted(member.labels.items()) if not key.startswith("ray.io/"))
    return {
        "node": member.name,
        "roles": " ".join(sorted(member.roles)),
        "labels": labels,
        "state": "draining" if member.drains else "head" if member.is_head else "up",
    }

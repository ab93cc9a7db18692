"""How `sandpool sandbox ...` reaches the hosts of a running cluster: whose sandboxes, one question, one answer.

Used by `sandbox` and `sandbox_run`. Only connects and asks; what is asked for is decided by the hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation
from cluster.cli.joining import joined

if TYPE_CHECKING:
    from cluster.dispatch_kept import KeptHosts
    from workers.sandbox.keeping import KeptView, SavedView
    from workers.sandbox.requests import Request, Views

Command = Callable[..., Any]


def owned(command: Command) -> Command:
    """The option that says whose sandboxes are meant."""
    text = "Whose sandboxes; else the only tenant of the configuration."
    return click.option("--tenant", metavar="NAME", help=text)(command)


@contextmanager
def hosts_of(invocation: Invocation) -> Iterator[KeptHosts]:
    """Connected to the cluster of the configuration. Raises NotRunning."""
    from cluster import dispatch_kept as kept  # noqa: PLC0415 - ray costs 1 s, which --help need not pay

    with joined(invocation) as namespace:
        yield kept.KeptHosts(namespace)


def ask(invocation: Invocation, tenant: str | None, request: Request, node: str = "") -> Any:
    """The answer of the host that has one; `node`: of no other."""
    whose = tenant_of(invocation, tenant)  # before seconds are spent on connecting
    with hosts_of(invocation) as hosts:
        return hosts.ask(whose, request, node)


def tenant_of(invocation: Invocation, asked: str | None) -> str:
    """Raises click.UsageError."""
    known = sorted(invocation.settings.tenants)
    if asked is not None and asked in known:
        return asked
    if asked is not None or len(known) != 1:
        raise click.UsageError(f"say whose sandboxes with --tenant: {', '.join(known)}")
    return known[0]


def show_ids(invocation: Invocation, views: Views) -> Exit:
    """An id a line; with --json all that is known."""
    shown: list[KeptView | SavedView] = [*views.sandboxes, *views.snapshots]
    if invocation.as_json:
        built = [msgspec.to_builtins(one) for one in shown]
        invocation.emit(built[0] if len(built) == 1 else built)
    else:
        for one in shown:
            click.echo(one.id)
    return Exit.Ok

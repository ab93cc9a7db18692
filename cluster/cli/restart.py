"""`sandpool restart`: the schedulers anew, one after the other, by `cluster.conductor.restart_all`."""

from __future__ import annotations

from pathlib import Path

import click

from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, configured

START_S = 120.0
"""For a scheduler to be up again after it has drained."""


@click.command()
@configured
def restart(invocation: Invocation) -> Exit:
    """Restart the schedulers one after the other, with the configuration of now.

    On a machine of the cluster, through Ray. Each finishes what it runs or hands it back, ends, and is up again before
    the next one's turn; with `scheduler.replicas` of two or more jobs flow meanwhile, with one they wait in the broker.
    Pools and hosts go on with what they were told when they were started: `sandpool node drain` renews them node by
    node (docs/operations.md, upgrade).
    """
    from cluster.conductor import restart_all  # noqa: PLC0415 - ray costs 1 s, which --help need not pay
    from cluster.dispatch import NAMESPACE  # noqa: PLC0415 - as above
    from cluster.dispatch_kept import join, leave  # noqa: PLC0415 - as above

    settings = invocation.settings
    folder = Path(settings.ray.folder) if settings.ray.folder else Path(settings.folder) / "ray"
    joined = join(NAMESPACE, settings.ray.address, folder)
    try:
        timeout_s = settings.scheduler.drain_timeout_s + START_S
        restart_all(settings.scheduler.replicas, timeout_s, lambda state: _tell(invocation, state))
    finally:
        if joined:
            leave()
    return Exit.Ok


def _tell(invocation: Invocation, state: str) -> None:
    if invocation.as_json:
        invocation.emit({"state": state})
    else:
        click.echo(state)

"""`sandpool restart`: the schedulers anew, one after the other, by `cluster.conductor.restart_all`; then, where that is
asked for, the workers, node by node, by `cluster.dispatch_renewal`."""

from __future__ import annotations

import click

from cluster.cli.exits import Exit
from cluster.cli.invocation import Invocation, configured
from cluster.cli.joining import joined

START_S = 120.0
"""For a scheduler to be up again after it has drained."""


@click.command()
@click.option("--workers", is_flag=True, help="Then the pools and hosts as well, node by node.")
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="With --workers: then a node's workers end although something runs there; it is tried again.",
)
@configured
def restart(invocation: Invocation, workers: bool, within_s: float) -> Exit:
    """Restart schedulers, or workers too, one after the other, with the configuration of now.

    On a machine of the cluster, through Ray. Each finishes what it runs or hands it back, ends, and is up again before
    the next one's turn; with `scheduler.replicas` of two or more jobs flow meanwhile, with one they wait in the broker.
    Pools and hosts go on with what they were told when they were started, but with --workers: then each node in turn
    gets nothing new, finishes what it has, saves its kept sandboxes as paused ones, and gets new workers, while the
    other nodes work (docs/operations.md, upgrade).
    """
    from cluster.conductor import restart_all  # noqa: PLC0415 - ray costs 1 s, which --help need not pay
    from cluster.dispatch_renewal import renew_all  # noqa: PLC0415 - as above

    scheduler = invocation.settings.scheduler
    with joined(invocation):
        timeout_s = scheduler.drain_timeout_s + START_S
        restart_all(scheduler.replicas, timeout_s, lambda state: _tell(invocation, {"state": state}))
        if workers:
            renew_all(scheduler.replicas, within_s, lambda state: _tell(invocation, state))
    return Exit.Ok


def _tell(invocation: Invocation, state: dict[str, str]) -> None:
    if invocation.as_json:
        invocation.emit(state)
    else:
        click.echo(" ".join(part for part in (state.get("node"), state["state"], state.get("why")) if part))

"""`sandpool jobs`: the recorded outcomes of a tenant, read from the volume. Needs neither broker nor scheduler."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from cluster.cli.exits import Exit
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.invocation import Invocation, connected
from cluster.cli.ranges import parse_moment, span_text
from cluster.cli.records import outcome_document
from cluster.cli.safe_text import one_line
from cluster.cli.volumes import registered_volume
from cluster.errors import SettingsInvalid
from sandpool.outcome import Ending, Outcome
from workers.errors import VolumeCorrupt
from workers.volumes.keys import parse_record_key, tenant_prefix
from workers.volumes.record import read_record
from workers.volumes.store import Volume

MOST_CONSIDERED = 100_000
"""Records whose names are held while the newest are sought; older ones are not looked at."""


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else parse_moment(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("--tenant", help="Whose jobs.  [default: the user of the broker URL, else the only tenant there is]")
@click.option("--volume", default="results", show_default=True, help="Registered volume to look in.")
@click.option("--ending", "endings", multiple=True, type=click.Choice(list(Ending)), help="Only these (repeat it).")
@click.option("--since", callback=_since, metavar="WHEN", help="Only what ended since: 90s, 15m, 2h, 7d or ISO 8601.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most jobs to list.")
@connected
def jobs(
    invocation: Invocation,
    tenant: str | None,
    volume: str,
    endings: tuple[str, ...],
    since: datetime | None,
    limit: int,
) -> Exit:
    """List recorded outcomes, newest first.

    Reads the records in the volume, which must be registered in the configuration. Queued and running jobs have no
    record yet: ask `sandpool status`. With --json: one outcome per line.
    """
    store = registered_volume(invocation.settings, volume)
    found: list[Outcome] = []
    for outcome in _newest(invocation, store, tenant or _tenant(invocation), since, limit if not endings else None):
        if endings and outcome.ending not in endings:
            continue
        if invocation.as_json:
            invocation.emit(outcome_document(outcome))
        found.append(outcome)
        if len(found) >= limit:
            break
    if not invocation.as_json:
        _print(found)
    return Exit.Ok


def _tenant(invocation: Invocation) -> str:
    if len(invocation.settings.tenants) == 1:
        return next(iter(invocation.settings.tenants))
    try:
        return invocation.tenant
    except (SettingsInvalid, click.UsageError) as error:
        raise click.UsageError("give --tenant: there is no broker URL that would say who you are") from error


def _newest(
    invocation: Invocation, volume: Volume, tenant: str, since: datetime | None, limit: int | None
) -> Iterator[Outcome]:
    """Outcomes by falling time of their record, which is made once, when the job ends.

    The listing tells that time for every record, so that only the records which are shown are read.
    """
    stamps = (
        (meta.modified_at, name.job_id)
        for meta in volume.list(tenant_prefix(tenant))
        if (since is None or meta.modified_at >= since) and (name := parse_record_key(meta.key)) is not None
    )
    considered = min(limit or MOST_CONSIDERED, MOST_CONSIDERED)
    for _, job_id in heapq.nlargest(considered, stamps):
        try:
            outcome = read_record(volume, tenant, job_id)
        except VolumeCorrupt as error:
            invocation.say(f"job {job_id}: {one_line(error.message)}")
            continue
        if outcome is not None:
            yield outcome


def _print(found: list[Outcome]) -> None:
    names = ("ended", "job", "ending", "rows", "ran", "waited", "error")
    rows = [
        (
            outcome.ended_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            outcome.job_id,
            str(outcome.ending),
            f"{outcome.manifest.rows if outcome.manifest.rows_affected is None else outcome.manifest.rows_affected:,}",
            span_text(outcome.usage.run_s),
            span_text(outcome.usage.wait_s),
            f"{outcome.error.code}: {one_line(outcome.error.message)}" if outcome.error else "",
        )
        for outcome in found
    ]
    print_grid(grid_from_rows(names, rows, right=("rows", "ran", "waited")))

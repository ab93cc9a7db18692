"""`sandpool dead ls|show|requeue|drop`: the operator's way with the messages of `sandpool.dead`.

Needs the configuration: its `broker.url`, and for `requeue` its tenants and volumes. Shows and passes on: what becomes
of a letter is decided in `cluster.dead_letters`. Everything in a letter was written by others, so it is shown with its
control characters as escapes.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from cluster import dead_letters
from cluster.cli.exits import Exit
from cluster.cli.grid import grid_from_rows, print_grid
from cluster.cli.invocation import Invocation, configured
from cluster.cli.safe_text import one_line, visible
from cluster.cli.volumes import registered_volume
from queues.dead import DeadLetters
from queues.errors import NotRequeueable
from queues.letter import Letter
from workers.volumes.store import Volume

SHOWN_BYTES = 64 * 1024
"""Of a body that is no JSON; `--json` has all of it."""

Act = Callable[[DeadLetters, Letter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant."""

    ids: frozenset[str] = frozenset()
    tenant: str = ""
    reason: str = ""

    def matches(self, letter: Letter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and self.tenant in ("", letter.tenant)
            and letter.reason.startswith(self.reason)
        )


@dataclass(slots=True)
class Tally:
    """What came of one call."""

    done: int = 0
    refused: int = 0
    met: set[str] = field(default_factory=set)
    """Of the ids that were asked for, those of which there was a letter."""

    def exit(self, wanted: Filter) -> Exit:
        return Exit.Incomplete if self.refused or self.met != wanted.ids else Exit.Ok


def filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options --tenant and --reason."""
    command = click.option("--tenant", default="", help="Only letters of this tenant.")(command)
    text = "Only letters whose reason starts so, for example tenant.unknown."
    return click.option("--reason", default="", metavar="CODE", help=text)(command)


@click.group()
def dead() -> None:
    """List, show, requeue and drop dead letters.

    A message becomes a dead letter when it is no job that anybody could answer, or when nobody survived taking it.
    """


@dead.command()
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most letters to look at.")
@filtered
@configured
def ls(invocation: Invocation, limit: int, tenant: str, reason: str) -> Exit:
    """List dead letters, oldest first. With --json: one letter per line, without its body."""
    wanted = Filter(tenant=tenant, reason=reason)

    async def look() -> tuple[list[tuple[str, ...]], int]:
        rows: list[tuple[str, ...]] = []
        shown = 0
        async with _opened(invocation) as letters:
            count = await letters.count()
            async for letter in letters.letters():
                if shown >= limit:
                    break
                if not wanted.matches(letter):
                    continue
                shown += 1
                if invocation.as_json:
                    invocation.emit(_document(letter))
                else:
                    rows.append(_row(letter))
        return rows, count

    rows, count = asyncio.run(look())
    if not invocation.as_json:
        names = ("job", "tenant", "died", "attempt", "bytes", "from", "reason")
        print_grid(grid_from_rows(names, rows, right=("attempt", "bytes")))
        invocation.say(f"{len(rows)} shown of {count}")
    return Exit.Ok


@dead.command()
@click.argument("letter_id", metavar="ID")
@filtered
@configured
def show(invocation: Invocation, letter_id: str, tenant: str, reason: str) -> Exit:
    """Print one dead letter with its envelope. Several under one id (of several tenants) are printed one after another.

    The envelope holds the tenant's statement and its parameters. Exit code 1 when there is no such letter.
    """
    wanted = Filter(frozenset({letter_id}), tenant, reason)

    async def act(_letters: DeadLetters, letter: Letter) -> None:
        document = {**_document(letter), "envelope": _envelope(letter)}
        if invocation.as_json:
            invocation.emit({**document, "body_base64": base64.b64encode(letter.message.body).decode()})
        else:
            click.echo(_for_people(document, letter))

    return asyncio.run(_each(invocation, wanted, act, said=""))


@dead.command()
@click.argument("letter_ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All of them, or all that --tenant and --reason leave.")
@filtered
@configured
def requeue(invocation: Invocation, letter_ids: tuple[str, ...], everything: bool, tenant: str, reason: str) -> Exit:
    """Put dead letters back into their queues, each as a job at its first attempt.

    The broker has the job safe before the letter is removed, so that an interrupted call loses nothing. An ending which
    says only that Sandpool gave the job up (job.poison, scheduler.error) is taken back; any other that is recorded
    stands, and whoever takes the job adopts it. Exit code 1 when a letter could not be requeued or there was none.
    """
    wanted = _wanted(letter_ids, everything, tenant, reason)
    homes = _homes(invocation)

    async def act(letters: DeadLetters, letter: Letter) -> None:
        await dead_letters.requeue(letters, letter, homes)

    return asyncio.run(_each(invocation, wanted, act, said="requeued"))


@dead.command()
@click.argument("letter_ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All of them, or all that --tenant and --reason leave.")
@filtered
@configured
def drop(invocation: Invocation, letter_ids: tuple[str, ...], everything: bool, tenant: str, reason: str) -> Exit:
    """Remove dead letters for good. Exit code 1 when there was none of an id that was asked for."""
    wanted = _wanted(letter_ids, everything, tenant, reason)

    async def act(letters: DeadLetters, letter: Letter) -> None:
        await letters.drop(letter)

    return asyncio.run(_each(invocation, wanted, act, said="dropped"))


@asynccontextmanager
async def _opened(invocation: Invocation) -> AsyncIterator[DeadLetters]:
    letters = invocation.dead_letters()
    try:
        await letters.open()
        yield letters
    finally:
        await letters.close()


async def _each(invocation: Invocation, wanted: Filter, act: Act, *, said: str) -> Exit:
    """Act on every letter that is meant, and say what came of it."""
    tally = Tally()
    async with _opened(invocation) as letters:
        async for letter in letters.letters():
            if not wanted.matches(letter):
                continue
            tally.met |= wanted.ids & {letter.id}
            refusal = ""
            try:
                await act(letters, letter)
                tally.done += 1
            except NotRequeueable as error:
                tally.refused += 1
                refusal = str(error)
                invocation.say(f"{letter.id}: not {said}: {one_line(refusal)}")
            if said and invocation.as_json:
                invocation.emit({"id": letter.id, "tenant": letter.tenant, said: not refusal, "refusal": refusal})
    for absent in sorted(wanted.ids - tally.met):
        invocation.say(f"{one_line(absent)}: no such dead letter")
    if said:
        invocation.say(f"{said} {tally.done}" + (f", not {said} {tally.refused}" if tally.refused else ""))
    return tally.exit(wanted)


def _wanted(letter_ids: tuple[str, ...], everything: bool, tenant: str, reason: str) -> Filter:
    if bool(letter_ids) == everything:
        raise click.UsageError("give the ids of letters, or --all")
    return Filter(frozenset(letter_ids), tenant, reason)


def _homes(invocation: Invocation) -> dict[str, tuple[Volume, ...]]:
    settings = invocation.settings
    volumes = {name: registered_volume(settings, name) for name in settings.volumes}
    return {name: tuple(volumes[volume] for volume in tenant.volumes) for name, tenant in settings.tenants.items()}


def _document(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "tenant": letter.tenant,
        "reason": letter.reason,
        "queue": letter.queue,
        "attempt": letter.attempt,
        "deliveries": letter.deliveries,
        "history": [
            {"code": code, "delay_s": letter.delays_s[index] if index < len(letter.delays_s) else None}
            for index, code in enumerate(letter.history)
        ],
        "deaths": [{"queue": death.queue, "reason": death.reason, "count": death.count} for death in letter.deaths],
        "submitted_at": _moment(letter.submitted_at_s),
        "died_at": _moment(letter.died_at_s),
        "size_bytes": letter.size_bytes,
    }


def _row(letter: Letter) -> tuple[str, ...]:
    died = datetime.fromtimestamp(letter.died_at_s).astimezone() if letter.died_at_s else None
    return (
        letter.id,
        letter.tenant,
        died.strftime("%Y-%m-%d %H:%M:%S") if died else "",
        str(letter.attempt),
        f"{letter.size_bytes:,}",
        one_line(letter.queue),
        one_line(letter.reason),
    )


def _envelope(letter: Letter) -> Any:
    """The envelope as JSON; None when the body is none."""
    try:
        return msgspec.json.decode(letter.message.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _for_people(document: dict[str, Any], letter: Letter) -> str:
    if document["envelope"] is None:
        document = {**document, "body": visible(letter.message.body[:SHOWN_BYTES].decode("utf-8", "replace"))}
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    return "\n".join(visible(line) for line in text.splitlines())


def _moment(unix_s: float) -> str | None:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds") if unix_s else None

"""Thousands of jobs while everything breaks: each job has exactly one ending, and nothing is left behind.

`make test` runs CHAOS_JOBS=5000 with every fault once, `make chaos` 20,000 with every fault three times. Each run
prints its seed: CHAOS_SEED=N repeats the plan (not the timing, which is the machine's).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from sandpool import Ending, Outcome
from sandpool.results import read_table
from tests.chaos.drive import drive
from tests.chaos.faults import FAULTS as HOW
from tests.chaos.house import ChaosHouse
from tests.chaos.leftovers import connections_are_idle, nothing_is_left, nothing_waits
from tests.chaos.plan import FAULTS, SHARES, Plan, plan
from tests.chaos.sessions import Sessions
from workers.volumes.record import list_records
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

SEED = int(os.environ.get("CHAOS_SEED", "0")) or secrets.randbelow(10**6)
JOBS = int(os.environ.get("CHAOS_JOBS", "5000"))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
TIMEOUT_S = float(os.environ.get("CHAOS_TIMEOUT_S", "480"))

pytestmark = [
    pytest.mark.timeout(TIMEOUT_S + 120),
    pytest.mark.may_block("the driver of a chaos run is no part of the product"),
]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[ChaosHouse]:
    with ChaosHouse(tmp_path) as opened:
        yield opened


async def test_every_job_has_exactly_one_ending_whatever_breaks(
    house: ChaosHouse, capsys: pytest.CaptureFixture
) -> None:
    started = time.monotonic()

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"  chaos {SEED} {time.monotonic() - started:6.1f} s  {text}", flush=True)

    chosen = plan(SEED, JOBS, ROUNDS, datetime.now(UTC))
    _everything_is_planned(chosen)
    sessions = Sessions(house, SEED)
    async with sessions.running():
        outcomes = await drive(house, chosen, TIMEOUT_S, say)
    say(f"{len(outcomes)} outcomes: {dict(Counter(outcome.ending.value for outcome in outcomes.values()))}")
    say(f"sessions: {dict(sessions.seen)}, longest {sessions.longest_s:.1f} s")
    await asyncio.to_thread(connections_are_idle, house)
    if not await asyncio.to_thread(house.drain):
        # Ray's calls may hang for long after a clock has jumped. What is killed so, the next start clears up.
        say("the drain took too long: killed, started again and drained")
        await asyncio.to_thread(house.restart, kill=False)
        assert await asyncio.to_thread(house.drain), "a cluster that has just been started drains in time"
    volumes = {
        "results": open_volume(VolumeSpec(name="results", url=house.volume.as_uri())),
        "bucket": open_volume(VolumeSpec(name="bucket", url=house.s3.url, options=house.s3.options)),
    }
    assert sessions.wrong == []
    assert sessions.seen["answered"] > 0
    _endings_are_right(chosen, outcomes)
    _records_agree(chosen, outcomes, volumes)
    _data_are_whole(outcomes, house.s3.options)
    _writes_happened_once(chosen, outcomes, house)
    await nothing_waits(house)
    nothing_is_left(house, volumes)


def _everything_is_planned(chosen: Plan) -> None:
    """Every fault, and every kind of job. What is planned has happened, or `drive` says what did not."""
    planned = {part: {fault.name for fault in faults} for part, faults in chosen.faults.items()}
    assert planned == {part: set(names) for part, names in FAULTS.items()}
    assert set(HOW) == {name for names in FAULTS.values() for name in names}
    assert {step.kind for step in chosen.steps} == set(SHARES)


def _endings_are_right(chosen: Plan, outcomes: dict[str, Outcome]) -> None:
    wrong: dict[str, tuple[object, ...]] = {}
    for step in chosen.steps:
        ending = outcomes[step.job.id].ending
        if ending is not step.ending and not (step.cancel and ending is Ending.Cancelled):
            wrong[step.job.id] = (ending, outcomes[step.job.id].error)
        if step.said and outcomes[step.job.id].stdout != step.said:
            wrong[step.job.id] = (ending, outcomes[step.job.id].error, outcomes[step.job.id].stdout)
    assert not wrong


def _records_agree(chosen: Plan, outcomes: dict[str, Outcome], volumes: dict[str, Volume]) -> None:
    """One record per job, in its volume, which says what the client heard."""
    recorded: dict[str, Outcome] = {}
    for name, volume in volumes.items():
        found = _recorded(volume)
        assert set(found) == {step.job.id for step in chosen.steps if step.job.volume == name}
        recorded |= found
    assert set(recorded) == {step.job.id for step in chosen.steps}
    for job_id, outcome in outcomes.items():
        there = recorded[job_id]
        assert (there.ending, there.attempt, there.ended_at) == (outcome.ending, outcome.attempt, outcome.ended_at)
        assert there.manifest == outcome.manifest


def _recorded(volume: Volume) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    after: str | None = ""
    while after is not None:
        page = list_records(volume, "acme", after=after, limit=1000)
        assert page.unreadable == ()
        found |= {outcome.job_id: outcome for outcome in page.outcomes}
        after = page.next_after
    return found


def _data_are_whole(outcomes: dict[str, Outcome], options: dict[str, str]) -> None:
    """Every part is readable and has the right checksum (`read_table` compares), and as many rows as it should."""
    for outcome in outcomes.values():
        if outcome.ending is Ending.Succeeded:
            stored = outcome if not outcome.inline else _without_inline(outcome)
            remote = options if outcome.volume_url.startswith("s3://") else None
            assert read_table(stored, options=remote).num_rows == outcome.manifest.rows


def _without_inline(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, inline=b"")


def _writes_happened_once(chosen: Plan, outcomes: dict[str, Outcome], house: ChaosHouse) -> None:
    wanted = {step.mark for step in chosen.steps if step.mark and outcomes[step.job.id].ending is Ending.Succeeded}
    rows = house.stage.postgres.execute("SELECT job, count(*) FROM marks GROUP BY job", "ledger").split("\n")
    found = {name: int(count) for name, _, count in (row.partition("|") for row in rows if row)}
    assert {name for name, count in found.items() if count != 1} == set()
    assert set(found) == wanted

"""The sweeper is run by somebody: again and again, over every volume, whatever one pass or one volume does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest

from cluster.sweeping import Sweeping
from sandpool.outcome import Ending, Manifest, Outcome, Part
from workers.errors import VolumeUnavailable
from workers.volumes.keys import part_key, record_key
from workers.volumes.record import create_record
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume
from workers.volumes.sweep import Swept


def memory(name: str) -> Volume:
    return open_volume(VolumeSpec(name=name, url=f"memory:///{name}"))


def put_result(volume: Volume, job_id: str, *, expired: bool) -> str:
    key = part_key("acme", job_id, "1-a", 0)
    assert volume.create(key, b"data")
    now = datetime.now(UTC)
    create_record(
        volume,
        Outcome(
            job_id=job_id,
            tenant="acme",
            ending=Ending.Succeeded,
            digest="d",
            volume=volume.name,
            manifest=Manifest(parts=(Part(key, 1, 4, ""),), rows=1),
            ended_at=now,
            retain_until=now + timedelta(seconds=-1 if expired else 3600),
        ),
    )
    return key


@asynccontextmanager
async def swept(volumes: dict[str, Volume], interval_s: float = 0.02) -> AsyncIterator[Sweeping]:
    sweeping = Sweeping(volumes, interval_s)
    sweeping.start()
    try:
        yield sweeping
    finally:
        await sweeping.stop()


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_expired_results_go_with_their_records_and_the_others_stay(request: pytest.FixtureRequest) -> None:
    volume = memory(request.node.name)
    old, new = put_result(volume, "old", expired=True), put_result(volume, "new", expired=False)
    async with swept({"results": volume}):
        await until(lambda: volume.get(old) is None and volume.get(record_key("acme", "old")) is None)
    assert volume.get(new) == b"data" and volume.get(record_key("acme", "new")) is not None


async def test_a_volume_that_is_away_or_breaks_keeps_no_other_from_being_swept(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, broken, well = (memory(f"{request.node.name}-{name}") for name in ("away", "broken", "well"))
    tries: list[str] = []

    def fail(name: str, error: Exception) -> Any:
        def listing(*_: object, **__: object) -> object:
            tries.append(name)
            raise error

        return listing

    monkeypatch.setattr(away, "list", fail("away", VolumeUnavailable("away")))
    monkeypatch.setattr(broken, "list", fail("broken", KeyError("a bug")))
    key = put_result(well, "old", expired=True)
    async with swept({"away": away, "broken": broken, "well": well}):
        await until(lambda: well.get(key) is None)
        await until(lambda: tries.count("away") > 1 and tries.count("broken") > 1)


async def test_a_pass_goes_on_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    cursors: list[str] = []

    def sweep(volume: Volume, now: datetime, *, cursor: str = "") -> Swept:
        cursors.append(cursor)
        return Swept(1, 0, (), "middle" if not cursor else None)

    monkeypatch.setattr("cluster.sweeping.sweep", sweep)
    async with swept({"results": memory("unused")}):
        await until(lambda: len(cursors) >= 4)
    assert cursors[:4] == ["", "middle", "", "middle"]


async def test_a_pass_that_hangs_is_never_started_twice_and_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, started = Event(), []

    def sweep(volume: Volume, now: datetime, *, cursor: str = "") -> Swept:
        started.append(cursor)
        release.wait(5)
        return Swept(0, 0, (), None)

    monkeypatch.setattr("cluster.sweeping.sweep", sweep)
    monkeypatch.setattr("cluster.sweeping.LONGEST_PASS_S", 0.02)
    monkeypatch.setattr("cluster.sweeping.STOP_DEADLINE_S", 0.05)
    async with swept({"results": memory("unused")}):
        await asyncio.sleep(0.3)
    try:
        assert started == [""]
    finally:
        release.set()
        await asyncio.sleep(0.05)


async def test_a_clock_that_is_set_ahead_takes_no_data_from_what_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = memory("ahead")
    part = part_key("acme", "runs", "1-a", 0)
    assert volume.create(part, b"data")
    passes = 0

    def ahead() -> datetime:
        nonlocal passes
        passes += 1
        return datetime.now(UTC) + timedelta(days=30 if passes > 2 else 0)

    monkeypatch.setattr("cluster.sweeping._wall", ahead)
    async with swept({"ahead": volume}):
        await until(lambda: passes > 5)
    assert volume.get(part) == b"data"

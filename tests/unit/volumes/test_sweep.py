"""What the sweeper may remove, decided and done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandpool.job import MAX_TIMEOUT_S
from sandpool.outcome import Ending, File, Manifest, Outcome, Part
from workers.volumes.keys import output_key, parse_data_key, part_key, record_key
from workers.volumes.objects import ObjectMeta
from workers.volumes.record import create_record, read_record
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume
from workers.volumes.sweep import LOSER_GRACE_S, ORPHAN_GRACE_S, doomed, sweep

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = timedelta(days=30)
AGES_S = st.sampled_from([-60.0, 0.0, LOSER_GRACE_S, LOSER_GRACE_S + 1, ORPHAN_GRACE_S, ORPHAN_GRACE_S + 1, 1e7])
FOREIGN = ["acme/job/notes.txt", "acme/job/1-a/part-00000.parquet.bak"]


def _outcome(named: list[str], retain_until: datetime | None = None) -> Outcome:
    parts = tuple(Part(key, 1, 1, "") for key in named if "/out/" not in key)
    files = tuple(File("x", key, 1, "") for key in named if "/out/" in key)
    manifest = Manifest(parts=parts, rows=len(parts), files=files)
    return Outcome(
        job_id="job",
        tenant="acme",
        ending=Ending.Succeeded,
        digest="d",
        volume="v",
        ended_at=NOW,
        manifest=manifest,
        retain_until=retain_until,
    )


@st.composite
def _jobs(draw: st.DrawFn) -> tuple[list[ObjectMeta], Outcome | None]:
    parts = draw(
        st.lists(st.tuples(st.sampled_from(["1-a", "2-b", "3-c"]), st.integers(0, 3)), unique=True, max_size=6)
    )
    keys = [part_key("acme", "job", attempt, number) for attempt, number in parts]
    keys += [output_key("acme", "job", attempt, "out", f"f{number}") for attempt, number in parts if number % 2]
    keys += draw(st.lists(st.sampled_from(FOREIGN), unique=True))
    recorded = draw(st.booleans())
    keys += [record_key("acme", "job")] if recorded else []
    objects = [ObjectMeta(key, 1, NOW - timedelta(seconds=draw(AGES_S))) for key in keys]
    winner = draw(st.sampled_from(["1-a", "2-b", "none"]))
    retain_s = draw(st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 1.0])))
    retain_until = None if retain_s is None else NOW + timedelta(seconds=retain_s)
    return objects, _outcome([key for key in keys if f"/{winner}/" in key], retain_until) if recorded else None


@given(_jobs())
def test_the_sweeper_takes_only_what_nobody_needs(job: tuple[list[ObjectMeta], Outcome | None]) -> None:
    objects, record = job
    keys = doomed(objects, record, NOW)
    age_s = {meta.key: (NOW - meta.modified_at).total_seconds() for meta in objects}
    assert len(set(keys)) == len(keys)
    assert set(keys) <= set(age_s)
    assert not set(keys) & set(FOREIGN)
    parts = {key for key in age_s if parse_data_key(key)}
    if record is None:
        assert set(keys) == {key for key in parts if age_s[key] > ORPHAN_GRACE_S}
    elif record.retain_until is not None and record.retain_until <= NOW:
        assert set(keys) == parts | {record_key("acme", "job")}
        assert keys[-1] == record_key("acme", "job")
    else:
        named = record.keys()
        assert set(keys) == {key for key in parts - named if age_s[key] > LOSER_GRACE_S}


def test_no_attempt_can_outlast_the_grace_of_its_parts() -> None:
    assert ORPHAN_GRACE_S > MAX_TIMEOUT_S


@pytest.fixture(params=["memory", "file"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    url = f"memory:///{uuid4().hex}" if request.param == "memory" else (tmp_path / "volume").as_uri()
    return open_volume(VolumeSpec(name="results", url=url))


def _keys(volume: Volume) -> list[str]:
    return [meta.key for meta in volume.list()]


def test_a_pass_removes_losers_orphans_and_the_expired(volume: Volume) -> None:
    now = datetime.now(UTC)
    won, lost = part_key("acme", "job", "2-b", 0), part_key("acme", "job", "1-a", 0)
    orphan = part_key("acme", "orphan", "1-a", 0)
    expired = part_key("acme", "expired", "1-a", 0)
    for key in (won, lost, orphan, expired, "acme/stranger.txt"):
        volume.create(key, b"x")
    create_record(volume, _outcome([won]))
    create_record(volume, msgspec.structs.replace(_outcome([expired], now + timedelta(hours=2)), job_id="expired"))
    everything = _keys(volume)
    assert sweep(volume, now).removed == 0
    assert _keys(volume) == everything
    sweep(volume, now + timedelta(hours=1, minutes=1))
    assert lost not in _keys(volume)
    assert expired in _keys(volume)
    sweep(volume, now + timedelta(hours=3))
    assert not [key for key in _keys(volume) if "expired" in key]
    assert orphan in _keys(volume)
    result = sweep(volume, now + LATER)
    assert (result.removed, result.cursor) == (1, None)
    assert _keys(volume) == sorted([won, record_key("acme", "job"), "acme/stranger.txt"])


def test_passes_are_bounded_and_together_see_every_job(volume: Volume) -> None:
    for number in range(10):
        for part in range(3):
            volume.create(part_key("acme", f"job-{number}", "1-a", part), b"x")
    cursor: str | None = ""
    removed = []
    while cursor is not None:
        result = sweep(volume, datetime.now(UTC) + LATER, cursor=cursor, max_objects=4)
        assert result.scanned <= 6
        removed.append(result.removed)
        cursor = result.cursor
    assert sum(removed) == 30
    assert len(removed) == 5
    assert _keys(volume) == []


def test_a_corrupt_record_protects_its_job_and_is_reported(volume: Volume) -> None:
    volume.create(record_key("acme", "job"), b"?")
    volume.create(part_key("acme", "job", "1-a", 0), b"x")
    volume.create(part_key("acme", "later", "1-a", 0), b"x")
    result = sweep(volume, datetime.now(UTC) + LATER)
    assert result.corrupt == (record_key("acme", "job"),)
    assert _keys(volume) == sorted([record_key("acme", "job"), part_key("acme", "job", "1-a", 0)])


def test_a_result_that_is_recorded_during_the_pass_is_kept(volume: Volume) -> None:
    part = part_key("acme", "job", "1-a", 0)
    volume.create(part, b"x")
    outcome = _outcome([part])

    class Recording:
        """Somebody records the outcome between our listing and our look at the record."""

        name = volume.name
        get, delete = staticmethod(volume.get), staticmethod(volume.delete)

        @staticmethod
        def list(prefix: str = "", *, start_after: str = "") -> list[ObjectMeta]:
            listing = list(volume.list(prefix, start_after=start_after))
            create_record(volume, outcome)
            return listing

    assert sweep(Recording(), datetime.now(UTC) + LATER).removed == 0  # type: ignore[arg-type]
    assert volume.get(part) == b"x"
    assert read_record(volume, "acme", "job") == outcome

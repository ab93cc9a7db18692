"""The record: made once, adopted by everybody else, never believed when it is not this job's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from sandpool.job import new_job_id
from sandpool.outcome import Ending, Outcome
from sandpool.wire import encode_record
from workers.errors import VolumeCorrupt, VolumeUnavailable
from workers.volumes.keys import UnsafeName, record_key
from workers.volumes.record import (
    MAX_RECORD_BYTES,
    acreate_record,
    aread_record,
    create_record,
    list_records,
    read_record,
)
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume


@pytest.fixture(params=["memory", "file"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    url = f"memory:///{uuid4().hex}" if request.param == "memory" else (tmp_path / "volume").as_uri()
    return open_volume(VolumeSpec(name="results", url=url))


def _outcome(job_id: str = "job", tenant: str = "acme", ending: Ending = Ending.Succeeded) -> Outcome:
    return Outcome(
        job_id=job_id, tenant=tenant, ending=ending, digest="d", volume="results", ended_at=datetime.now(UTC)
    )


def test_the_first_outcome_is_recorded_and_every_later_one_adopts_it(volume: Volume) -> None:
    first, second = _outcome(), _outcome(ending=Ending.Cancelled)
    assert create_record(volume, first) is first
    adopted = create_record(volume, second)
    assert adopted == first
    assert read_record(volume, "acme", "job") == first


def test_a_job_that_has_not_ended_has_no_record(volume: Volume) -> None:
    assert read_record(volume, "acme", "job") is None


@pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")
async def test_the_async_twins_do_the_same(volume: Volume) -> None:
    first = _outcome()
    assert await aread_record(volume, "acme", "job") is None
    assert await acreate_record(volume, first) is first
    assert await acreate_record(volume, _outcome(ending=Ending.Lost)) == first
    assert await aread_record(volume, "acme", "job") == first


def test_of_many_endings_at_once_all_agree_on_one(volume: Volume) -> None:
    endings = [Ending.Succeeded, Ending.Cancelled, Ending.Lost, Ending.TimedOut] * 2
    barrier = threading.Barrier(len(endings))

    def end(ending: Ending) -> Outcome:
        barrier.wait(10)
        return create_record(volume, _outcome(ending=ending))

    with ThreadPoolExecutor(len(endings)) as threads:
        agreed = set(map(encode_record, threads.map(end, endings, timeout=30)))
    assert len(agreed) == 1


def test_the_inline_rows_stay_with_the_caller_and_out_of_the_record(volume: Volume) -> None:
    outcome = msgspec.structs.replace(_outcome(), inline=b"rows")
    assert create_record(volume, outcome).inline == b"rows"
    stored = read_record(volume, "acme", "job")
    assert stored is not None
    assert stored.inline == b""


def test_a_create_whose_answer_was_lost_still_counts_as_ours(volume: Volume) -> None:
    outcome = msgspec.structs.replace(_outcome(), inline=b"rows")
    # The store has it, but the client library's own retry was told that it exists.
    volume.create(record_key("acme", "job"), encode_record(outcome))
    assert create_record(volume, outcome) is outcome


def test_two_tenants_may_use_the_same_job_id(volume: Volume) -> None:
    ours, theirs = _outcome(tenant="acme"), _outcome(tenant="../acme", ending=Ending.Failed)
    create_record(volume, ours)
    create_record(volume, theirs)
    assert read_record(volume, "acme", "job") == ours
    assert read_record(volume, "../acme", "job") == theirs


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\x00" * 100,
        b'{"v":2,"kind":"outcome","body":{}}',
        encode_record(_outcome(job_id="another")),
        encode_record(_outcome(tenant="another")),
        b" " * (MAX_RECORD_BYTES + 1),
    ],
    ids=["empty", "no-envelope", "zeros", "version", "other-job", "other-tenant", "huge"],
)
def test_a_corrupt_record_is_never_adopted(volume: Volume, data: bytes) -> None:
    volume.create(record_key("acme", "job"), data)
    with pytest.raises(VolumeCorrupt) as caught:
        create_record(volume, _outcome())
    assert "job" in str(caught.value) or "bytes" in str(caught.value)
    with pytest.raises(VolumeCorrupt):
        read_record(volume, "acme", "job")


def test_a_record_that_vanishes_while_it_is_adopted_is_worth_another_try(volume: Volume) -> None:
    class Sweeping:
        name = volume.name
        get = staticmethod(volume.get)

        @staticmethod
        def create(_key: str, _data: bytes) -> bool:
            return False

    with pytest.raises(VolumeUnavailable):
        create_record(Sweeping(), _outcome())  # type: ignore[arg-type]


def test_an_unsafe_name_records_nothing(volume: Volume) -> None:
    for outcome in (_outcome(job_id="../x"), _outcome(tenant="")):
        with pytest.raises(UnsafeName):
            create_record(volume, outcome)
    assert list(volume.list()) == []


def test_records_are_listed_in_pages_without_their_data_or_strangers(volume: Volume) -> None:
    ids = sorted(["a", "a-b", "a0", "b", "c", "z"])
    ids.sort(key=lambda job_id: job_id + "/")
    for job_id in ids:
        create_record(volume, _outcome(job_id=job_id))
        volume.create(f"acme/{job_id}/1-x/part-00000.parquet", b"x")
    create_record(volume, _outcome(tenant="acme-2"))
    volume.create(record_key("acme", "broken"), b"?")
    seen: list[str] = []
    unreadable: list[str] = []
    after, pages = "", 0
    while True:
        page = list_records(volume, "acme", after=after, limit=2)
        seen += [outcome.job_id for outcome in page.outcomes]
        unreadable += page.unreadable
        pages += 1
        if page.next_after is None:
            break
        after = page.next_after
    assert seen == ids
    assert unreadable == ["broken"]
    assert pages == 4


def test_records_since_a_moment_are_found_without_reading_the_older(volume: Volume) -> None:
    old = "0" * 12 + "0" * 20
    create_record(volume, _outcome(job_id=old))
    create_record(volume, _outcome(job_id=(new := new_job_id())))
    page = list_records(volume, "acme", since=datetime.now(UTC) - timedelta(hours=1))
    assert [outcome.job_id for outcome in page.outcomes] == [new]
    assert list_records(volume, "acme").outcomes[0].job_id == old

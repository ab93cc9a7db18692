"""A result written to S3 and read back as a service does it: with credentials from its environment or given."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from uuid import uuid4

import pyarrow as pa
import pytest

from sandpool import results
from sandpool.errors import ResultUnavailable
from sandpool.outcome import Ending, Outcome
from tests.support.s3 import S3Server
from workers.volumes.keys import part_key
from workers.volumes.result import ResultWriter, write_small
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

ROWS = 300_000
SCHEMA = pa.schema([("n", pa.int64()), ("noise", pa.binary())])


@pytest.fixture(scope="module")
def volume(s3: S3Server) -> Volume:
    return open_volume(VolumeSpec(name="results", url=f"{s3.url}/{uuid4().hex}", options=s3.options))


@pytest.fixture(scope="module")
def outcome(volume: Volume) -> Outcome:
    """About 18 MB in two parts: above one chunk of a multipart upload, so that the first is really streamed."""
    noise = random.Random(7)
    limits = {"part_bytes": 10_000_000, "row_group_bytes": 2_000_000}
    with ResultWriter(volume, "acme", "job", "1-a", SCHEMA, (), **limits) as writer:
        for start in range(0, ROWS, 10_000):
            numbers = range(start, start + 10_000)
            blobs = [noise.randbytes(50) for _ in numbers]
            writer.write(pa.RecordBatch.from_arrays([pa.array(numbers), pa.array(blobs)], schema=SCHEMA))
        manifest = writer.finish()
    assert len(manifest.parts) == 2
    assert manifest.parts[0].size_bytes > 8 * 1024 * 1024
    return Outcome(
        job_id="job",
        tenant="acme",
        ending=Ending.Succeeded,
        digest="d",
        volume="results",
        volume_url=volume.url,
        ended_at=datetime.now(UTC),
        manifest=manifest,
    )


@pytest.fixture
def _credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_credentials")
def test_the_environments_credentials_are_enough(outcome: Outcome) -> None:
    table = outcome.table()
    assert table.schema == SCHEMA
    assert table.column("n").to_pylist() == list(range(ROWS))


def test_given_options_are_enough(outcome: Outcome, s3: S3Server) -> None:
    numbers = [n for batch in results.read_batches(outcome, options=s3.options) for n in batch.column("n").to_pylist()]
    assert numbers == list(range(ROWS))


def test_swept_data_is_unavailable(outcome: Outcome, volume: Volume, s3: S3Server) -> None:
    manifest = write_small(volume, "acme", "job", "2-b", pa.table({"n": [1]}), ())
    volume.delete([part_key("acme", "job", "2-b", 0)])
    gone = Outcome(
        job_id="job",
        tenant="acme",
        ending=Ending.Succeeded,
        digest="d",
        volume="results",
        volume_url=outcome.volume_url,
        ended_at=outcome.ended_at,
        manifest=manifest,
    )
    with pytest.raises(ResultUnavailable, match="retention"):
        results.read_table(gone, options=s3.options)


def test_an_object_that_was_replaced_is_never_decoded(outcome: Outcome, s3: S3Server) -> None:
    part = outcome.manifest.parts[1]
    path = "/" + outcome.volume_url.removeprefix("s3://") + "/" + part.key
    status, data = s3.call("GET", path)
    assert status == 200
    assert s3.call("PUT", path, data[:-1] + b"\x00")[0] == 200
    try:
        with pytest.raises(ResultUnavailable, match="checksum"):
            results.read_table(outcome, options=s3.options)
        assert s3.call("PUT", path, data[: len(data) // 2])[0] == 200
        with pytest.raises(ResultUnavailable):
            results.read_table(outcome, options=s3.options)
    finally:
        s3.call("PUT", path, data)

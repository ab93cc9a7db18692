"""Writing a result: small in one create, large as parts whose manifest is right, nothing left after an abort."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandpool.outcome import Column, Manifest
from workers.errors import UnrepresentableValue, VolumeCorrupt, VolumeFull
from workers.volumes.keys import UnsafeName
from workers.volumes.result import ResultWriter, awrite_small, write_small
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, Writer, open_volume

TABLE = pa.table({"carrier": [f"c{n}" for n in range(16)], "n": list(range(16)), "delay": [n / 2 for n in range(16)]})
COLUMNS = tuple(Column(field.name, str(field.type), "text") for field in TABLE.schema)
NAME = ("acme", "job", "1-abc")


@pytest.fixture(params=["memory", "file"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    url = f"memory:///{uuid4().hex}" if request.param == "memory" else (tmp_path / "volume").as_uri()
    return open_volume(VolumeSpec(name="results", url=url))


def _read(volume: Volume, manifest: Manifest) -> pa.Table:
    tables = []
    for part in manifest.parts:
        data = volume.get(part.key)
        assert data is not None
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part.size_bytes, part.sha256)
        tables.append(pq.read_table(io.BytesIO(data)))
        assert tables[-1].num_rows == part.rows
    assert manifest.rows == sum(part.rows for part in manifest.parts)
    assert manifest.size_bytes == sum(part.size_bytes for part in manifest.parts)
    return pa.concat_tables(tables)


def test_a_small_result_is_one_part(volume: Volume) -> None:
    manifest = write_small(volume, *NAME, TABLE, COLUMNS)
    assert [part.key for part in manifest.parts] == ["acme/job/1-abc/part-00000.parquet"]
    assert manifest.columns == COLUMNS
    assert _read(volume, manifest).equals(TABLE)


def test_an_empty_result_keeps_its_columns(volume: Volume) -> None:
    assert _read(volume, write_small(volume, *NAME, TABLE.slice(0, 0), COLUMNS)).schema == TABLE.schema
    with ResultWriter(volume, "acme", "job", "2-abc", TABLE.schema, COLUMNS) as writer:
        manifest = writer.finish()
    assert (manifest.rows, len(manifest.parts)) == (0, 1)
    assert _read(volume, manifest).schema == TABLE.schema


def test_writing_the_same_small_result_again_is_no_error(volume: Volume) -> None:
    # An object store's own retry after a lost answer looks like this.
    assert write_small(volume, *NAME, TABLE, COLUMNS) == write_small(volume, *NAME, TABLE, COLUMNS)


def test_another_result_under_the_same_attempt_is_corrupt(volume: Volume) -> None:
    write_small(volume, *NAME, TABLE, COLUMNS)
    with pytest.raises(VolumeCorrupt):
        write_small(volume, *NAME, TABLE.slice(1), COLUMNS)


@pytest.mark.may_block("file volumes work on the loop: workers.volumes.local")
async def test_the_async_twin_writes_the_same(volume: Volume) -> None:
    assert _read(volume, await awrite_small(volume, *NAME, TABLE, COLUMNS)).equals(TABLE)
    assert (await awrite_small(volume, *NAME, TABLE, COLUMNS)).rows == TABLE.num_rows
    with pytest.raises(VolumeCorrupt):
        await awrite_small(volume, *NAME, TABLE.slice(1), COLUMNS)


def test_a_small_result_of_another_engine_is_made_ready(volume: Volume) -> None:
    table = pa.table({"i": pa.chunked_array([[pa.MonthDayNano((1, 2, 3))], [None]], pa.month_day_nano_interval())})
    rows = _read(volume, write_small(volume, *NAME, table, ())).column("i").to_pylist()
    assert rows == [{"months": 1, "days": 2, "nanoseconds": 3}, None]


def test_a_streamed_result_rolls_over_to_new_parts(volume: Volume) -> None:
    noise = pa.table({"n": range(200_000), "text": [hashlib.md5(b"%d" % n).hexdigest() for n in range(200_000)]})
    writer = ResultWriter(volume, *NAME, noise.schema, (), part_bytes=1_000_000, row_group_bytes=500_000)
    for batch in noise.to_batches(max_chunksize=7_000):
        writer.write(batch)
    manifest = writer.finish(partial=True)
    assert manifest.partial
    assert len(manifest.parts) > 3
    assert [part.key[-13:-8] for part in manifest.parts] == [f"{n:05d}" for n in range(len(manifest.parts))]
    assert all(part.size_bytes < 1_500_000 for part in manifest.parts)
    assert _read(volume, manifest).equals(noise)
    for part in manifest.parts:
        file = pq.ParquetFile(io.BytesIO(volume.get(part.key) or b""))
        for group in range(file.metadata.num_row_groups):
            assert file.metadata.row_group(group).total_byte_size < 700_000
            assert file.metadata.row_group(group).column(0).compression == "ZSTD"


@settings(
    max_examples=min(30, settings.default.max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sizes=st.lists(st.integers(0, 300), max_size=12), group=st.integers(1, 5_000), part=st.integers(1, 20_000))
def test_any_batches_come_back_in_order_whatever_the_limits(sizes: list[int], group: int, part: int) -> None:
    volume = open_volume(VolumeSpec(name="results", url=f"memory:///{uuid4().hex}"))
    schema = pa.schema([("n", pa.int64())])
    writer = ResultWriter(volume, *NAME, schema, (), part_bytes=part, row_group_bytes=group)
    rows = 0
    for size in sizes:
        writer.write(pa.RecordBatch.from_arrays([pa.array(range(rows, rows + size), pa.int64())], schema=schema))
        rows += size
    manifest = writer.finish()
    assert _read(volume, manifest).column("n").to_pylist() == list(range(rows))


def test_an_aborted_result_leaves_nothing(volume: Volume) -> None:
    writer = ResultWriter(volume, *NAME, TABLE.schema, COLUMNS, part_bytes=1, row_group_bytes=100)
    for batch in TABLE.to_batches():
        writer.write(batch)
    assert list(volume.list())
    writer.abort()
    writer.abort()
    assert list(volume.list()) == []


def test_leaving_by_an_error_aborts(volume: Volume) -> None:
    def fail() -> None:
        with ResultWriter(volume, *NAME, TABLE.schema, COLUMNS, row_group_bytes=1) as writer:
            writer.write(TABLE.to_batches()[0])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(volume.list()) == []


def test_a_batch_of_another_schema_is_a_programming_error(volume: Volume) -> None:
    writer = ResultWriter(volume, *NAME, TABLE.schema, COLUMNS)
    with pytest.raises(ValueError, match="schema"):
        writer.write(TABLE.select(["n"]).to_batches()[0])


def test_bad_names_and_types_fail_before_anything_is_written(volume: Volume) -> None:
    with pytest.raises(UnsafeName):
        ResultWriter(volume, "acme", "../job", "1-a", TABLE.schema, COLUMNS)
    with pytest.raises(UnsafeName):
        write_small(volume, "", "job", "1-a", TABLE, COLUMNS)
    with pytest.raises(UnrepresentableValue):
        ResultWriter(volume, *NAME, pa.schema([("x", pa.struct([]))]), ())
    assert list(volume.list()) == []


class _FillingVolume:
    """A volume whose disk is full after some bytes of a streamed object: where pyarrow is in the middle of a write."""

    name, url = "results", "memory:///"

    def __init__(self, volume: Volume, space_bytes: int) -> None:
        self._volume, self._space_bytes = volume, space_bytes
        self.aborted = 0

    def open_writer(self, key: str) -> Writer:
        outer, writer = self, self._volume.open_writer(key)

        class Filling:
            def write(self, data: bytes) -> int:
                outer._space_bytes -= len(data)
                if outer._space_bytes < 0:
                    raise VolumeFull("volume results: no space left")
                return writer.write(data)

            def close(self) -> None:
                writer.close()

            def abort(self) -> None:
                outer.aborted += 1
                writer.abort()

        return Filling()

    def delete(self, keys: list[str]) -> None:
        self._volume.delete(keys)


@pytest.mark.parametrize("space_bytes", [0, 3, 1_000, 40_000])
def test_a_disk_that_fills_while_pyarrow_writes_ends_as_volume_full(volume: Volume, space_bytes: int) -> None:
    filling = _FillingVolume(volume, space_bytes)
    writer = ResultWriter(filling, *NAME, pa.schema([("n", pa.int64())]), (), row_group_bytes=10_000)  # type: ignore[arg-type]
    with pytest.raises(VolumeFull):
        for start in range(0, 100_000, 1_000):
            writer.write(pa.RecordBatch.from_arrays([pa.array(range(start, start + 1000))], names=["n"]))
        writer.finish()
    writer.abort()
    del writer
    assert filling.aborted
    assert list(volume.list()) == []

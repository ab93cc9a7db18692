"""Reading an outcome's rows back, and every way in which its data may be missing, changed or a trap."""

from __future__ import annotations

import hashlib
import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sandpool import results
from sandpool.errors import JobFailed, ResultUnavailable
from sandpool.outcome import Ending, Manifest, Outcome, Part
from workers.volumes.result import ResultWriter, write_small
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

TABLE = pa.table(
    {
        "u": pa.array([b"0123456789abcdef", None, b"f" * 16], pa.uuid()),
        "ts": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
        "d": pa.array([None, 2, 3], pa.duration("us")),
        "l": pa.array([["x"], [], None], pa.large_list(pa.string())),
        "k": pa.array(["a", "b", "a"]).dictionary_encode(),
    }
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "volume"


@pytest.fixture
def volume(root: Path) -> Volume:
    return open_volume(VolumeSpec(name="results", url=root.as_uri()))


@pytest.fixture
def outcome(volume: Volume) -> Outcome:
    return _outcome(volume, write_small(volume, "acme", "job", "1-a", TABLE, ()))


def _outcome(volume: Volume, manifest: Manifest, ending: Ending = Ending.Succeeded) -> Outcome:
    return Outcome(
        job_id="job",
        tenant="acme",
        ending=ending,
        digest="d",
        volume="results",
        volume_url=volume.url,
        ended_at=datetime.now(UTC),
        manifest=manifest,
    )


def _stored(volume: Volume, data: bytes, rows: int) -> Outcome:
    key = "acme/job/9-z/part-00000.parquet"
    assert volume.create(key, data)
    part = Part(key, rows, len(data), hashlib.sha256(data).hexdigest())
    return _outcome(volume, Manifest(parts=(part,), rows=rows, size_bytes=len(data)))


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _changed(outcome: Outcome, **fields: Any) -> Outcome:
    (part,) = outcome.manifest.parts
    parts = (msgspec.structs.replace(part, **fields),)
    return msgspec.structs.replace(outcome, manifest=msgspec.structs.replace(outcome.manifest, parts=parts))


def test_a_stored_result_comes_back_with_its_exact_types(outcome: Outcome) -> None:
    table = outcome.table()
    assert table.schema == TABLE.schema
    assert table.equals(TABLE)


def test_an_inline_result_is_the_same_as_the_stored_one(outcome: Outcome) -> None:
    inline = msgspec.structs.replace(outcome, inline=_ipc(TABLE), volume_url="s3://nobody/asks")
    assert inline.table().equals(outcome.table())
    for table in (inline.table(), outcome.table()):
        assert table.schema == TABLE.schema
        assert not table.schema.metadata
        assert not any(field.metadata for field in table.schema)
    assert pa.Table.from_batches(results.read_batches(inline, batch_rows=2)).equals(TABLE)


def test_many_parts_come_back_in_order_in_batches_of_the_asked_size(volume: Volume) -> None:
    schema = pa.schema([("n", pa.int64())])
    writer = ResultWriter(volume, "acme", "job", "1-a", schema, (), part_bytes=3_000, row_group_bytes=4_000)
    for start in range(0, 5_000, 100):
        writer.write(pa.RecordBatch.from_arrays([pa.array(range(start, start + 100))], schema=schema))
    outcome = _outcome(volume, writer.finish())
    assert len(outcome.manifest.parts) > 2
    assert outcome.table().column("n").to_pylist() == list(range(5_000))
    batches = list(results.read_batches(outcome, batch_rows=64))
    assert max(batch.num_rows for batch in batches) <= 64
    assert [n for batch in batches for n in batch.column(0).to_pylist()] == list(range(5_000))


def test_a_result_without_rows_or_columns_is_an_empty_table(volume: Volume) -> None:
    outcome = _outcome(volume, Manifest(rows_affected=3))
    assert outcome.table().num_columns == 0
    assert list(results.read_batches(outcome)) == []


def test_a_partial_result_is_read_only_when_asked_for(volume: Volume, outcome: Outcome) -> None:
    capped = msgspec.structs.replace(outcome, ending=Ending.OutputCapped)
    assert capped.table(allow_partial=True).equals(TABLE)
    with pytest.raises(JobFailed):
        msgspec.structs.replace(outcome, ending=Ending.Failed).table(allow_partial=True)


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "acme/../job/1-a/part-00000.parquet",
        "acme/job/../part-00000.parquet",
        "acme/other/1-a/part-00000.parquet",
        "acme/job/manifest.json",
        "acme/job/1-a/part-00000.parquet/../../x",
        "acme/job/1-a/part-00000.parquet\n",
        "",
    ],
)
def test_a_forged_key_is_refused_before_anything_is_opened(outcome: Outcome, key: str) -> None:
    with pytest.raises(ResultUnavailable, match="not its data"):
        _changed(outcome, key=key).table()


@pytest.mark.parametrize("level", ["acme", "acme/job", "acme/job/1-a", "acme/job/1-a/part-00000.parquet"])
def test_a_link_in_the_volume_is_not_followed(outcome: Outcome, root: Path, level: str) -> None:
    path = root / level
    path.rename(root / "moved")
    path.symlink_to(root / "moved")
    with pytest.raises(ResultUnavailable):
        outcome.table()


def test_a_pipe_in_place_of_the_data_does_not_hang(outcome: Outcome, root: Path) -> None:
    path = root / outcome.manifest.parts[0].key
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ResultUnavailable):
        outcome.table()


def test_changed_bytes_are_never_decoded(outcome: Outcome, root: Path) -> None:
    path = root / outcome.manifest.parts[0].key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ResultUnavailable, match="checksum"):
        outcome.table()
    with pytest.raises(ResultUnavailable, match="checksum"):
        next(results.read_batches(outcome))


@pytest.mark.parametrize("fields", [{"rows": 4}, {"size_bytes": 10}, {"sha256": "0" * 64}])
def test_a_manifest_that_does_not_match_its_data_is_refused(outcome: Outcome, fields: dict[str, Any]) -> None:
    with pytest.raises(ResultUnavailable):
        _changed(outcome, **fields).table()


def test_swept_data_says_so(volume: Volume, outcome: Outcome) -> None:
    volume.delete([outcome.manifest.parts[0].key])
    with pytest.raises(ResultUnavailable, match="retention"):
        outcome.table()


@pytest.mark.parametrize(
    "url", ["memory:///x", "ftp://x/y", "", "file:///x?y=1", "s3://key:secret@bucket/x", "az://container/x"]
)
def test_a_volume_that_cannot_be_read_from_here_is_unavailable(outcome: Outcome, url: str) -> None:
    with pytest.raises(ResultUnavailable) as caught:
        msgspec.structs.replace(outcome, volume_url=url).table()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"PAR1PAR1PAR1",
        b"\xff" * 4096,
        b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x7fPAR1",
        b"PAR1" + b"x" * 90 + b"\x50\0\0\0PAR1",
    ],
)
def test_what_is_no_parquet_is_unavailable(volume: Volume, data: bytes) -> None:
    with pytest.raises(ResultUnavailable):
        _stored(volume, data, 1).table()


@pytest.mark.parametrize(
    "data", [b"x", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x10\0\0\0" + b"\0" * 8, _ipc(TABLE)[:-40], _ipc(TABLE)[:100]]
)
def test_a_damaged_inline_result_is_unavailable(outcome: Outcome, data: bytes) -> None:
    with pytest.raises(ResultUnavailable):
        msgspec.structs.replace(outcome, inline=data).table()


def test_inline_offsets_that_point_outside_are_refused(outcome: Outcome) -> None:
    table = pa.table({"s": ["abcdefgh"]})
    data = _ipc(table)
    evil = data.replace(
        (0).to_bytes(4, "little") + (8).to_bytes(4, "little"),
        (0).to_bytes(4, "little") + (9_999_999).to_bytes(4, "little"),
    )
    assert evil != data
    with pytest.raises(ResultUnavailable):
        msgspec.structs.replace(outcome, inline=evil, manifest=Manifest(rows=1)).table()


class Trap(pa.ExtensionType):
    """What a library that unpickles extension metadata looks like to Arrow."""

    sprung = 0

    def __init__(self) -> None:
        super().__init__(pa.int32(), "sandpool.test.trap")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"boom"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Trap:
        cls.sprung += 1
        return cls()


@pytest.fixture
def trapped() -> Any:
    """A table with the trap as a column, in a list, in a struct and as dictionary values; beside honest columns."""
    pa.register_extension_type(Trap())
    storage = pa.array([1, 2, 3], pa.int32())
    trap = pa.ExtensionArray.from_storage(Trap(), storage)
    table = TABLE.append_column("trap", trap)
    table = table.append_column("list", pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), trap))
    yield table.append_column("struct", pa.StructArray.from_arrays([trap], names=["t"]))
    pa.unregister_extension_type("sandpool.test.trap")


def test_an_extension_type_from_a_volume_runs_no_code(volume: Volume, trapped: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(trapped, sink)
    outcome = _stored(volume, sink.getvalue(), 3)
    Trap.sprung = 0
    pq.read_table(io.BytesIO(sink.getvalue()))
    assert Trap.sprung, "the trap must work, or this test proves nothing"
    Trap.sprung = 0
    table = outcome.table()
    batch = next(results.read_batches(outcome))
    assert Trap.sprung == 0
    for schema in (table.schema, batch.schema):
        assert schema.field("trap").type == pa.int32()
        assert schema.field("u").type == pa.uuid()
        assert schema.field("d").type == pa.duration("us")
    assert table.column("list").to_pylist() == [[1], [2], [3]]
    assert table.column("struct").to_pylist() == [{"t": 1}, {"t": 2}, {"t": 3}]
    assert table.select(["u", "ts", "d", "k"]).equals(TABLE.select(["u", "ts", "d", "k"]))


def test_an_extension_type_in_an_inline_result_runs_no_code(outcome: Outcome, trapped: pa.Table) -> None:
    data = _ipc(trapped)
    Trap.sprung = 0
    table = msgspec.structs.replace(outcome, inline=data).table()
    assert Trap.sprung == 0
    assert table.column("trap").to_pylist() == [1, 2, 3]


def test_text_that_looks_like_an_extension_name_is_left_alone(volume: Volume, outcome: Outcome) -> None:
    table = pa.table({"s": ["ARROW:extension:name", "ARROW:schema", "x"]})
    assert msgspec.structs.replace(outcome, inline=_ipc(table)).table().equals(table)
    assert _outcome(volume, write_small(volume, "acme", "job", "2-b", table, ())).table().equals(table)

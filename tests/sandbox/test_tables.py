"""Results that are tables, in real sandboxes of image `data`: transforms, DuckDB, SQLite, and hostile ones."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sandpool.outcome import Ending
from workers.attempt import Attempt
from workers.images.store import ImageStore
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.jobs.desk import Desk
from workers.sandbox.limits import Limits
from workers.sandbox.task import Input, Query, SandboxTask, decode_task, encode_task
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

FLIGHTS = pa.table({"carrier": ["UA", "AA", "UA"], "delay": [10, -5, 20]})


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """With the same three flights as Parquet, as a DuckDB file and as an SQLite file."""
    volume = open_volume(VolumeSpec(name="results", url=f"file://{tmp_path}/volume"))
    volume.create("acme/j/1-a/part-00000.parquet", parquet(FLIGHTS))
    volume.create("sets/flights/a.parquet", parquet(FLIGHTS.slice(0, 2)))
    volume.create("sets/flights/b.parquet", parquet(FLIGHTS.slice(2)))
    volume.create("sets/airlines.parquet", parquet(pa.table({"carrier": ["UA"], "name": ["United"]})))
    with duckdb.connect(str(tmp_path / "f.duckdb")) as database:
        database.execute(
            "create table flights as select * from (values ('UA', 10), ('AA', -5), ('UA', 20)) t(carrier, delay)"
        )
        database.execute("create view late as select * from flights where delay > 0")
    volume.create("sets/f.duckdb", (tmp_path / "f.duckdb").read_bytes())
    with sqlite3.connect(tmp_path / "f.sqlite") as lite:
        lite.execute("create table flights (carrier text, delay integer)")
        lite.executemany("insert into flights values (?, ?)", [("UA", 10), ("AA", -5), ("UA", 20)])
    lite.close()
    volume.create("sets/f.sqlite", (tmp_path / "f.sqlite").read_bytes())
    return volume


@pytest.fixture
async def desk(short_folder: Path, image_store: ImageStore, data_image: Image, volume: Volume) -> AsyncIterator[Desk]:
    name = short_folder.name.lower().replace("_", "x")
    spec = HostSpec(folder=str(short_folder / "host"), images="", name=name, cpus=8, memory_bytes=4 << 30)
    host = Host(spec, image_store)
    await host.open()
    yield Desk(host, {"results": volume})
    await host.close()


def task(kind: str, attempt_id: str, **changes: Any) -> SandboxTask:
    fields: dict[str, Any] = {
        "tenant": "acme", "job_id": "j1", "attempt_id": attempt_id, "kind": kind, "image": "data",
        "limits": Limits(memory_bytes=1 << 30), "timeout_s": 20.0, "volume": "results", "most_input_bytes": 1 << 30,
        "most_files": 10, "most_files_bytes": 1 << 20, "max_rows": 1000, "max_bytes": 10 << 20,
    }  # fmt: skip
    return decode_task(encode_task(SandboxTask(**{**fields, **changes})))


SOURCES = {
    "folder": (Input("database", "results", "sets/"), {"engine": "duckdb", "path": "database", "is_folder": True}),
    "duckdb": (Input("database/f.db", "results", "sets/f.duckdb"), {"engine": "duckdb", "path": "database/f.db"}),
    "sqlite": (Input("database/f.db", "results", "sets/f.sqlite"), {"engine": "sqlite", "path": "database/f.db"}),
}  # fmt: skip


def query(source: str, sql: str, attempt_id: str, *params: Any, **changes: Any) -> SandboxTask:
    found, how = SOURCES[source]
    kind = "query" if sql else "catalog"
    return task(kind, attempt_id, inputs=(found,), query=Query(sql=sql, params=params, **how), **changes)


def transform(code: str, attempt_id: str, **changes: Any) -> SandboxTask:
    inputs = (Input("table/part-00000.parquet", "results", "acme/j/1-a/part-00000.parquet"),)
    return task("transform", attempt_id, code=code, name="transform.py", inputs=inputs, **changes)


async def rows(attempt: Attempt, volume: Volume) -> list[dict[str, Any]]:
    """Decoded in the test, as a client would: the host never does."""
    (part,) = attempt.manifest.parts
    data = await asyncio.to_thread(volume.get, part.key)
    assert data is not None and hashlib.sha256(data).hexdigest() == part.sha256
    return pq.read_table(io.BytesIO(data)).to_pylist()


async def test_a_transform_makes_the_result_of_the_rows_it_gets(desk: Desk, volume: Volume) -> None:
    code = "print(table.num_rows)\nresult = df.groupby('carrier', as_index=False)['delay'].mean()"
    attempt = await desk.run(transform(code, "1-a"))
    assert attempt.ending is Ending.Succeeded, attempt
    assert await rows(attempt, volume) == [{"carrier": "AA", "delay": -5.0}, {"carrier": "UA", "delay": 15.0}]
    assert attempt.said is not None and attempt.said.stdout == "3\n"
    assert attempt.manifest.declared and attempt.manifest.rows == 2
    assert [(column.name, column.arrow_type) for column in attempt.manifest.columns][1] == ("delay", "double")
    for number, made in enumerate(["table.slice(0, 1)", "[{'a': 1}]", "df['delay']", "{'a': [1, 2]}"]):
        assert (await desk.run(transform(f"result = {made}", f"2-{number}"))).ending is Ending.Succeeded


async def test_a_transform_that_goes_wrong_says_how(desk: Desk) -> None:
    raised = await desk.run(transform("x = 1\nresult = df['nothing']", "1-a"))
    assert (raised.ending, raised.error and raised.error.code) == (Ending.Failed, "code.raised")
    assert raised.said is not None and 'File "transform.py", line 2' in raised.said.stderr
    for number, (code, why) in enumerate({"x = 1": "left no `result`", "result = 5": "leave a table"}.items()):
        attempt = await desk.run(transform(code, f"2-{number}"))
        assert attempt.ending is Ending.Failed and attempt.error is not None and why in attempt.error.message, attempt
    capped = await desk.run(transform("import pandas as pd\nresult = pd.DataFrame({'a': range(5000)})", "3-a"))
    assert (capped.ending, capped.manifest.rows, capped.manifest.partial) == (Ending.OutputCapped, 1000, True)


async def test_code_that_forges_the_result_gives_opaque_bytes_at_most(desk: Desk, volume: Volume) -> None:
    """Ours and the tenant's code share a process: what it says is bounded and checked for its form, never believed."""
    forge = (
        "import os, json\n_real = os.makedirs\nresult = table\n"
        "def write_result(*_):\n    os.makedirs('/home/sandpool/.sandpool', exist_ok=True)\n"
        "    open('/home/sandpool/.sandpool/result.parquet', 'wb').write({data})\n"
        "    open('/home/sandpool/.sandpool/result.json', 'w').write({said})\n"
        "import sys\nfor name, module in list(sys.modules.items()):\n"
        "    if hasattr(module, 'write_result'):\n        module.write_result = write_result\n"
        "import types\n_exec = exec\ndef _fake(code, space=None, *a):\n    _exec(code, space, *a)\n"
        "    if space and 'write_result' in space:\n        space['write_result'] = write_result\n"
        "import builtins\nbuiltins.exec = _fake\n"
    )
    good = '\'{"columns": [], "rows": 1, "partial": false}\''
    for number, (data, said, code) in enumerate(
        [
            ("b'PAR1' + bytes(100)", good, "result.invalid"),
            ("b'PAR1' + bytes(64) + b'PAR1'", good, None),
            ("b'PAR1' + bytes(64) + b'PAR1'", "'nonsense'", "result.invalid"),
            ("b'PAR1' + bytes(64) + b'PAR1'", '\'{"columns": [], "rows": -1, "partial": false}\'', "result.invalid"),
        ]
    ):
        attempt = await desk.run(transform(forge.format(data=data, said=said), f"1-{number}"))
        assert (attempt.error and attempt.error.code) == code, attempt
        assert attempt.manifest.declared is (code is None)


@pytest.mark.parametrize("source", ["folder", "duckdb", "sqlite"])
async def test_an_engine_inside_answers_a_statement(desk: Desk, volume: Volume, source: str) -> None:
    sql = "select carrier, sum(delay) as delay from flights where delay > $1 group by carrier order by carrier"
    attempt = await desk.run(query(source, sql, "1-a", 0))
    assert attempt.ending is Ending.Succeeded, attempt
    assert await rows(attempt, volume) == [{"carrier": "UA", "delay": 30}]
    capped = await desk.run(query(source, "select * from flights", "2-b", max_rows=2))
    assert (capped.ending, capped.manifest.rows) == (Ending.OutputCapped, 2)
    wrong = await desk.run(query(source, "select nothing from flights", "3-c"))
    assert wrong.ending is Ending.Failed and wrong.error is not None and "nothing" in wrong.error.message
    catalog = await desk.run(query(source, "", "4-d"))
    tables = {entry["name"]: entry for entry in msgspec.json.decode(catalog.inline)}
    assert [column[0] for column in tables["flights"]["columns"]] == ["carrier", "delay"]
    assert source != "folder" or tables.keys() == {"flights", "airlines"}


HOSTILE = [
    ("folder", "select * from read_text('/etc/passwd')"), ("folder", "select * from read_csv('/proc/self/environ')"),
    ("folder", "select * from glob('/*')"), ("folder", "copy flights to '/tmp/x.csv'"),
    ("folder", "attach '/tmp/x.db'"), ("folder", "install httpfs"), ("folder", "load 'x'"),
    ("folder", "set enable_external_access = true"), ("folder", "select * from read_parquet('https://example.com/x')"),
    ("duckdb", "create table x (a int)"), ("duckdb", "select * from read_text('/etc/passwd')"),
    ("duckdb", "insert into flights values ('X', 1)"), ("sqlite", "attach '/tmp/x' as x"),
    ("sqlite", "create table x (a)"), ("sqlite", "pragma writable_schema = on"),
    ("sqlite", "select load_extension('x')"), ("sqlite", "select * from sqlite_master; drop table flights"),
]  # fmt: skip


async def test_engines_are_locked_even_without_the_policy(desk: Desk) -> None:
    """The policy refuses all of these before; this is the wall behind it."""
    for number, (source, sql) in enumerate(HOSTILE):
        attempt = await desk.run(query(source, sql, f"{number}-h"))
        assert attempt.ending is Ending.Failed, (sql, attempt)


async def test_a_file_that_is_no_database_fails_and_reaches_nobody(desk: Desk, volume: Volume) -> None:
    await volume.acreate("sets2/bad.duckdb", b"\xff" * 8192)
    for engine in ("duckdb", "sqlite"):
        found = Input("database/bad.duckdb", "results", "sets2/bad.duckdb")
        asked = Query(engine=engine, sql="select 1 from flights", path="database/bad.duckdb")
        attempt = await desk.run(task("query", f"1-{engine}", inputs=(found,), query=asked))
        assert attempt.ending is Ending.Failed, attempt

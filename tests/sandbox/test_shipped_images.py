"""The images that are shipped: built twice they are the same, and what each is for really works in a sandbox of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sandbox.live import Mounts, start_live
from workers.images import tree
from workers.images.build import build
from workers.images.recipe import load
from workers.images.store import ImageStore
from workers.sandbox.bundle import Command
from workers.sandbox.image import Image
from workers.sandbox.limits import GIB, MIB, Limits
from workers.sandbox.sandboxes import Sandboxes

ROOT = Path(__file__).resolve().parents[2]
DATA = """
import sqlite3, numpy, pandas, polars, pyarrow, pyarrow.parquet, duckdb, sqlalchemy, psycopg
import matplotlib.pyplot as plt
frame = pandas.DataFrame({"carrier": ["UA", "B6", "UA"], "delay": numpy.array([1.5, 2.5, 3.5])})
pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), "delays.parquet")
by_duckdb = duckdb.sql("select carrier, avg(delay) a from 'delays.parquet' group by 1 order by 1").fetchall()
by_polars = polars.read_parquet("delays.parquet").group_by("carrier").agg(polars.col("delay").mean()).sort("carrier")
assert by_duckdb == by_polars.rows() == [("B6", 2.5), ("UA", 2.5)], (by_duckdb, by_polars)
engine = sqlalchemy.create_engine("sqlite://")
frame.to_sql("delays", engine, index=False)
with engine.connect() as connection:
    assert connection.execute(sqlalchemy.text("select count(*) from delays")).scalar() == 3
try:
    psycopg.connect("postgresql://user@192.0.2.1/db", connect_timeout=2)
except psycopg.OperationalError:
    pass
frame.plot.bar(x="carrier", y="delay", title="Grüße")
frame
"""


@pytest.mark.timeout(300)
def test_base_built_again_from_nothing_is_the_same(base_image: Image, image_store: ImageStore, tmp_path: Path) -> None:
    recipe = load(ROOT / "images" / "base")
    again = ImageStore(tmp_path / "images")
    second = build(again, recipe, environment=os.environ)
    first = image_store.find(f"base@{base_image.digest}")
    if first.debian_packages != second.debian_packages:  # the mirror has moved on since: build what it has now
        tree.remove(tmp_path / "images")
        first, second = second, build(again, recipe, environment=os.environ)
    assert (first.digest, first.content, first.size_bytes) == (second.digest, second.content, second.size_bytes)


async def test_data_runs_each_of_its_libraries_and_shows_figure_and_table(
    sandboxes: Sandboxes, data_image: Image, mounts: Mounts
) -> None:
    limits = Limits(memory_bytes=1 * GIB, cpus=2.0)
    sandbox, session = await start_live(sandboxes, data_image, limits, mounts("data"))
    execution = await session.run_code(DATA, timeout_s=60)
    assert execution.error is None, execution.error
    value = execution.value or {}
    assert {"text/plain", "text/html", "application/vnd.apache.arrow.stream"} <= set(value)
    assert b"<table" in value["text/html"]
    assert [set(bundle) for bundle in execution.displays] == [{"image/png"}]
    assert execution.displays[0]["image/png"].startswith(b"\x89PNG\r\n")
    polars = await session.run_code("by_polars")
    assert "application/vnd.apache.arrow.stream" in (polars.value or {})
    await session.close()
    await sandboxes.destroy(sandbox.id)


@pytest.mark.timeout(300)
async def test_node_runs_javascript_and_the_runner(sandboxes: Sandboxes, node_image: Image, mounts: Mounts) -> None:
    limits = Limits(memory_bytes=512 * MIB, cpus=2.0)
    sandbox, session = await start_live(sandboxes, node_image, limits, mounts("node"))
    await session.write_file(
        "sum.js", b"let n = 0; process.stdin.on('data', d => n += d.length).on('end', () => console.log(n))"
    )
    execution = await session.run_command(["/usr/bin/node", "sum.js"], stdin=b"x" * 100_000)
    assert (execution.code, execution.stdout) == (0, b"100000\n")
    assert (await session.run_code("1 + 1")).text == "2"
    direct = await sandboxes.execute(
        sandbox.id, Command(argv=("/usr/bin/node", "-p", "[1,2,3].map(x => x * 2).join()"))
    )
    assert direct.stdout == b"2,4,6\n"
    await session.close()
    await sandboxes.destroy(sandbox.id)

"""Databases that are files of a volume, inside real sandboxes: whole and read-only where their policy hides nothing,
not at all where it hides something."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.app import open_volumes, parts_of
from cluster.settings import Settings, load
from sandpool import AsyncClient, CommandJob, PythonJob, SqlJob
from sandpool.outcome import Ending
from tests.sandbox.conftest import IMAGES
from tests.sandbox.embedded import CONFIG, embedded_client
from workers.images.store import ImageStore
from workers.sandbox.errors import SnapshotUnusable
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.jobs.errors import InputMissing, InputTooLarge
from workers.sandbox.kept_files import Brought
from workers.sandbox.limits import Limits
from workers.sandbox.task import DatabaseFile, Input
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

pytestmark = pytest.mark.may_block("files are made and looked at between the steps")

MORE = """
[databases.lite]
engine = "sqlite"
source = "results:shared/f.sqlite"
policy = "all.toml"
[databases.hidden]
engine = "sqlite"
source = "results:shared/f.sqlite"
policy = "one.toml"
[databases.folder]
engine = "duckdb"
source = "results:sets/"
policy = "all.toml"
[tenants.acme]
databases = ["lite", "hidden", "folder"]
"""
SMALL = Limits(memory_bytes=256 << 20, cpus=0.5, wall_s=30, output_bytes=100_000)


def sqlite_file(place: Path, rows: int = 3) -> bytes:
    with sqlite3.connect(place / "f.sqlite") as lite:
        lite.execute("create table if not exists flights (carrier text, delay integer)")
        lite.executemany("insert into flights values (?, ?)", [("UA", number) for number in range(rows)])
    lite.close()
    return (place / "f.sqlite").read_bytes()


@pytest.fixture
def settings(short_folder: Path, base_image: Image, data_image: Image) -> Settings:
    path = short_folder / "sandpool.toml"
    path.write_text(CONFIG.format(folder=short_folder, images=IMAGES).partition("[tenants.acme]")[0] + MORE)
    (short_folder / "policy.toml").write_text('tables = "all"')
    (short_folder / "all.toml").write_text('tables = "all"')
    (short_folder / "one.toml").write_text("[tables.'*']\n[tables.flights]\nfilter = \"carrier = 'AA'\"")
    return load(path)


@pytest.fixture
async def client(settings: Settings, short_folder: Path) -> AsyncIterator[AsyncClient]:
    volumes = open_volumes(parts_of(settings).volumes)
    volumes["results"].create("shared/f.sqlite", sqlite_file(short_folder))
    sink = io.BytesIO()
    pq.write_table(pa.table({"carrier": ["UA", "AA"], "delay": [10, -5]}), sink)
    for key in ("sets/flights/a.parquet", "sets/airlines.parquet", "sets/deep/x/y.parquet"):
        volumes["results"].create(key, sink.getvalue())
    volumes["results"].create("sets/private.txt", b"no table")
    async with embedded_client(settings, volumes) as client:
        yield client


FILES = """
import os, sandpool, sqlite3
print(sandpool.databases(), sandpool.path("lite"), sandpool.path("folder"))
print(sandpool.query("lite", "select count(*) n, max(delay) m from flights where delay >= $1", [1]).to_pylist())
print(sandpool.query("folder", "select carrier, sum(delay) s from flights group by 1 order by 1").to_pylist())
print(sorted(os.listdir(sandpool.path("folder"))))
own = sqlite3.connect(f"file:{sandpool.path('lite')}?mode=ro", uri=True)
print(own.execute("select count(*) from flights").fetchone())
for attempt in (lambda: sandpool.query("lite", "delete from flights"), lambda: open(sandpool.path("lite"), "r+b"),
                lambda: sandpool.query("lite", "select * from nowhere"), lambda: sandpool.query("hidden", "select 1")):
    try:
        print(attempt())
    except Exception as error:
        print(type(error).__name__)
"""


async def test_code_has_the_files_of_its_databases_read_only_and_asks_them(client: AsyncClient) -> None:
    job = PythonJob(code=FILES, databases=("lite", "folder"), priority="interactive", timeout_s=60)
    outcome = await (await client.submit(job)).outcome(timeout=90)
    assert outcome.ending is Ending.Succeeded, (outcome.error, outcome.stderr)
    assert outcome.stdout.splitlines() == [
        "['lite', 'folder'] /in/databases/lite/f.sqlite /in/databases/folder",
        "[{'n': 2, 'm': 2}]",
        "[{'carrier': 'AA', 's': Decimal('-5')}, {'carrier': 'UA', 's': Decimal('10')}]",
        "['airlines.parquet', 'flights']",
        "(3,)",
        "QueryError", "PermissionError", "QueryError", "LookupError",
    ]  # fmt: skip
    text = "import sandpool; print(sandpool.query('lite', 'select count(*) n from flights'))"
    argv = ("/usr/bin/python3", "-c", text)
    ran = await (await client.submit(CommandJob(argv=argv, image="base", databases=("lite",)))).outcome(timeout=60)
    assert (ran.ending, ran.stdout) == (Ending.Succeeded, "[{'n': 3}]\n"), ran.stderr


async def test_a_file_of_which_its_policy_hides_something_is_refused_with_what_to_do_instead(
    client: AsyncClient,
) -> None:
    for job in (
        PythonJob(code="1", databases=("lite", "hidden")),
        CommandJob(argv=("true",), databases=("hidden",)),
    ):
        outcome = await (await client.submit(job)).outcome(timeout=30)
        assert outcome.ending is Ending.Denied and outcome.error is not None
        assert outcome.error.code == "database.sealed"
        assert "restricts the table flights" in outcome.error.message and "SqlJob" in outcome.error.hint
    instead = SqlJob(database="hidden", sql="select * from flights", transform="result = df.assign(seen=True)")
    assert (await (await client.submit(instead)).outcome(timeout=90)).manifest.rows == 0


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    volume = open_volume(VolumeSpec(name="sets", url=f"file://{tmp_path}/volume"))
    volume.create("f.sqlite", sqlite_file(tmp_path))
    return volume


def lite(volume: Volume, key: str = "f.sqlite", most_bytes: int = 1 << 20) -> Brought:
    file = DatabaseFile("lite", "sqlite", Input("databases/lite/f.sqlite", "sets", key))
    return Brought((file,), {"sets": volume}, most_bytes)


OPEN = """
import sandpool, sqlite3
mine = sqlite3.connect(f"file:{sandpool.path('lite')}?mode=ro&immutable=1", uri=True)
rows = mine.execute("select carrier from flights")
rows.fetchone()
"""
GOES_ON = "len(rows.fetchall()), mine.execute('select count(*) from flights').fetchone()[0]"
ASK = "__import__('sandpool').query('lite', 'select count(*) n from flights')"


async def test_a_kept_sandbox_keeps_the_files_that_it_had_open_through_pause_and_fork(
    host: Host, volume: Volume, tmp_path: Path, short_folder: Path
) -> None:
    kept, place = host.kept, short_folder / "host" / "files"

    async def said(sandbox_id: str, code: str) -> str | None:
        ran = await kept.run_code("acme", sandbox_id, code)
        assert ran.ending is Ending.Succeeded, ran.error
        return ran.text

    made = await kept.create("acme", limits=SMALL, files=lite(volume))
    assert made.databases == ("lite",)
    await said(made.id, OPEN)
    volume.delete(["f.sqlite"])
    volume.create("f.sqlite", sqlite_file(tmp_path, rows=5000))  # another one by now
    await kept.pause("acme", made.id)
    assert [entry.name for entry in place.iterdir()] == [made.id]
    (copy,) = await kept.fork("acme", made.id)
    assert copy.databases == ("lite",)
    await kept.destroy("acme", made.id)
    assert await said(copy.id, GOES_ON) == "(2, 3)"
    assert await said(copy.id, ASK) == "[{'n': 3}]"
    (twin,) = await kept.fork("acme", copy.id)
    assert await said(twin.id, ASK) == "[{'n': 3}]"
    await kept.destroy("acme", copy.id)
    await kept.destroy("acme", twin.id)
    assert list(place.iterdir()) == []


async def test_a_snapshot_brings_no_file_of_a_database_but_those_that_are_named_anew(
    host: Host, volume: Volume
) -> None:
    kept = host.kept
    made = await kept.create("acme", limits=SMALL, files=lite(volume))
    await kept.run_code("acme", made.id, "import sandpool, os")
    saved = await kept.snapshot("acme", made.id)
    bare = await kept.create("acme", snapshot=saved.id)
    assert bare.databases == ()
    assert (await kept.run_code("acme", bare.id, "os.listdir('/in')")).text == "[]"
    await kept.run_code("acme", made.id, OPEN)
    held = await kept.snapshot("acme", made.id)
    with pytest.raises(SnapshotUnusable) as refused:
        await kept.create("acme", snapshot=held.id)
    assert "name those databases" in refused.value.hint
    again = await kept.create("acme", snapshot=held.id, files=lite(volume))
    assert (await kept.run_code("acme", again.id, GOES_ON)).text == "(2, 3)"


async def test_a_file_that_is_missing_or_too_large_makes_no_sandbox_and_leaves_nothing(
    host: Host, volume: Volume, short_folder: Path
) -> None:
    for wanted, error in ((lite(volume, "gone"), InputMissing), (lite(volume, most_bytes=100), InputTooLarge)):
        with pytest.raises(error):
            await host.kept.create("acme", limits=SMALL, files=wanted)
    assert (host.kept.list_sandboxes("acme"), host.view().sandboxes) == ([], 0)
    assert list((short_folder / "host" / "files").iterdir()) == []


async def test_files_of_sandboxes_that_ended_with_their_host_are_removed_when_it_opens_again(
    image_store: ImageStore, base_image: Image, short_folder: Path, volume: Volume
) -> None:
    spec = HostSpec(folder=str(short_folder / "host"), images="", name=short_folder.name.lower().replace("_", "x"))
    host = Host(spec, image_store)
    await host.open()
    ran = await host.kept.create("acme", limits=SMALL, files=lite(volume))
    paused = await host.kept.create("acme", limits=SMALL, files=lite(volume))
    await host.kept.run_code("acme", paused.id, OPEN)
    await host.kept.pause("acme", paused.id)
    await host.close()
    host = Host(spec, image_store)
    await host.open()
    try:
        names = [entry.name for entry in (short_folder / "host" / "files").iterdir()]
        assert names == [paused.id] and ran.id not in names
        assert (await host.kept.run_code("acme", paused.id, GOES_ON)).text == "(2, 3)"
    finally:
        await host.close()

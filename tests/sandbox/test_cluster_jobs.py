"""Code jobs through the whole embedded cluster, on real sandboxes: client, queue, scheduler, host, volume, outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.app import open_volumes, parts_of
from cluster.settings import Settings, load
from sandpool import AsyncClient, CommandJob, Limits, PythonJob, SqlJob
from sandpool.outcome import Ending
from tests.sandbox.conftest import IMAGES
from tests.sandbox.embedded import CONFIG, embedded_client
from workers.sandbox.image import Image
from workers.volumes.store import Volume

POLICY = """
dialect = "duckdb"
[tables.flights]
filter = "carrier = 'UA'"
"""


@pytest.fixture
def settings(short_folder: Path, base_image: Image) -> Settings:
    path = short_folder / "sandpool.toml"
    path.write_text(CONFIG.format(folder=short_folder, images=IMAGES))
    (short_folder / "policy.toml").write_text(POLICY)
    return load(path)


@pytest.fixture
def volumes(settings: Settings) -> dict[str, Volume]:
    opened = open_volumes(parts_of(settings).volumes)
    flights = pa.BufferOutputStream()
    pq.write_table(pa.table({"carrier": ["UA", "AA", "UA"], "delay": [10, -5, 20]}), flights)
    opened["results"].create("acme/sets/flights.parquet", flights.getvalue().to_pybytes())
    return opened


@pytest.fixture
async def client(settings: Settings, volumes: dict[str, Volume]) -> AsyncIterator[AsyncClient]:
    async with embedded_client(settings, volumes) as client:
        yield client


async def test_code_runs_from_client_to_outcome_and_its_files_are_read_back(client: AsyncClient) -> None:
    job = PythonJob(
        code="open('a.txt', 'w').write('kept'); print('ran'); display({'a': 1}); 40 + 2",
        image="base",
        outputs=("*.txt",),
        priority="interactive",
    )
    outcome = await (await client.submit(job)).outcome(timeout=60)
    assert outcome.ending is Ending.Succeeded, outcome.error
    assert (outcome.stdout, outcome.value) == ("ran\n", "42")
    assert await asyncio.to_thread(outcome.read_file, "a.txt") == b"kept"
    assert [display.type for display in outcome.manifest.displays] == ["text/plain"]
    assert outcome.usage.cpu_s > 0
    second = PythonJob(
        code="print(open('/in/a').read())", image="base", inputs={"a": f"results:{outcome.manifest.files[0].key}"}
    )
    assert (await (await client.submit(second)).outcome(timeout=60)).stdout == "kept\n"


async def test_what_code_writes_is_heard_while_it_runs(client: AsyncClient) -> None:
    code = "import os, time\nprint('begun')\nwhile not os.path.exists('never'): time.sleep(0.01)"
    handle = await client.submit(PythonJob(code=code, image="base", priority="interactive"))
    async with asyncio.timeout(60):
        while not (heard := await handle.output()).stdout:
            await asyncio.sleep(0.02)
    assert (heard.stdout, heard.attempt, (await handle.output(stdout_from=6)).stdout) == (b"begun\n", 1, b"")
    assert (await handle.cancel()).state == "ended"
    assert (await handle.outcome(timeout=20)).stdout == "begun\n"


async def test_many_jobs_at_once_each_get_a_sandbox_of_their_own(client: AsyncClient) -> None:
    jobs = [
        CommandJob(argv=("/bin/sh", "-c", f"ls /tmp; echo {n} > /tmp/mark; echo {n}"), image="base",
                   limits=Limits(memory_bytes=256 << 20))
        for n in range(12)
    ]  # fmt: skip
    said = []
    async for outcome in client.run_many(jobs, timeout=120):
        assert outcome.ending is Ending.Succeeded, outcome.error
        said.append(outcome.stdout)
    assert sorted(said) == sorted(f"{n}\n" for n in range(12))


async def test_a_job_that_needs_the_whole_host_starts_when_the_one_before_it_is_cleaned_away(
    client: AsyncClient,
) -> None:
    whole = Limits(memory_bytes=4 << 30)
    jobs = [CommandJob(argv=("/bin/true",), image="base", limits=whole) for _ in range(4)]
    async for outcome in client.run_many(jobs, timeout=60):
        assert outcome.ending is Ending.Succeeded, outcome.error


async def test_what_this_cluster_lacks_is_answered_not_waited_for(client: AsyncClient) -> None:
    outcome = await (await client.submit(PythonJob(code="1", image="nothing"))).outcome(timeout=20)
    assert outcome.error is not None
    assert (outcome.ending, outcome.error.code) == (Ending.Failed, "placement.never")
    assert "nothing" in outcome.error.message


async def test_a_statement_on_an_engine_inside_passes_the_policy_and_a_transform(
    client: AsyncClient, data_image: Image
) -> None:
    sql = "select carrier, sum(delay) as delay from flights where delay > $1 group by carrier"
    outcome = await (await client.submit(SqlJob(database="sets", sql=sql, params=(-100,)))).outcome(timeout=90)
    assert outcome.ending is Ending.Succeeded, outcome.error
    assert outcome.verdict is not None and "carrier" in outcome.verdict.sql
    table = await asyncio.to_thread(outcome.table)
    assert table.to_pylist() == [{"carrier": "UA", "delay": 30}], "the policy's filter holds"
    job = SqlJob(database="sets", sql="select * from flights", transform="result = df.assign(delay=df.delay * 2)")
    transformed = await (await client.submit(job)).outcome(timeout=90)
    table = await asyncio.to_thread(transformed.table)
    assert table.column("delay").to_pylist() == [20, 40]
    for hostile in ("select * from read_text('/etc/passwd')", "drop table flights", "select * from planes"):
        denied = await (await client.submit(SqlJob(database="sets", sql=hostile))).outcome(timeout=60)
        assert denied.ending is Ending.Denied, (hostile, denied)

"""A database inside a real sandbox: reached without a credential, judged statement by statement, gone with the job."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cluster.local.postgres import PostgresServer
from sandpool.outcome import Ending
from tests.support.pools import make_role
from workers.attempt import Attempt
from workers.images.store import ImageStore
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.jobs.desk import Desk
from workers.sandbox.limits import Limits
from workers.sandbox.task import SandboxTask
from workers.sql.broker.reception import Reception
from workers.sql.policy.document import load_policy
from workers.sql.pool import Pool
from workers.sql.spec import PoolSpec, SessionSpec
from workers.volumes.spec import VolumeSpec
from workers.volumes.store import Volume, open_volume

pytestmark = pytest.mark.may_block("its fixture connects and makes folders; the trail is read from a file volume")

POLICY = 'dialect = "postgres"\ntables = ["flights", "airlines"]\n'


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return open_volume(VolumeSpec(name="results", url=f"file://{tmp_path}/volume"))


@pytest.fixture
async def desk(
    short_folder: Path,
    image_store: ImageStore,
    base_image: Image,
    volume: Volume,
    postgres: PostgresServer,
    flights_dsn: str,
) -> AsyncIterator[Desk]:
    name = short_folder.name.lower().replace("_", "x")
    host_spec = HostSpec(folder=str(short_folder / "host"), images="", name=name, cpus=8, memory_bytes=4 << 30)
    host = Host(host_spec, image_store)
    await host.open()
    dsn = make_role(postgres, "flights", {"public.flights": (), "public.airlines": ()}, role="inside")
    session = SessionSpec(policy=load_policy(POLICY).model_dump_json(by_alias=True), doors=host_spec.doors)
    spec = PoolSpec(database="flights", dsn=dsn, budget=4, session=session)
    pool = Pool(spec, {"results": volume})
    await pool.start()
    reception = Reception(pool, spec, {"results": volume})
    await reception.start()
    yield Desk(host, {"results": volume}, Path(host_spec.doors))
    await host.close()
    await reception.close()
    await pool.close()


@pytest.fixture
def task(limits: Limits) -> Any:
    def make(code: str, **changes: Any) -> SandboxTask:
        fields: dict[str, Any] = {
            "tenant": "acme", "job_id": "j1", "attempt_id": "1-a", "kind": "code", "image": "base", "limits": limits,
            "timeout_s": 30.0, "volume": "results", "code": code, "databases": ("flights",),
            "most_input_bytes": 1 << 20, "most_files": 10, "most_files_bytes": 1 << 20,
        }  # fmt: skip
        return SandboxTask(**{**fields, **changes})

    return make


def said(attempt: Attempt) -> str:
    assert attempt.said is not None
    return attempt.said.stdout


async def test_code_queries_a_database_without_a_credential_and_its_statements_are_on_record(
    desk: Desk, task: Any, volume: Volume, postgres: PostgresServer
) -> None:
    code = """
import os, socket, struct, sandpool
print(sandpool.databases(), sandpool.query("flights", "select count(*) n from flights where carrier = $1", ["UA"]))
hostile = "drop table flights", "select * from pg_authid", "set role postgres", "select pg_read_file('/etc/passwd')"
for text in hostile:
    try:
        sandpool.query("flights", text)
    except sandpool.QueryError as error:
        print(error.sqlstate, end=" ")
print()
client = socket.create_connection(("127.0.0.1", 5432))
body = struct.pack(">I", 3 << 16) + b"user\\0x\\0database\\0flights\\0\\0"
client.sendall(struct.pack(">I", len(body) + 4) + body)
print(client.recv(9) == b"R\\0\\0\\0\\x08\\0\\0\\0\\0")
print(sorted(name for name in os.environ if name.startswith("PG") or name == "DATABASE_URL"))
print(os.environ["DATABASE_URL"], open("/proc/self/environ").read().count("password"))
"""
    attempt = await desk.run(task(code))
    assert attempt.ending is Ending.Succeeded, attempt.error
    lines = said(attempt).splitlines()
    assert lines[0] == "['flights'] [{'n': 58665}]"
    assert lines[1].split() == ["42501"] * 4 or all(len(state) == 5 for state in lines[1].split())
    assert lines[2] == "True"
    assert lines[3] == "['DATABASE_URL', 'PGDATABASE', 'PGHOST', 'PGPORT', 'PGSSLMODE', 'PGUSER']"
    assert lines[4] == "postgresql://sandpool@127.0.0.1:5432/flights?sslmode=disable 0"
    trail = [meta.key for meta in volume.list("acme/j1/") if meta.key.endswith(".jsonl")]
    assert trail == ["acme/j1/audit-flights-1-a-00000.jsonl"]
    records = [json.loads(line) for line in (volume.get(trail[0]) or b"").splitlines()]
    assert [record.get("rows") for record in records if record.get("tag") == "SELECT 1"] == [1]
    assert [record["sqlstate"] for record in records if record.get("rule")] and "sum" in records[-1]


async def test_a_job_without_the_database_has_no_way_to_it(desk: Desk, task: Any) -> None:
    code = """
import os, socket
print(os.path.exists("/run/sandpool/pg"), "PGHOST" in os.environ)
try:
    socket.create_connection(("127.0.0.1", 5432), 2)
except OSError as error:
    print(type(error).__name__)
"""
    attempt = await desk.run(task(code, databases=(), attempt_id="1-b"))
    assert said(attempt) == "False False\nConnectionRefusedError\n"


async def test_a_database_that_no_pool_of_this_node_serves_ends_the_job_with_its_reason(desk: Desk, task: Any) -> None:
    attempt = await desk.run(task("pass", databases=("elsewhere",), attempt_id="1-c"))
    assert attempt.ending is Ending.Failed
    assert attempt.error is not None and "elsewhere" in attempt.error.message

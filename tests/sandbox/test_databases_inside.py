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
from workers.sandbox.errors import CheckpointRefused, DatabaseUnreachable
from workers.sandbox.host import Host
from workers.sandbox.hosting import HostSpec
from workers.sandbox.image import Image
from workers.sandbox.jobs.desk import Desk
from workers.sandbox.limits import Limits
from workers.sandbox.task import SandboxTask
from workers.sandbox.transitions import State
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
async def house(
    short_folder: Path,
    image_store: ImageStore,
    base_image: Image,
    volume: Volume,
    postgres: PostgresServer,
    flights_dsn: str,
) -> AsyncIterator[tuple[Host, Pool]]:
    """A host, and on the same node a pool that opens doors to its database."""
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
    yield host, pool
    await host.close()
    await reception.close()
    await pool.close()


@pytest.fixture
def desk(house: tuple[Host, Pool], volume: Volume) -> Desk:
    host, _ = house
    return Desk(host, {"results": volume}, Path(host.spec.doors))


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


CLIENT = """
import os, socket, struct
class Client:
    def __init__(self):
        self.socket = socket.create_connection((os.environ["PGHOST"], int(os.environ["PGPORT"])), 10)
        body = struct.pack(">I", 3 << 16) + b"user\\0x\\0database\\0flights\\0\\0"
        self.socket.sendall(struct.pack(">I", len(body) + 4) + body)
        self.rest = b""
        self.read()
    def ask(self, sql):
        body = sql.encode() + b"\\0"
        self.socket.sendall(b"Q" + struct.pack(">I", len(body) + 4) + body)
        return self.read()
    def read(self):
        "Types of the messages up to ReadyForQuery or the end, and the SQLSTATE of an error."
        kinds, state = "", ""
        while True:
            while len(self.rest) < 5 or len(self.rest) < struct.unpack(">I", self.rest[1:5])[0] + 1:
                try:
                    data = self.socket.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    return kinds + "-", state
                self.rest += data
            size = struct.unpack(">I", self.rest[1:5])[0] + 1
            frame, self.rest = self.rest[:size], self.rest[size:]
            kinds += chr(frame[0])
            if frame[:1] == b"E":
                state = frame.split(b"\\0C")[1][:5].decode()
            if frame[:1] == b"Z":
                return kinds, frame[5:].decode() or state
held = Client()
held.ask("begin"), held.ask("select count(*) from airlines")
"""
SMALL = Limits(memory_bytes=256 << 20, cpus=0.5, wall_s=30, output_bytes=100_000)


async def test_a_kept_sandbox_holds_no_connection_while_it_is_paused_and_finds_its_database_again(
    house: tuple[Host, Pool], volume: Volume
) -> None:
    host, pool = house
    kept = host.kept

    async def said(sandbox_id: str, code: str) -> str | None:
        ran = await kept.run_code("acme", sandbox_id, code)
        assert ran.ending is Ending.Succeeded, ran
        return ran.text

    def lent() -> int:
        return pool.lender.open_count - pool.lender.idle_count

    made = await kept.create("acme", limits=SMALL, databases=("flights",), volume="results")
    assert made.databases == ("flights",)
    assert await said(made.id, CLIENT + "held.ask('select 1')") == "('TDCZ', 'T')"
    assert lent() == 1
    name = await said(made.id, "os.environ['PGHOST'], os.environ['DATABASE_URL']")
    await kept.pause("acme", made.id)
    assert lent() == 0
    await kept.resume("acme", made.id)
    assert await said(made.id, "held.read()") == "('E-', '57P01')"
    assert await said(made.id, "other = Client(); other.ask('select 1')") == "('TDCZ', 'I')"
    assert await said(made.id, "os.environ['PGHOST'], os.environ['DATABASE_URL']") == name
    query = "import sandpool; sandpool.query('flights', 'select count(*) n from airlines')"
    assert await said(made.id, query) == "[{'n': 16}]"
    (copy,) = await kept.fork("acme", made.id)
    for sandbox_id in (copy.id, made.id):
        assert await said(sandbox_id, "other.read()[1], Client().ask('select 1')") == "('57P01', ('TDCZ', 'I'))"
        assert await said(sandbox_id, query) == "[{'n': 16}]"
    command = await kept.run_command("acme", copy.id, ["/usr/bin/python3", "-c", query + "\nprint('by a command')"])
    assert command.stdout == b"by a command\n"
    await kept.destroy("acme", copy.id)
    await kept.destroy("acme", made.id)
    assert lent() == 0
    owners = {meta.key.split("/")[1] for meta in volume.list("acme/") if meta.key.endswith(".jsonl")}
    assert owners == {made.id, copy.id}


async def test_what_starts_from_a_snapshot_reaches_only_the_databases_that_it_was_given(
    house: tuple[Host, Pool],
) -> None:
    kept = house[0].kept
    made = await kept.create("acme", limits=SMALL, databases=("flights",), volume="results")
    assert (await kept.run_code("acme", made.id, CLIENT)).ending is Ending.Succeeded
    saved = await kept.snapshot("acme", made.id)
    other = await kept.create("acme", snapshot=saved.id)
    assert other.databases == ()
    tried = "try:\n    found = Client().ask('select 1')\nexcept OSError:\n    found = '-', ''\nfound"
    assert (await kept.run_code("acme", other.id, tried)).text == "('-', '')"
    again = await kept.create("acme", snapshot=saved.id, databases=("flights",), volume="results")
    assert (await kept.run_code("acme", again.id, "Client().ask('select 1')")).text == "('TDCZ', 'I')"


async def test_a_kept_sandbox_without_a_pool_on_its_node_is_not_made(house: tuple[Host, Pool]) -> None:
    host, _ = house
    with pytest.raises(DatabaseUnreachable):
        await host.kept.create("acme", limits=SMALL, databases=("elsewhere",), volume="results")
    assert (host.kept.list_sandboxes("acme"), host.view().paused) == ([], 0)


async def test_a_connection_past_the_loopback_keeps_a_sandbox_from_being_saved_until_it_is_closed(
    house: tuple[Host, Pool],
) -> None:
    kept = house[0].kept
    made = await kept.create("acme", limits=SMALL, databases=("flights",), volume="results")
    code = """
import socket, struct
direct = socket.socket(socket.AF_UNIX)
direct.connect("/run/sandpool/pg/flights/.s.PGSQL.5432")
body = struct.pack(">I", 3 << 16) + b"user\\0x\\0\\0"
direct.sendall(struct.pack(">I", len(body) + 4) + body)
direct.recv(65536)[:1]
"""
    assert (await kept.run_code("acme", made.id, code)).text == "b'R'"
    with pytest.raises(CheckpointRefused):
        await kept.pause("acme", made.id)
    assert (await kept.run_code("acme", made.id, CLIENT + "held.ask('select 1')")).text == "('TDCZ', 'T')"
    told = "b'57P01' in direct.recv(65536), direct.close()"
    assert (await kept.run_code("acme", made.id, told)).text == "(True, None)"
    assert (await kept.pause("acme", made.id)).state is State.Paused
